"""`manifest.json`: the small document that says what a data set is."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import xxhash

from shardkit.codecs.header import MAX_PIXELS
from shardkit.errors import ManifestError
from shardkit.manifest.limits import MAX_MANIFEST_BYTES
from shardkit.redact import brief

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FORMAT_VERSION", "MANIFEST_NAME", "FieldInfo", "Manifest", "SplitInfo"]

FORMAT_VERSION = "2.0"
MANIFEST_NAME = "manifest.json"
_HEX_128 = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DTYPE = "uint8"  # of all arrays that are stored as they are


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitInfo:
    """How large a split is.

    Attributes:
        num_samples: Samples in it.
        num_bytes: Bytes of its shards.
        num_shards: Shards in it.
    """

    num_samples: int
    num_bytes: int
    num_shards: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldInfo:
    """What a field of every sample is.

    Attributes:
        kind: ``"image"``: an encoded picture; ``"array"``: the values of a uint8 array, in C order; ``"class"``.
        extensions: The member names' extensions that hold it.
        shape: Of the array, ``(H, W, C)``; ``None`` for the other kinds.
    """

    kind: str
    extensions: tuple[str, ...]
    shape: tuple[int, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """The field as the manifest keeps it."""
        found: dict[str, Any] = {"kind": self.kind, "extensions": list(self.extensions)}
        return found if self.shape is None else {**found, "shape": list(self.shape), "dtype": _DTYPE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a packed data set is.

    Attributes:
        format_version: ``"major.minor"`` of the format on disk.
        fingerprint: 32 hexadecimal digits over keys, sizes, digests and order; the same wherever the data set lies.
        shards: The digest of the root table: 32 hexadecimal digits over every column.
        fields: The fields of a sample by name.
        classes: The class names by integer label.
        splits: The splits by name, in pack order.
        packed: The options that decided the bytes.
    """

    format_version: str = FORMAT_VERSION
    fingerprint: str
    shards: str
    fields: Mapping[str, FieldInfo]
    classes: tuple[str, ...]
    splits: Mapping[str, SplitInfo]
    packed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def packed_shuffled(self) -> bool:
        """Whether samples were shuffled over their whole split when they were packed."""
        return self.packed.get("shuffle") is True

    def to_json(self) -> bytes:
        """The document: UTF-8, the same bytes for equal manifests."""
        meaning = {
            "fingerprint": self.fingerprint,
            "shards": self.shards,
            "splits": {
                name: {"num_samples": s.num_samples, "num_bytes": s.num_bytes, "num_shards": s.num_shards}
                for name, s in self.splits.items()
            },
            "fields": {name: info.as_json() for name, info in self.fields.items()},
            "classes": list(self.classes),
            "packed": dict(self.packed),
        }
        version = {"format_version": self.format_version}
        value = {**version, "digest": _digest({**version, **meaning}), **meaning}
        return (json.dumps(value, indent=1, ensure_ascii=True) + "\n").encode("ascii")

    @classmethod
    def from_json(cls, data: bytes, *, url: str = MANIFEST_NAME) -> Manifest:
        """Read the document, trusting nothing in it.

        Args:
            data: Its bytes.
            url: Where it came from, for messages.

        Returns:
            The manifest.

        Raises:
            ManifestError: It is not a manifest, or one of another major version.
        """
        try:
            if len(data) > MAX_MANIFEST_BYTES:
                raise ValueError(f"{len(data)} bytes are too many")
            value = _document(json.loads(data))
            _check_version(value["format_version"], url)
            found = cls(
                format_version=value["format_version"],
                fingerprint=_matched(_HEX_128, value["fingerprint"]),
                shards=_matched(_HEX_128, value["shards"]),
                fields={name: _field_info(info) for name, info in _document(value["fields"]).items()},
                classes=_texts(value["classes"]),
                splits={
                    _matched(_NAME, name): _split_info(split) for name, split in _document(value["splits"]).items()
                },
                packed=_document(value["packed"]),
            )
            if value.pop("digest") != _digest(value):
                raise ValueError("its digest does not fit what it says: it was changed or damaged")
            if missing := {"image", "label"} - found.fields.keys():
                raise ValueError(f"there is no field {min(missing)}")
        except ManifestError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            reason = f"{exc} is missing" if isinstance(exc, KeyError) else str(exc)
            raise ManifestError(
                f"not a shardkit manifest: {reason}",
                shard=url,
                advice="Copy the data set again, or pack it again",
            ) from exc
        return found


def _check_version(version: object, url: str) -> None:
    found = re.fullmatch(r"(\d{1,6})\.(\d{1,6})", version) if isinstance(version, str) else None
    if found is None:
        raise ValueError(f"format_version is {brief(version)}")
    newest = FORMAT_VERSION.partition(".")[0]
    if int(found[1]) > int(newest):
        raise ManifestError(
            f"the data set has format version {version}; this shardkit reads up to {newest}.x",
            shard=url,
            advice="Upgrade shardkit",
        )
    if int(found[1]) < int(newest):
        raise ManifestError(
            f"the data set has format version {version}, of a pre-release, in which digests do not cover all",
            shard=url,
            advice="Pack its images again",
        )


def _digest(value: Mapping[str, Any]) -> str:
    """xxh3_128 of all that a document says but its digest, also of what this version knows nothing of."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return xxhash.xxh3_128_hexdigest(text.encode("ascii"))


def _document(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{brief(value)} is not a document")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{brief(value)} is not a list")
    return tuple(map(_text, value))


def _split_info(value: Mapping[str, object]) -> SplitInfo:
    counts = {name: _count(_document(value)[name]) for name in ("num_samples", "num_bytes", "num_shards")}
    return SplitInfo(**counts)


def _field_info(value: Mapping[str, Any]) -> FieldInfo:
    kind, extensions = _text(_document(value)["kind"]), _texts(value["extensions"])
    if (kind == "array") != ("shape" in value):
        raise ValueError(f"a field of kind {brief(kind)} {'has no' if kind == 'array' else 'has a'} shape")
    shape = _shape(value) if kind == "array" else None
    return FieldInfo(kind=kind, extensions=extensions, shape=shape)


def _shape(value: Mapping[str, Any]) -> tuple[int, ...]:
    shape, dtype = value["shape"], value["dtype"]
    if dtype != _DTYPE:
        raise ValueError(f"arrays of {brief(dtype)} are not read, only of {_DTYPE}")
    if not isinstance(shape, list) or len(shape) != 3 or any(type(size) is not int or size < 1 for size in shape):
        raise ValueError(f"{brief(shape)} is not a shape of height, width and channels")
    if shape[2] not in (1, 3, 4) or math.prod(shape) > 4 * MAX_PIXELS:
        raise ValueError(f"an array of shape {brief(shape)} is not a picture's")
    return tuple(shape)


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{brief(value)} is not a count")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{brief(value)} is not text")
    return value


def _matched(pattern: re.Pattern[str], value: object) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{brief(value)} is not of the form {pattern.pattern}")
    return value

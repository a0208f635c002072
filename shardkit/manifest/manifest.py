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
from shardkit.redact import brief

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FORMAT_VERSION", "MANIFEST_NAME", "MAX_MANIFEST_BYTES", "FieldInfo", "Manifest", "SplitInfo"]

FORMAT_VERSION = "1.0"
MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 64 * 2**20
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
        fields: The fields of a sample by name.
        classes: The class names by integer label.
        splits: The splits by name, in pack order.
        packed: The options that decided the bytes.
    """

    format_version: str = FORMAT_VERSION
    fingerprint: str
    fields: Mapping[str, FieldInfo]
    classes: tuple[str, ...]
    splits: Mapping[str, SplitInfo]
    packed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def packed_shuffled(self) -> bool:
        """Whether samples were shuffled over their whole split when they were packed."""
        return self.packed.get("shuffle") is True

    def digest(self) -> str:
        """xxh3_128 over what the data set means, ``packed`` left out, as 32 hexadecimal digits."""
        value = {"format_major": int(self.format_version.partition(".")[0]), **self._meaning()}
        return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii"))

    def check(self, digest: object) -> None:
        """Refuse what no packer writes.

        Args:
            digest: The digest that the document gives.

        Raises:
            ValueError: The digest is another, or a field is missing that every data set has.
        """
        if digest != self.digest():
            raise ValueError("its digest does not fit what it says: it was changed or damaged")
        if missing := {"image", "label"} - self.fields.keys():
            raise ValueError(f"there is no field {min(missing)}")

    def to_json(self) -> bytes:
        """The document: UTF-8, the same bytes for equal manifests."""
        value = {
            "format_version": self.format_version,
            "digest": self.digest(),
            **self._meaning(),
            "packed": dict(self.packed),
        }
        return (json.dumps(value, indent=1, ensure_ascii=True) + "\n").encode("ascii")

    def _meaning(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "splits": {
                name: {"num_samples": s.num_samples, "num_bytes": s.num_bytes, "num_shards": s.num_shards}
                for name, s in self.splits.items()
            },
            "fields": {name: info.as_json() for name, info in self.fields.items()},
            "classes": list(self.classes),
        }

    @classmethod
    def from_json(cls, data: bytes, *, url: str = MANIFEST_NAME) -> Manifest:
        """Read the document, trusting nothing in it.

        Args:
            data: Its bytes.
            url: Where it came from, for messages.

        Returns:
            The manifest.

        Raises:
            ManifestError: It is not a manifest, or one of a newer major version.
        """
        try:
            if len(data) > MAX_MANIFEST_BYTES:
                raise ValueError(f"{len(data)} bytes are too many")
            value = json.loads(data)
            _check_version(value["format_version"], url)
            found = cls(
                format_version=value["format_version"],
                fingerprint=_matched(_HEX_128, value["fingerprint"]),
                fields={name: _field_info(info) for name, info in value["fields"].items()},
                classes=tuple(_text(name) for name in value["classes"]),
                splits={_matched(_NAME, name): _split_info(split) for name, split in value["splits"].items()},
                packed=dict(value.get("packed", {})),
            )
            found.check(value["digest"])
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


def _split_info(value: Mapping[str, object]) -> SplitInfo:
    counts = {name: _count(value[name]) for name in ("num_samples", "num_bytes", "num_shards")}
    return SplitInfo(**counts)


def _field_info(value: Mapping[str, Any]) -> FieldInfo:
    kind, extensions = _text(value["kind"]), tuple(_text(name) for name in value["extensions"])
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

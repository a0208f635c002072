"""The exceptions of shardkit.

Every error says what failed, where, and what to do::

    ShardkitError
      ConfigError    (ValueError)  a setting is wrong: setting, value
      StorageError   (OSError)     bytes could not be read or written: url, operation
      FormatError    (ValueError)  a shard is not what it should be: shard, offset
        ManifestError              a manifest or a table is not what it should be
      CodecError     (ValueError)  the bytes of one field do not decode: shard, key, field, offset
      PackError                    pictures that could not be packed: failures
      StateError     (ValueError)  a saved position does not fit: setting, expected, found

The place is kept in attributes (``None`` where unknown) and put into the message. Whatever an error is made of has gone
through `shardkit.redact.redacted`: no error holds a password, a signed query or a token.
"""

from __future__ import annotations

from typing import ClassVar, Self

from shardkit.redact import redacted, redacted_repr, redacted_value

__all__ = [
    "CodecError",
    "ConfigError",
    "FormatError",
    "ManifestError",
    "PackError",
    "ShardkitError",
    "ShardkitWarning",
    "StateError",
    "StorageError",
]


class ShardkitError(Exception):
    """Base of every error that shardkit raises on purpose.

    Args:
        what: What failed, in one line.
        advice: What to do about it.
        place: Where it failed; the names each class knows are in its ``places``.

    Attributes:
        what: What failed.
        advice: What to do about it, or an empty string.
    """

    places: ClassVar[tuple[str, ...]] = ()

    def __init__(self, what: str, *, advice: str = "", **place: object) -> None:
        self.what = redacted(what)
        super().__init__(self.what)
        self.advice = redacted(advice)
        for name in self.places:
            value = place.pop(name, None)
            setattr(self, name, _safe(name, value))
        if place:
            raise TypeError(f"{type(self).__name__} knows no {', '.join(place)}")

    def locate(self, **place: object) -> Self:
        """Fill in places that are not known yet, and return the error itself.

        Args:
            place: Values by name; a name the error already knows keeps its value.

        Returns:
            The same error, for ``raise error.locate(shard=...)``.
        """
        for name, value in place.items():
            if name in self.places and getattr(self, name) is None:
                setattr(self, name, _safe(name, value))
        return self

    def __str__(self) -> str:
        known = [(name, getattr(self, name)) for name in self.places if getattr(self, name) is not None]
        where = ", ".join(f"{name} {_shown(value)}" for name, value in known)
        text = f"{self.what} [{where}]" if where else self.what
        return f"{text}. {self.advice}" if self.advice else text


class ShardkitWarning(UserWarning):
    """Something works, but not as well as it could, or not all of it."""


class ConfigError(ShardkitError, ValueError):
    """A setting is wrong.

    Attributes:
        setting: The setting's name.
        value: The value that was given.
    """

    places = ("setting", "value")
    setting: str | None
    value: object


class StorageError(ShardkitError, OSError):
    """Bytes could not be read from or written to where they are kept.

    Attributes:
        url: Where, with secrets taken out.
        operation: What was tried: ``read``, ``write``, ``list`` ...
    """

    places = ("url", "operation")
    url: str | None
    operation: str | None


class FormatError(ShardkitError, ValueError):
    """A shard is damaged or is not a shard.

    Attributes:
        shard: The shard's name or path.
        offset: The byte offset in the shard.
        key: The sample's key.
        field: The sample's field.
    """

    places = ("shard", "key", "field", "offset")
    shard: str | None
    offset: int | None
    key: str | None
    field: str | None


class ManifestError(FormatError):
    """A manifest or one of its tables is missing, damaged or of an unknown version."""


class CodecError(ShardkitError, ValueError):
    """The bytes of one field cannot be decoded.

    Attributes:
        shard: The shard's name.
        key: The sample's key.
        field: The sample's field.
        offset: The byte offset of the field in the shard.
    """

    places = ("shard", "key", "field", "offset")
    shard: str | None
    key: str | None
    field: str | None
    offset: int | None


class PackError(ShardkitError):
    """Some pictures could not be packed, so there is no data set.

    Attributes:
        failures: What went wrong, one line for each picture: the file is named first.
    """

    SHOWN = 20

    def __init__(self, what: str, failures: tuple[str, ...] = (), *, advice: str = "") -> None:
        super().__init__(what, advice=advice)
        # Files of this machine, not redacted: a name such as "passwd" and what follows would look like a secret.
        self.failures = failures

    def __str__(self) -> str:
        lines = [f"  {line}" for line in self.failures[: self.SHOWN]]
        if len(self.failures) > self.SHOWN:
            lines.append(f"  and {len(self.failures) - self.SHOWN} more")
        return "\n".join([super().__str__(), *lines])


class StateError(ShardkitError, ValueError):
    """A saved position does not fit the loader it is given to.

    Attributes:
        setting: What differs.
        expected: What the saved position says.
        found: What the loader has.
    """

    places = ("setting", "expected", "found")
    setting: str | None
    expected: object
    found: object


def _safe(name: str, value: object) -> object:
    """A place as it may be kept."""
    if not isinstance(value, str):
        return value
    return redacted_value(value) if name in ("url", "value") else redacted(value)


def _shown(value: object) -> str:
    """A value as it goes into a message: text with control characters escaped, never over 200 characters."""
    text = value if isinstance(value, str) and value and value.isprintable() else redacted_repr(value)
    return text if len(text) <= 200 else text[:200] + "…"

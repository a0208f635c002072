"""A JSON object of which every field is asked for, by name and kind."""

from __future__ import annotations

from typing import Any

__all__ = ["Fields"]

_MOST_COUNT = 1 << 62
_MOST_NAME = 1 << 16


class Fields:
    """Reads an object. Whatever is not as asked for is a `ValueError` that names the field.

    Args:
        value: The object.
        where: What it is.

    Raises:
        ValueError: It is no object.
    """

    def __init__(self, value: Any, where: str) -> None:
        if type(value) is not dict:
            raise ValueError(f"{where} is no object")
        self._left = dict(value)
        self._where = where

    def any(self, name: str) -> Any:
        """A field of any kind."""
        if name not in self._left:
            raise ValueError(f"{self._where} has no {name}")
        return self._left.pop(name)

    def count(self, name: str) -> int:
        """A whole number, at least 0."""
        value = self.any(name)
        if not is_count(value):
            raise ValueError(f"{name} of {self._where} is no count")
        return int(value)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.any(name)
        if type(value) is not bool:
            raise ValueError(f"{name} of {self._where} is neither true nor false")
        return value

    def name(self, name: str) -> str:
        """A short text that can be printed."""
        value = self.any(name)
        if not is_name(value):
            raise ValueError(f"{name} of {self._where} is no name")
        return str(value)

    def names(self, name: str) -> tuple[str, ...]:
        """Several of them."""
        value = self.list(name)
        if not all(is_name(each) for each in value):
            raise ValueError(f"{name} of {self._where} are no names")
        return tuple(value)

    def counts(self, name: str) -> tuple[int, ...]:
        """Whole numbers, at least 0."""
        value = self.list(name)
        if not all(is_count(each) for each in value):
            raise ValueError(f"{name} of {self._where} are no counts")
        return tuple(value)

    def list(self, name: str) -> list[Any]:
        """A list."""
        value = self.any(name)
        if type(value) is not list:
            raise ValueError(f"{name} of {self._where} is no list")
        return value

    def object(self, name: str) -> dict[str, Any]:
        """An object, whose own names can be printed."""
        value = self.any(name)
        if type(value) is not dict or not all(is_name(each) for each in value):
            raise ValueError(f"{name} of {self._where} is no object")
        return value

    def finish(self) -> None:
        """Check that every field was asked for."""
        if self._left:
            raise ValueError(f"{self._where} has fields that are not known")


def is_count(value: Any) -> bool:
    """Whether it is a whole number, at least 0."""
    return type(value) is int and 0 <= value < _MOST_COUNT


def is_name(value: Any) -> bool:
    """Whether it is a short text that can be printed."""
    return type(value) is str and len(value) <= _MOST_NAME and value.isprintable()

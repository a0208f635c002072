"""Values of a training run as JSON can hold them, with their arrays beside them. Nothing of a type that runs code.

A value comes back exactly as it was: a tuple is no list, and a number of numpy keeps its type. What cannot is refused.
"""

from __future__ import annotations

import binascii
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Array", "Decoder", "from_bytes", "from_plain", "load_json", "to_bytes", "to_plain"]

Array = np.ndarray[Any, np.dtype[Any]]

_MOST_LEVELS = 50
# States of random generators have 128 bits.
_MOST_BITS = 256
# Types that numpy has no name for; ml_dtypes has, which Keras needs as well.
_OTHER_TYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
_KEYS = (str, int, float, bool, type(None))


def to_plain(value: Any, name: str, arrays: list[Array], level: int = 0) -> Any:
    """A value as JSON can hold it; arrays in it are appended to the given list.

    Args:
        value: Numbers, texts, ``None``, arrays of numbers, and lists, tuples and dictionaries of them.
        name: What to call it in an error.
        arrays: Takes the arrays.
        level: How deep the value lies in another one.

    Returns:
        The plain value, for `from_plain`.

    Raises:
        TypeError: There is something else in it.
    """
    if level > _MOST_LEVELS:
        raise TypeError(f"{name} is nested in more than {_MOST_LEVELS} levels")
    kind = type(value)
    if value is None or kind in (bool, float, str):
        return value
    if kind is int and value.bit_length() <= _MOST_BITS:
        return value
    if isinstance(value, (np.ndarray, np.generic)) and _has_name(value.dtype):
        return _plain_array(value, arrays)
    if kind in (list, tuple):
        items = [to_plain(item, f"{name}[{number}]", arrays, level + 1) for number, item in enumerate(value)]
        return {kind.__name__: items}
    if kind is dict and all(type(key) in _KEYS for key in value):
        return {"dict": [[key, to_plain(item, f"{name}[{key!r}]", arrays, level + 1)] for key, item in value.items()]}
    raise TypeError(f"{name} is a {kind.__name__}" if kind is not int else f"{name} has more than {_MOST_BITS} bits")


class Decoder:
    """Reads what `to_plain` gave. Each array belongs to one value.

    Args:
        arrays: The arrays.
    """

    def __init__(self, arrays: Sequence[Array]) -> None:
        self._arrays = arrays
        self._left = set(range(len(arrays)))

    def value(self, plain: Any, where: str, level: int = 0) -> Any:
        """The value that `to_plain` was given.

        Args:
            plain: What it gave.
            where: What to call it in an error.
            level: How deep it lies in another one.

        Raises:
            ValueError: It is nothing that `to_plain` gives.
        """
        if level > _MOST_LEVELS:
            raise ValueError(f"{where} is nested in more than {_MOST_LEVELS} levels")
        kind = type(plain)
        if plain is None or kind in (bool, float, str) or (kind is int and plain.bit_length() <= _MOST_BITS):
            return plain
        if kind is not dict or len(plain) != 1:
            raise ValueError(f"{where} is no value")
        form, inner = next(iter(plain.items()))
        if form == "array":
            return self.take(inner, where).copy()
        if type(inner) is not list:
            raise ValueError(f"{where} is no value")
        if form == "typed":
            return self._typed(inner, where)
        if form == "scalar":
            return _scalar(inner, where)
        if form == "dict":
            return dict(self._pairs(inner, where, level))
        items = [self.value(item, where, level + 1) for item in inner]
        if form not in ("list", "tuple"):
            raise ValueError(f"{where} is no value")
        return items if form == "list" else tuple(items)

    def take(self, number: Any, where: str) -> Array:
        """An array, which nobody else may take.

        Args:
            number: Its number.
            where: What it belongs to, for an error.

        Raises:
            ValueError: There is none that is left.
        """
        if type(number) is not int or number not in self._left:
            raise ValueError(f"{where} has no array of its own")
        self._left.remove(number)
        return self._arrays[number]

    def finish(self) -> None:
        """Check that every array was taken.

        Raises:
            ValueError: Some were not.
        """
        if self._left:
            raise ValueError(f"{len(self._left)} arrays belong to nothing")

    def _pairs(self, inner: list[Any], where: str, level: int) -> Iterator[tuple[Any, Any]]:
        keys = set()
        for pair in inner:
            if type(pair) is not list or len(pair) != 2 or type(pair[0]) not in _KEYS or pair[0] in keys:
                raise ValueError(f"{where} is no dictionary")
            keys.add(pair[0])
            yield pair[0], self.value(pair[1], where, level + 1)

    def _typed(self, inner: list[Any], where: str) -> Any:
        """An array, or a number, of a type that numpy has no name for."""
        if len(inner) != 3 or inner[0] not in _OTHER_TYPES or type(inner[1]) is not list:
            raise ValueError(f"{where} is no array")
        dtype, data = _other_type(inner[0]), self.take(inner[2], where)
        if any(type(size) is not int or size < 0 for size in inner[1]) or data.dtype != np.uint8 or data.ndim != 1:
            raise ValueError(f"{where} is no array")
        if math.prod(inner[1]) * dtype.itemsize != len(data):
            raise ValueError(f"{where} has another size than its shape says")
        return np.ndarray(tuple(inner[1]), dtype, buffer=data.tobytes()).copy()


def from_plain(plain: Any, arrays: Sequence[Array], where: str = "value") -> Any:
    """The value that `to_plain` was given, which holds all of the arrays.

    Raises:
        ValueError: It is nothing that `to_plain` gives.
    """
    decoder = Decoder(arrays)
    value = decoder.value(plain, where)
    decoder.finish()
    return value


def to_bytes(value: Any, name: str) -> bytes:
    """A small value with its arrays as text.

    Raises:
        TypeError: It cannot be saved.
    """
    arrays: list[Array] = []
    plain = to_plain(value, name, arrays)
    described = [[array.dtype.str, list(array.shape), array.tobytes().hex()] for array in arrays]
    return json.dumps([plain, described]).encode()


def from_bytes(data: bytes) -> Any:
    """The value that `to_bytes` was given.

    Raises:
        ValueError: The bytes are something else.
    """
    try:
        plain, described = load_json(data)
        arrays = []
        for dtype, shape, text in described:
            kind, content = _named_type(dtype), binascii.unhexlify(text)
            if math.prod(shape) * kind.itemsize != len(content):
                raise ValueError("an array has another size than its shape says")
            arrays.append(np.ndarray(tuple(shape), kind, buffer=content))
        return from_plain(plain, arrays)
    except (TypeError, OverflowError) as exc:
        raise ValueError(str(exc)) from exc


def load_json(data: bytes) -> Any:
    """The value of a JSON text of which nothing can be read in two ways.

    Raises:
        ValueError: It is no such text, or nested too deep.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name is there twice")
        return found

    try:
        return json.loads(data, object_pairs_hook=once)
    except RecursionError as exc:
        raise ValueError("it is nested too deep") from exc


def _plain_array(value: Any, arrays: list[Array]) -> Any:
    if value.dtype.name in _OTHER_TYPES:
        content = np.array(value, order="C").reshape(-1).view(np.uint8)
        arrays.append(content)
        return {"typed": [value.dtype.name, list(value.shape), len(arrays) - 1]}
    if isinstance(value, np.generic):
        return {"scalar": [value.dtype.str, value.tobytes().hex()]}
    arrays.append(np.array(value, order="C", subok=False))
    return {"array": len(arrays) - 1}


def _scalar(inner: list[Any], where: str) -> Any:
    if len(inner) != 2 or any(type(part) is not str for part in inner):
        raise ValueError(f"{where} is no number")
    dtype, content = _named_type(inner[0]), binascii.unhexlify(inner[1])
    if len(content) != dtype.itemsize:
        raise ValueError(f"{where} is no number")
    return np.frombuffer(content, dtype)[0]


def _named_type(text: Any) -> np.dtype[Any]:
    """The type of a text such as ``<f4``; numbers only."""
    if type(text) is not str or len(text) > 8 or text[:1] not in "<>|" or text[1:2] not in tuple("biufc"):
        raise ValueError("it has an array of another type than numbers")
    try:
        return np.dtype(text)
    except TypeError as exc:
        raise ValueError("it has an array of an unknown type") from exc


def _has_name(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biufc" or dtype.name in _OTHER_TYPES


def _other_type(name: str) -> np.dtype[Any]:
    import ml_dtypes

    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return found

"""Thrift's compact form, as far as Parquet's footers and page headers need it."""

from __future__ import annotations

from typing import Any

__all__ = ["read_struct"]

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _, _STRUCT = range(1, 13)
_MOST_NESTED = 8
_MOST_BITS = 70  # of a number, with those that make it longer than 64


def read_struct(data: bytes, place: int = 0, *, last: int | None = None, nested: int = 0) -> tuple[dict[int, Any], int]:
    """The fields of a struct by their number, trusting no length.

    Args:
        data: What holds it.
        place: Where it begins.
        last: The field to stop at, for a struct of which no more is needed.
        nested: How deep it is in others.

    Returns:
        Numbers, bytes, lists, and dictionaries for structs; and the place behind it.

    Raises:
        ValueError: It is cut, nested too deep, or nothing of the kind.
    """
    if nested > _MOST_NESTED:
        raise ValueError("its headers are nested too deep")
    found: dict[int, Any] = {}
    number = 0
    try:
        while head := data[place]:
            place += 1
            if head >> 4:
                number += head >> 4
            else:
                number, place = _signed(data, place)
            if number in found:
                raise ValueError(f"a header has field {number} twice")
            kind = head & 15
            if kind in (_TRUE, _FALSE):
                found[number] = kind == _TRUE
            else:
                found[number], place = _value(data, place, kind, nested)
            if number == last:
                return found, place
    except IndexError:
        raise ValueError("a header is cut") from None
    return found, place + 1


def _value(data: bytes, place: int, kind: int, nested: int) -> tuple[Any, int]:
    if kind in (_I16, _I32, _I64):
        return _signed(data, place)
    if kind == _BINARY:
        length, place = _unsigned(data, place)
        return _bytes(data, place, length)
    if kind == _STRUCT:
        return read_struct(data, place, nested=nested + 1)
    if kind in (_LIST, _SET):
        head, place = data[place], place + 1
        count = head >> 4
        if count == 15:
            count, place = _unsigned(data, place)
        if nested >= _MOST_NESTED or count > len(data) - place:
            raise ValueError("a header has a list that is cut or nested too deep")
        values = []
        for _ in range(count):
            value, place = _value(data, place, head & 15, nested + 1)
            values.append(value)
        return values, place
    if kind in (_BYTE, _TRUE, _FALSE):
        return data[place], place + 1
    if kind == _DOUBLE:
        return _bytes(data, place, 8)
    raise ValueError(f"a header has a value of kind {kind}")


def _bytes(data: bytes, place: int, count: int) -> tuple[bytes, int]:
    if count > len(data) - place:
        raise ValueError("a header is cut")
    return data[place : place + count], place + count


def _unsigned(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := data[place]) > 127:
        value |= (byte & 127) << shift
        shift += 7
        place += 1
        if shift == _MOST_BITS:
            raise ValueError("a header has a number without end")
    return value | byte << shift, place + 1


def _signed(data: bytes, place: int) -> tuple[int, int]:
    value, place = _unsigned(data, place)
    return value >> 1 ^ -(value & 1), place

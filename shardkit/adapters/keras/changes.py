"""Whether what a callback holds has changed, also within objects that cannot be saved."""

from __future__ import annotations

import os
import sys
from collections import deque
from typing import Any

import keras
import numpy as np
import xxhash

from shardkit.adapters.keras.holders import cannot_be_saved, holder_of

__all__ = ["digest_of", "is_function"]

_MOST_VALUES = 100_000
_LEAVES = (type(None), bool, int, float, complex, str, bytes, bytearray)
# What these hold is the model's, or belongs to nobody who could say that it is progress.
_CLOSED = (type, keras.Model, keras.Layer, keras.optimizers.Optimizer, keras.callbacks.Callback, keras.KerasTensor)
_CONTAINERS = (dict, list, tuple, set, frozenset, deque, keras.metrics.Metric)
_CLOSED_LIBRARIES = sys.stdlib_module_names | {"jax", "jaxlib", "keras", "numpy", "shardkit", "tensorflow", "torch"}


def digest_of(value: Any) -> bytes:
    """A digest that another value of an attribute has not.

    Numbers, texts, arrays, variables and generators count, also in containers and in attributes of objects. Of what
    cannot be looked into, only the object itself counts; what surely changes when it is used is never the same.

    Args:
        value: What an attribute holds. Very long values are looked at in part.
    """
    digest = xxhash.xxh3_128()
    ahead, seen, left = deque([value]), set(), _MOST_VALUES
    while ahead and left:
        part, left = ahead.popleft(), left - 1
        digest.update(f"{type(part).__name__}:".encode(errors="replace"))
        if isinstance(part, _LEAVES):
            digest.update(part if isinstance(part, (bytes, bytearray)) else repr(part).encode(errors="replace"))
            continue
        if id(part) in seen or is_function(part):
            continue
        seen.add(id(part))
        held = _bytes_held(part)
        if held is None:
            ahead.extend(_parts(part))
            held = str(len(ahead)).encode()
        digest.update(held)
    return digest.digest()


def is_function(value: Any) -> bool:
    """Whether a value is called and holds no numbers of the run, such as a function or a layer."""
    return callable(value) and not isinstance(value, keras.metrics.Metric)


def _bytes_held(value: Any) -> Any:
    """What counts of a value that is looked at as a whole; ``None`` for one that has parts."""
    if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        return np.array(value, order="C").reshape(-1).view(np.uint8)
    holder = holder_of(value)
    if holder is not None:
        return holder.read()
    if cannot_be_saved(value):
        return os.urandom(16)
    if isinstance(value, _CONTAINERS) or not _is_closed(value):
        return None
    return str(id(value)).encode()


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [part for pair in value.items() for part in pair]
    if isinstance(value, keras.metrics.Metric):
        return list(value.variables)
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return list(value)
    return [part for pair in vars(value).items() for part in pair]


def _is_closed(value: Any) -> bool:
    library = type(value).__module__.partition(".")[0]
    return isinstance(value, _CLOSED) or library in _CLOSED_LIBRARIES or not hasattr(value, "__dict__")

"""The state of one random generator of Python or numpy, as plain values, and whether a generator can take a state.

Numpy does not look at the counters in a state that it is given, and reads its memory at the place that they name. So a
state is compared with that of the generator first.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

__all__ = ["check_state", "generator_state", "set_generator_state"]

# The highest value of each counter.
_HIGHEST = {"pos": 624, "buffer_pos": 4, "has_uint32": 1, "has_gauss": 1, "uinteger": (1 << 32) - 1}
_MOST_BITS = 128


def generator_state(generator: Any) -> Any:
    """The state of a generator of Python or numpy, or ``None`` if it is no generator.

    Args:
        generator: A `random.Random`, a generator of numpy, or the module of either.
    """
    if generator is random or isinstance(generator, random.Random):
        version, numbers, gauss = generator.getstate()
        return {"version": version, "numbers": np.array(numbers, dtype=np.uint32), "gauss": gauss}
    if generator is np.random or isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return None


def set_generator_state(generator: Any, state: Any) -> None:
    """Put a generator back.

    Args:
        generator: As `generator_state` takes it.
        state: As `generator_state` gave it, checked.
    """
    if generator is random or isinstance(generator, random.Random):
        generator.setstate((state["version"], tuple(state["numbers"].tolist()), state["gauss"]))
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)


def check_state(state: Any, like: Any, where: str) -> None:
    """Refuse a state that a generator cannot take.

    Args:
        state: The state.
        like: The state that the generator has now.
        where: What the state is of.

    Raises:
        ValueError: The state is of another kind of generator, or of none.
    """
    if isinstance(like, dict):
        if type(state) is not dict or set(state) != set(like):
            raise ValueError(f"{where} is of another generator")
        for name, part in like.items():
            check_state(state[name], part, f"{where}.{name}")
    elif isinstance(like, np.ndarray):
        check_array(state, like, where)
    elif where.endswith(".gauss"):
        if state is not None and not isinstance(state, (float, int)):
            raise ValueError(f"{where} is no number")
    elif isinstance(like, str) or where.endswith(".version"):
        if type(state) is not type(like) or state != like:
            raise ValueError(f"{where} is of another generator")
    else:
        _check_counter(state, where)
    if where.endswith(".numbers") and int(state[-1]) > _HIGHEST["pos"]:
        raise ValueError(f"{where} has a position behind its end")


def check_array(state: Any, like: Any, where: str) -> None:
    """Refuse anything that is no array like another one.

    Args:
        state: Perhaps an array.
        like: Has the shape and the type that it must have.
        where: What it is.

    Raises:
        ValueError: It differs.
    """
    if not isinstance(state, np.ndarray) or (state.shape, state.dtype) != (tuple(like.shape), like.dtype):
        raise ValueError(f"{where} has another shape or type")


def _check_counter(state: Any, where: str) -> None:
    highest = _HIGHEST.get(where.rpartition(".")[2], (1 << _MOST_BITS) - 1)
    if isinstance(state, (bool, np.bool_)) or not isinstance(state, (int, np.integer)) or not 0 <= state <= highest:
        raise ValueError(f"{where} is no count, or too large")

"""States of random generators: only those that the same generator gave are taken."""

import copy
import random

import numpy as np
import pytest

from shardkit.adapters.keras.generators import check_state, generator_state, set_generator_state
from shardkit.adapters.keras.randomness import check_random_states, random_states

BITS = (np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64)
GENERATORS = [random.Random(1), np.random.RandomState(1), *(np.random.Generator(bits(1)) for bits in BITS)]
HOSTILE = [None, True, -1, 1.5, 1 << 200, "PCG64", "x", b"", [], {}, np.zeros(3), np.zeros(624, np.int64), ("MT19937",)]


def places(state, path=()):
    yield path
    if isinstance(state, dict):
        for name, part in state.items():
            yield from places(part, (*path, name))


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda each: type(getattr(each, "bit_generator", each)).__name__)
def test_a_generator_takes_its_own_states_only(generator):
    state = copy.deepcopy(generator_state(generator))
    check_state(state, generator_state(generator), "state")
    before = generator.random()
    set_generator_state(generator, state)
    assert generator.random() == before
    for other in GENERATORS:
        if other is not generator and not isinstance(other, np.random.RandomState):
            with pytest.raises(ValueError, match="."):
                check_state(generator_state(other), state, "state")
    for path in places(state):
        for value in HOSTILE:
            changed = copy.deepcopy({"": state})
            inner, keys = changed, ("", *path)
            for key in keys[:-1]:
                inner = inner[key]
            if (
                type(inner[keys[-1]]) is type(value)
                and not isinstance(value, (dict, np.ndarray))
                and value == inner[keys[-1]]
            ):
                continue
            inner[keys[-1]] = value
            if path and path[-1] == "gauss" and (value is None or isinstance(value, (int, float))):
                continue
            with pytest.raises(ValueError, match="."):
                check_state(changed[""], state, "state")


@pytest.mark.parametrize("position", [625, -1, 1 << 40])
def test_a_position_outside_of_a_generator_s_memory_is_refused(position):
    twister, philox = np.random.MT19937(1).state, np.random.Philox(1).state
    for like, path in ((twister, ("state", "pos")), (philox, ("buffer_pos",))):
        state = copy.deepcopy(like)
        inner = state
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = position
        with pytest.raises(ValueError, match="is no count, or too large"):
            check_state(state, like, "state")
    if position > 0:
        state = generator_state(random.Random(1))
        state["numbers"][-1] = min(position, 2**32 - 1)
        with pytest.raises(ValueError, match="behind its end"):
            check_state(state, generator_state(random.Random(2)), "state")


def test_states_of_the_process():
    states = random_states()
    check_random_states(states)
    for name in states:
        for value in HOSTILE:
            with pytest.raises(ValueError, match="."):
                check_random_states({**states, name: value})
    with pytest.raises(ValueError, match="."):
        check_random_states({**states, "os": 1})
    with pytest.raises(ValueError, match="."):
        check_random_states({"python": states["python"]})
    for generator, algorithm in ((None, 1), (np.zeros(3, np.int64), None), (np.zeros(3, np.int64), 9), (5, 1)):
        tensorflow = {"generator": generator, "algorithm": algorithm, "seeds": None}
        with pytest.raises(ValueError, match="."):
            check_random_states({**states, "tensorflow": tensorflow})
    for cpu, devices in ((np.zeros(3), []), (5, []), (np.zeros(3, np.uint8), 5)):
        with pytest.raises(ValueError, match="."):
            check_random_states({**states, "torch": {"cpu": cpu, "devices": devices}})

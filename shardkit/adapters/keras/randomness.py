"""The random generators that belong to the process, and those that a model holds, as plain values.

Training is exact only if random numbers continue where they were. Libraries that are not imported have no generator to
save; nothing is imported here.
"""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from keras.src.backend import random_seed_dtype
from keras.src.backend.common import global_state
from keras.src.random import seed_generator

from shardkit.adapters.keras.generators import check_array, check_state, generator_state, set_generator_state

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["check_random_states", "random_states", "restore_random_states", "unsaved_operations"]

_LIBRARIES = {"python", "numpy", "keras", "tensorflow", "torch"}
# The numbers in the state of each algorithm of TensorFlow: Philox and ThreeFry.
_TENSORFLOW_SIZES = {1: 3, 2: 2}


def random_states() -> dict[str, Any]:
    """The states of all generators of the process: numbers, texts and arrays by library."""
    found = {
        "python": generator_state(random),
        "numpy": generator_state(np.random),
        "keras": _keras_state(),
        "tensorflow": _tensorflow_states(),
        "torch": _torch_states(),
    }
    return {name: state for name, state in found.items() if state is not None}


def check_random_states(states: Mapping[str, Any]) -> None:
    """Refuse states that the generators of this process cannot take. None is changed.

    Args:
        states: Perhaps what `random_states` gave.

    Raises:
        ValueError: They are of other generators, or of none.
    """
    if not {"python", "numpy"} <= set(states) <= _LIBRARIES:
        raise ValueError("it has the states of other libraries")
    check_state(states["python"], generator_state(random), "python")
    check_state(states["numpy"], generator_state(np.random), "numpy")
    if "keras" in states:
        now = _keras_state()
        check_array(states["keras"], np.zeros(2, random_seed_dtype()) if now is None else now, "keras")
    if "tensorflow" in states:
        _check_tensorflow(states["tensorflow"])
    if "torch" in states:
        _check_torch(states["torch"])


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Put the generators of the process back.

    Args:
        states: As `random_states` gave them, checked.

    Raises:
        RuntimeError: A generator does not take its state.
        ValueError: The same.
    """
    if "keras" in states:
        # Makes the generator where there is none, with a number of Python's generator.
        seed_generator.global_seed_generator().state.assign(states["keras"])
    if "tensorflow" in states:
        _restore_tensorflow(states["tensorflow"])
    if "torch" in states:
        _restore_torch(states["torch"])
    set_generator_state(np.random, states["numpy"])
    set_generator_state(random, states["python"])


def unsaved_operations(train_function: Any) -> list[str]:
    """Random operations that TensorFlow has compiled into a function. Each has a state that nobody else can read.

    Args:
        train_function: Keras's, after a step. Other backends have no such operations.

    Returns:
        Their names, such as ``RandomUniform``.
    """
    found: set[str] = set()
    for cell in getattr(train_function, "__closure__", None) or ():
        # Private, and in all versions of TensorFlow that Keras supports. Without it there is only no warning.
        for compiled in getattr(cell.cell_contents, "_list_all_concrete_functions", list)():
            try:
                graph = compiled.graph.as_graph_def()
            except ValueError:
                # It is too large to be looked through.
                continue
            nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
            found |= {node.op for node in nodes if "seed2" in node.attr}
    return sorted(found)


def _keras_state() -> Any:
    generator = global_state.get_global_attribute("global_seed_generator")
    return None if generator is None else np.array(generator.state.numpy())


def _tensorflow_states() -> Any:
    # Asked of its modules, since asking TensorFlow for its generator makes one.
    generator = _of_module("tensorflow.python.ops.stateful_random_ops", "global_generator")
    seeds = _tensorflow_seeds()
    found = {
        "generator": None if generator is None else np.array(generator.state.numpy()),
        "algorithm": None if generator is None else int(generator.algorithm),
        "seeds": None if seeds is None else generator_state(seeds),
    }
    return found if generator is not None or seeds is not None else None


def _check_tensorflow(states: Any) -> None:
    if type(states) is not dict or set(states) != {"generator", "algorithm", "seeds"}:
        raise ValueError("tensorflow is of another generator")
    generator, algorithm = states["generator"], states["algorithm"]
    if (generator is None) != (algorithm is None):
        raise ValueError("tensorflow.algorithm is of another generator")
    if generator is not None:
        size = _TENSORFLOW_SIZES.get(algorithm) if type(algorithm) is int else None
        if size is None:
            raise ValueError("tensorflow.algorithm is not known")
        there = _of_module("tensorflow.python.ops.stateful_random_ops", "global_generator")
        like = np.zeros(size, np.int64) if there is None else there.state.numpy()
        check_array(generator, like, "tensorflow.generator")
    if states["seeds"] is not None:
        # What gives an operation its seed is a generator of Python.
        check_state(states["seeds"], generator_state(random), "tensorflow.seeds")


def _restore_tensorflow(states: dict[str, Any]) -> None:
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return
    if states["generator"] is not None:
        if _of_module("tensorflow.python.ops.stateful_random_ops", "global_generator") is None:
            made = tensorflow.random.Generator.from_state(states["generator"], states["algorithm"])
            tensorflow.random.set_global_generator(made)
        # The one there is may be part of a compiled function.
        tensorflow.random.get_global_generator().state.assign(states["generator"])
    seeds = _tensorflow_seeds()
    if states["seeds"] is not None and seeds is not None:
        set_generator_state(seeds, states["seeds"])
        # An operation that was run with a seed keeps how often it was.
        _of_module("tensorflow.python.eager.context", "_context").clear_kernel_cache()


def _tensorflow_seeds() -> Any:
    """What gives each random operation that is run alone its own seed; there once a seed was set."""
    return getattr(_of_module("tensorflow.python.eager.context", "_context"), "_rng", None)


def _of_module(module: str, name: str) -> Any:
    return getattr(sys.modules.get(module), name, None)


def _torch_states() -> Any:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state().numpy(), "devices": [state.numpy() for state in devices]}


def _check_torch(states: Any) -> None:
    if type(states) is not dict or set(states) != {"cpu", "devices"} or type(states["devices"]) is not list:
        raise ValueError("torch is of another generator")
    for state in (states["cpu"], *states["devices"]):
        if not isinstance(state, np.ndarray) or state.dtype != np.uint8 or state.ndim != 1:
            raise ValueError("torch is of another generator")
    torch = sys.modules.get("torch")
    if torch is not None:
        check_array(states["cpu"], torch.get_rng_state().numpy(), "torch.cpu")


def _restore_torch(states: dict[str, Any]) -> None:
    torch = sys.modules.get("torch")
    if torch is None:
        return
    torch.set_rng_state(torch.from_numpy(np.array(states["cpu"])))
    # Devices that this machine does not have are left out.
    devices = states["devices"][: torch.cuda.device_count()]
    for number, state in enumerate(devices):
        torch.cuda.set_rng_state(torch.from_numpy(np.array(state)), number)

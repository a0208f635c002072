"""The random generators that belong to the process, and those that a model holds, as plain values.

Training is exact only if random numbers continue where they were. Libraries that are not imported have no generator to
save; nothing is imported here.
"""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
from keras.src.backend.common import global_state
from keras.src.random import seed_generator

__all__ = [
    "generator_state",
    "random_states",
    "restore_random_states",
    "set_generator_state",
    "unsaved_operations",
]


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


def restore_random_states(states: dict[str, Any]) -> None:
    """Put the generators of the process back.

    Args:
        states: As `random_states` gave them.
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
        state: As `generator_state` gave it.
    """
    if generator is random or isinstance(generator, random.Random):
        generator.setstate((state["version"], tuple(state["numbers"].tolist()), state["gauss"]))
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)


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


def _restore_torch(states: dict[str, Any]) -> None:
    torch = sys.modules.get("torch")
    if torch is None:
        return
    torch.set_rng_state(torch.from_numpy(np.array(states["cpu"])))
    # Devices that this machine does not have are left out.
    devices = states["devices"][: torch.cuda.device_count()]
    for number, state in enumerate(devices):
        torch.cuda.set_rng_state(torch.from_numpy(np.array(state)), number)

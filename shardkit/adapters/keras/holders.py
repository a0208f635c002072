"""Single pieces of a model's state, each of which can be read as bytes and written back.

Libraries are not imported here: a model cannot hold what belongs to a library that is not imported.
"""

from __future__ import annotations

import random
import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from shardkit.adapters.keras.generators import check_state, generator_state, set_generator_state
from shardkit.adapters.keras.plain import from_bytes, to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Bytes", "Holder", "buffers_of", "cannot_be_saved", "holder_of", "is_a"]

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
_GENERATORS = (random.Random, np.random.Generator, np.random.RandomState)


class Holder(ABC):
    """A piece of state.

    Args:
        value: The object that holds it.

    Attributes:
        value: The same.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    @property
    @abstractmethod
    def kind(self) -> tuple[tuple[int, ...], str]:
        """Shape and type. State can only be put back into a holder of the same kind."""

    @property
    def label(self) -> str:
        """What its library calls it."""
        return str(getattr(self.value, "path", None) or getattr(self.value, "name", None) or "")

    @abstractmethod
    def read(self) -> Bytes:
        """What it holds now."""

    def check(self, data: Bytes) -> None:
        """Refuse what `write` cannot take.

        Raises:
            ValueError: `read` gives nothing like it.
        """
        expected = len(self.read())
        if len(data) != expected:
            raise ValueError(f"{len(data)} bytes instead of {expected}")

    @abstractmethod
    def write(self, data: Bytes) -> None:
        """Put back what `read` gave."""


class _KerasVariable(Holder):
    @property
    def kind(self) -> tuple[tuple[int, ...], str]:
        return tuple(self.value.shape), str(keras.backend.standardize_dtype(self.value.dtype))

    def read(self) -> Bytes:
        return _bytes_of(self.value.numpy())

    def write(self, data: Bytes) -> None:
        # Asked of a value, since numpy has no name for some types.
        dtype = self.value.numpy().dtype
        self.value.assign(np.frombuffer(data.tobytes(), dtype).reshape(self.value.shape))


class _TensorFlowVariable(Holder):
    @property
    def kind(self) -> tuple[tuple[int, ...], str]:
        return tuple(self.value.numpy().shape), str(self.value.dtype.name)

    def read(self) -> Bytes:
        return _bytes_of(self.value.numpy())

    def write(self, data: Bytes) -> None:
        value = self.value.numpy()
        self.value.assign(np.frombuffer(data.tobytes(), value.dtype).reshape(value.shape))


class _TorchTensor(Holder):
    @property
    def kind(self) -> tuple[tuple[int, ...], str]:
        return tuple(self.value.shape), str(self.value.dtype)

    def read(self) -> Bytes:
        # Through bytes, since numpy does not have all of torch's types.
        tensor = self.value.detach().cpu().contiguous().reshape(-1)
        return np.array(tensor.view(sys.modules["torch"].uint8).numpy())

    def write(self, data: Bytes) -> None:
        torch = sys.modules["torch"]
        tensor = torch.from_numpy(np.array(data)).view(self.value.dtype).reshape(self.value.shape)
        with torch.no_grad():
            self.value.copy_(tensor)


class _TorchGenerator(Holder):
    @property
    def kind(self) -> tuple[tuple[int, ...], str]:
        return (), f"torch.Generator({self.value.device.type})"

    def read(self) -> Bytes:
        return np.array(self.value.get_state().numpy())

    def write(self, data: Bytes) -> None:
        self.value.set_state(sys.modules["torch"].from_numpy(np.array(data)))


class _Generator(Holder):
    """A generator of Python or numpy."""

    @property
    def kind(self) -> tuple[tuple[int, ...], str]:
        bits = getattr(self.value, "bit_generator", None)
        return (), type(self.value).__name__ if bits is None else type(bits).__name__

    def read(self) -> Bytes:
        return np.frombuffer(to_bytes(generator_state(self.value), "a generator's state"), dtype=np.uint8)

    def check(self, data: Bytes) -> None:
        check_state(from_bytes(data.tobytes()), generator_state(self.value), "state")

    def write(self, data: Bytes) -> None:
        set_generator_state(self.value, from_bytes(data.tobytes()))


def holder_of(value: Any) -> Holder | None:
    """The holder of a value, or ``None`` if it holds no state by itself.

    Args:
        value: An attribute of a model, or of something in it.
    """
    found: Callable[[Any], Holder] | None = None
    if isinstance(value, keras.Variable):
        found = _KerasVariable
    elif isinstance(value, _GENERATORS):
        found = _Generator
    elif is_a(value, "tensorflow.Variable"):
        found = None if value.dtype.name in {"string", "resource", "variant"} else _TensorFlowVariable
    elif is_a(value, "tensorflow.random.Generator"):
        value, found = value.state, _TensorFlowVariable
    elif is_a(value, "torch.nn.Parameter") and not is_a(value, "torch.nn.parameter.UninitializedTensorMixin"):
        found = _TorchTensor
    elif is_a(value, "torch.Generator"):
        found = _TorchGenerator
    return None if found is None else found(value)


def buffers_of(value: Any) -> dict[str, Holder]:
    """The buffers of a module of torch that torch saves too, by name.

    Args:
        value: Anything; what is no module has none.
    """
    if not is_a(value, "torch.nn.Module"):
        return {}
    left_out = value._non_persistent_buffers_set  # noqa: SLF001 (torch has no other name for it)
    buffers = vars(value)["_buffers"].items()
    return {name: _TorchTensor(each) for name, each in buffers if each is not None and name not in left_out}


def cannot_be_saved(value: Any) -> bool:
    """Whether a value surely changes while a model trains, in a way that cannot be saved.

    Args:
        value: An attribute of a model, or of something in it.
    """
    if hasattr(type(value), "__next__"):
        return True
    if hasattr(type(value), "load_state_dict"):
        return not is_a(value, "torch.nn.Module")
    return (
        is_a(value, "tensorflow.queue.QueueBase")
        or is_a(value, "tensorflow.lookup.experimental.MutableHashTable")
        or is_a(value, "tensorflow.lookup.experimental.DenseHashTable")
        or is_a(value, "tensorflow.Variable")
    )


def is_a(value: Any, name: str) -> bool:
    """Whether a value is of a class of a library, if that is imported.

    Args:
        value: Anything.
        name: The library, and the class as it is called in it.
    """
    library, *parts = name.split(".")
    found: Any = sys.modules.get(library)
    for part in parts:
        found = getattr(found, part, None)
    return isinstance(found, type) and isinstance(value, found)


def _bytes_of(array: np.ndarray[Any, Any]) -> Bytes:
    # A copy, since TensorFlow may hand out the memory of a variable.
    return np.array(array, order="C").reshape(-1).view(np.uint8)

"""Everything in a model that training changes, by name.

A model's own list of variables is not enough: a second optimizer, a metric or a generator may be any attribute of it.
So all objects that a model leads to are visited, nearest first. A name is the path of attributes on which a piece of
state is found first, which is the same whenever the same program has built the same model.

Only what objects hold is looked at; no property of theirs is called.
"""

from __future__ import annotations

import functools
import sys
from collections import deque
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import keras
from keras.src.ops.node import Node

from shardkit.adapters.keras.holders import Holder, buffers_of, cannot_be_saved, holder_of, is_a

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ModelState", "state_of"]

_ROOT = "model"
# Lists of the same things by other names, and what Keras keeps only while it works.
_LEFT_OUT = {
    "_buffers",
    "_compile_config",
    "_compiled_trainable_state",
    "_eval_epoch_iterator",
    "_jax_state",
    "_losses_override",
    "_torch_params",
    "_tracker",
    "_trainable_variables_indices",
}
# Tables of words, which Keras fills before training.
_LEFT_OUT |= {"lookup_table"}
_PLAIN = {type(None), bool, int, float, str, bytes, FunctionType, BuiltinFunctionType}
# These lead to other models that share a layer, or to the user's program.
_CLOSED_CLASSES = (type, Node, keras.KerasTensor, keras.callbacks.Callback)
_CLOSED_LIBRARIES = sys.stdlib_module_names | {"jax", "jaxlib", "numpy", "pandas", "shardkit", "tensorflow", "torch"}


@dataclass(frozen=True, slots=True)
class ModelState:
    """What a model holds.

    Attributes:
        holders: Each piece of state, by name.
        optimizers: Each optimizer, by name.
        unbuilt: Objects whose own state is yet to be made, by name.
        unsaved: What surely changes in training and cannot be saved.
    """

    holders: dict[str, Holder]
    optimizers: dict[str, Any]
    unbuilt: tuple[str, ...]
    unsaved: tuple[str, ...]

    def variables_of_optimizers(self) -> dict[str, list[str]]:
        """The names of the variables that each optimizer was built for."""
        names = {id(holder.value): name for name, holder in self.holders.items()}
        found = {}
        for name, optimizer in self.optimizers.items():
            # Older versions of Keras do not note them in an optimizer that wraps another.
            variables = getattr(optimizer, "inner_optimizer", optimizer)._trainable_variables  # noqa: SLF001
            if optimizer.built and all(id(variable) in names for variable in variables):
                found[name] = [names[id(variable)] for variable in variables]
        return found


def state_of(model: Any) -> ModelState:
    """What a model holds now.

    Args:
        model: The model.
    """
    if hasattr(model, "jax_state_sync"):
        # Within `fit` Keras may keep the values elsewhere.
        model.jax_state_sync()
    found = ModelState({}, {}, (), ())
    unbuilt, unsaved = [], []
    seen, ahead = {id(model)}, deque([(_ROOT, model)])
    while ahead:
        name, value = ahead.popleft()
        holder = holder_of(value)
        if holder is not None:
            found.holders[name] = holder
            # The same once more, where the variable of a library is part of Keras's.
            seen.add(id(getattr(value, "_value", value)) if keras.backend.backend() != "jax" else id(value))
            continue
        if cannot_be_saved(value):
            unsaved.append(f"{name} ({type(value).__name__})")
            continue
        if isinstance(value, keras.optimizers.Optimizer):
            found.optimizers[name] = value
        if getattr(value, "__dict__", {}).get("built") is False and value is not model:
            unbuilt.append(name)
        found.holders.update({f"{name}.{key}": buffer for key, buffer in buffers_of(value).items()})
        for key, part in _parts(value):
            if type(part) not in _PLAIN and id(part) not in seen:
                seen.add(id(part))
                ahead.append((f"{name}{key}", part))
    return ModelState(found.holders, found.optimizers, tuple(unbuilt), tuple(unsaved))


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value leads to, in an order that does not depend on the order in which it was made."""
    if isinstance(value, dict):
        for number, (key, part) in enumerate(value.items()):
            yield f"[{key!r}]" if isinstance(key, (str, int, float, tuple)) else f"[#{number}]", part
    elif isinstance(value, (set, frozenset)):
        for number, part in enumerate(sorted(value, key=lambda part: str(getattr(part, "name", "")))):
            yield f"[{number}]", part
    elif isinstance(value, (list, tuple, deque)):
        for number, part in enumerate(value):
            yield f"[{number}]", part
    elif isinstance(value, MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, functools.partial):
        yield from ((".func", value.func), (".args", value.args), (".keywords", value.keywords))
    elif not _is_closed(value):
        yield from ((f".{name}", part) for name, part in sorted(_attributes(value).items()))


def _is_closed(value: Any) -> bool:
    if isinstance(value, _CLOSED_CLASSES):
        return True
    if isinstance(value, SimpleNamespace) or is_a(value, "torch.nn.Module") or is_a(value, "tensorflow.Module"):
        return False
    return type(value).__module__.partition(".")[0] in _CLOSED_LIBRARIES


def _attributes(value: Any) -> dict[str, Any]:
    found = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in {"__dict__", "__weakref__"} and hasattr(value, name):
                found[name] = getattr(value, name)
    if isinstance(value, keras.optimizers.Optimizer):
        # Those of the model.
        found.pop("_trainable_variables", None)
    for store in ("_parameters", "_modules"):
        # Where torch keeps such attributes.
        found.update({**found.pop(store)} if isinstance(found.get(store), dict) else {})
    return {name: part for name, part in found.items() if name not in _LEFT_OUT and not name.startswith("_self_")}

"""Makes the variables of a model that a saved run has, as training would make them.

Where a model, a metric or an optimizer makes its variables only in its first training step, there is nothing yet to put
values into. The nearest means come first, and each only if variables are still missing.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import keras

from shardkit.adapters.keras.variables import state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shardkit.adapters.keras.saved import SavedVariables

__all__ = ["build_as_saved"]


def build_as_saved(model: Any, saved: SavedVariables, next_batch: Callable[[], Any]) -> None:
    """Give a model all variables of a saved run. Their values are put back later.

    Args:
        model: The model.
        saved: What the run had.
        next_batch: Gives the batch that training continues with, as Keras takes it.

    Raises:
        StateError: The model is another one.
    """
    for build in (_build_by_calling, _build_optimizers, _build_by_training, _build_by_evaluating):
        found = state_of(model)
        if not saved.missing_in(found):
            break
        with _scope_of(model):
            build(model, saved, next_batch)
    saved.check(state_of(model))


def _build_by_calling(model: Any, saved: SavedVariables, next_batch: Callable[[], Any]) -> None:
    """What Keras's own `fit` does, on TensorFlow only with a distribution strategy."""
    del saved
    if type(model).call in (keras.Model.call, keras.Layer.call):
        return
    # A model that is trained in another way than it is called cannot be built by a call. A training step builds it.
    with contextlib.suppress(Exception):
        model._symbolic_build(data_batch=next_batch())  # noqa: SLF001 (Keras has no public name for it)


def _build_optimizers(model: Any, saved: SavedVariables, next_batch: Callable[[], Any]) -> None:
    """Build each optimizer for the variables that it was built for."""
    del next_batch
    found = state_of(model)
    for name, variables in saved.optimizers.items():
        optimizer = found.optimizers.get(name)
        # Another optimizer may have built it as its own.
        if optimizer is None or optimizer.built or not all(each in found.holders for each in variables):
            continue
        values = [found.holders[each].value for each in variables]
        # A damaged save may name anything. Without the optimizer's variables the model is another one.
        if len({*variables}) == len(values) and all(isinstance(value, keras.Variable) for value in values):
            optimizer.build(values)


def _build_by_training(model: Any, saved: SavedVariables, next_batch: Callable[[], Any]) -> None:
    """Train one real step. All that it changes is overwritten."""
    found = state_of(model)
    if not found.unbuilt:
        # Names may still change while layers are unbuilt; here a difference is one, and a step would not help.
        saved.check(found, missing_is_fine=True)
    _run_step(model, "train", next_batch())


def _build_by_evaluating(model: Any, saved: SavedVariables, next_batch: Callable[[], Any]) -> None:
    """Evaluate one step, for what only an evaluation uses."""
    del saved
    # A model that cannot be evaluated on these data has made nothing by it either.
    with contextlib.suppress(Exception):
        _run_step(model, "test", next_batch())


def _run_step(model: Any, kind: str, batch: Any) -> None:
    """Run a step on a batch as `fit` and `evaluate` do, through Keras's functions for single batches."""
    batch = keras.tree.map_structure(lambda array: None if array is None else keras.ops.convert_to_tensor(array), batch)
    name = f"{kind}_function"
    getattr(model, f"make_{name}")()
    function = getattr(model, name)

    def on_batch(*arguments: Any) -> Any:
        # The functions for single batches make inputs, targets and weights of what they are given; `fit` gives a batch
        # as it is. And they cannot take all results of a step that `fit` takes.
        *state, batches = arguments
        if isinstance(batches, list):
            function([batches[0][0]])
            return {}
        result = function(*state, (given[0] for given in batches))
        return ({}, result[1]) if state else {}

    setattr(model, name, on_batch)
    try:
        getattr(model, f"{kind}_on_batch")(batch, return_dict=True)
    finally:
        setattr(model, name, function)


@contextlib.contextmanager
def _scope_of(model: Any) -> Iterator[None]:
    """On TensorFlow, variables are made where the model's strategy wants them."""
    strategy = getattr(model, "_distribute_strategy", None)
    with contextlib.nullcontext() if strategy is None else strategy.scope():
        yield

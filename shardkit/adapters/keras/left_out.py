"""Says what a run does not save, once for each thing."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from shardkit.adapters.keras.randomness import unsaved_operations
from shardkit.errors import ShardkitWarning

if TYPE_CHECKING:
    from shardkit.adapters.keras.callbacks import OtherCallbacks

__all__ = ["LeftOut"]


class LeftOut:
    """What is not saved of a model and of the callbacks.

    Args:
        model: The model.
        others: The callbacks.
    """

    def __init__(self, model: Any, others: OtherCallbacks) -> None:
        self._model = model
        self._others = others
        self._is_first = True

    def tell(self, unsaved: tuple[str, ...]) -> None:
        """Name it. What of the model is not saved is the same at each save, and is named at the first.

        Args:
            unsaved: What surely changes in training and cannot be saved of the model.
        """
        changed = self._others.undeclared()
        if changed:
            _warn(
                f"Resume does not save {', '.join(changed)}, which changed in training. If it is progress, declare it "
                'in the class: resume_attributes = ("name", ...), of numbers, texts, arrays, and lists and '
                "dictionaries of them. If nothing is, declare resume_attributes = ()"
            )
        if not self._is_first:
            return
        self._is_first = False
        compiled = [f"{name} of tf.random" for name in unsaved_operations(self._model.train_function)]
        if unsaved or compiled:
            _warn(
                f"Resume does not save {', '.join([*unsaved, *compiled])}. It saves variables of models, and "
                "generators such as those of keras.random"
            )


def _warn(text: str) -> None:
    warnings.warn(text, ShardkitWarning, stacklevel=4)

"""What the other callbacks of a run have come to hold, such as counters of patience and the history."""

from __future__ import annotations

from typing import Any

import keras

from shardkit.adapters.keras.snapshot import from_plain, to_plain

__all__ = ["OtherCallbacks"]

# Objects of Keras's own callbacks that are made anew and hold nothing of the run.
_KERAS = "keras."
_NOT_PLAIN = object()
# Keras's monitoring callbacks turn the sign of `min_delta` when they first see their metric, in each run anew.
_NOT_STATE = {"model", "_model", "params", "validation_data", "min_delta"}


class OtherCallbacks:
    """The callbacks beside `Resume`, in their order.

    Args:
        callbacks: The callbacks, before training begins.
    """

    def __init__(self, callbacks: list[Any]) -> None:
        self._callbacks = [each for each in callbacks if not isinstance(each, keras.callbacks.ProgbarLogger)]
        self._baselines = [_plain_values(callback) for callback in self._callbacks]

    def save(self, arrays: dict[str, Any]) -> list[dict[str, Any]]:
        """What they have come to hold since they were made.

        Args:
            arrays: Takes the arrays.

        Returns:
            The part of the document, for `put_back`.
        """
        entries = []
        for number, (callback, baseline) in enumerate(zip(self._callbacks, self._baselines, strict=True)):
            changed = [
                name
                for name, value in _plain_values(callback).items()
                if value is not _NOT_PLAIN and value != baseline.get(name, _NOT_PLAIN)
            ]
            state = {name: to_plain(getattr(callback, name), f"callback.{number}.{name}", arrays) for name in changed}
            entries.append({"name": type(callback).__name__, "state": state})
        return entries

    def unsaved(self) -> list[str]:
        """What of them cannot be saved."""
        return [
            f"{name} of {type(callback).__name__}"
            for callback in self._callbacks
            if not type(callback).__module__.startswith(_KERAS)
            for name, value in _plain_values(callback).items()
            if value is _NOT_PLAIN
        ]

    def put_back(self, entries: list[dict[str, Any]], arrays: dict[str, Any]) -> None:
        """Give them back what they held.

        Args:
            entries: As `save` gave them.
            arrays: The arrays.
        """
        # By name, and in order among those of one name; one that is no longer in the list has nothing to get.
        left = list(self._callbacks)
        for entry in entries:
            callback = next((each for each in left if type(each).__name__ == entry["name"]), None)
            if callback is not None:
                left.remove(callback)
                for name, value in entry["state"].items():
                    setattr(callback, name, from_plain(value, arrays))


def _plain_values(callback: Any) -> dict[str, Any]:
    """A callback's attributes as values that stay what they are now; functions and the model left out."""
    found: dict[str, Any] = {}
    for attribute, value in vars(callback).items():
        if attribute in _NOT_STATE or callable(value):
            continue
        arrays: dict[str, Any] = {}
        try:
            plain = to_plain(value, attribute, arrays)
        except TypeError:
            found[attribute] = _NOT_PLAIN
        else:
            found[attribute] = (plain, {name: array.tobytes() for name, array in arrays.items()})
    return found

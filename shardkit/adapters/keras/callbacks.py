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
        # What an earlier save had. A callback that is used again may hold it before training begins.
        self._put_back: list[set[str]] = [set() for _ in self._callbacks]

    def save(self, arrays: dict[str, Any]) -> list[dict[str, Any]]:
        """What they have come to hold since they were made.

        Args:
            arrays: Takes the arrays.

        Returns:
            The part of the document, for `put_back`.
        """
        entries = []
        each = zip(self._callbacks, self._baselines, self._put_back, strict=True)
        for number, (callback, baseline, before) in enumerate(each):
            changed = [
                name
                for name, value in _plain_values(callback).items()
                if value is not _NOT_PLAIN and (name in before or value != baseline.get(name, _NOT_PLAIN))
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
        left = list(range(len(self._callbacks)))
        for entry in entries:
            found = [number for number in left if type(self._callbacks[number]).__name__ == entry["name"]]
            if found:
                left.remove(found[0])
                self._put_back[found[0]].update(entry["state"])
                for name, value in entry["state"].items():
                    setattr(self._callbacks[found[0]], name, from_plain(value, arrays))


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

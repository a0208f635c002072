"""A position in the data as a small JSON document: the same on every rank, good for any number of ranks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from shardkit.errors import StateError

if TYPE_CHECKING:
    from shardkit.loader.order import OrderNumbers

__all__ = ["STATE_VERSION", "Position", "ProgressTracker", "make_state", "read_state"]

STATE_VERSION = 1
MAX_STATE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place between two batches.

    Attributes:
        epoch: The epoch, from 0.
        step: The next step of that epoch, from 0.
    """

    epoch: int
    step: int

    def after(self, num_batches: int, num_steps: int) -> Position:
        """The position after some more batches, where an epoch has ``num_steps`` of them."""
        epochs, step = divmod(self.step + num_batches, num_steps)
        return Position(self.epoch + epochs, step)


class ProgressTracker:
    """How far training has come: what a training run and the framework's data set tell each other.

    A framework reads ahead, so its data set cannot tell what was trained on; the one that counts training steps can.

    Args:
        position: Where the data that was not trained on begins.
        num_steps: Steps in an epoch.

    Attributes:
        position: The same, kept up to date by `advance`.
        lead: Placeholders that the data set hands out first, for a framework that counts steps from the epoch's start.
        endless: Whether the data continue with the next epoch by themselves; set by the data set.
    """

    def __init__(self, position: Position, num_steps: int) -> None:
        self.position = position
        self.lead = 0
        self.endless = False
        self._num_steps = num_steps

    def advance(self, num_batches: int) -> None:
        """Count batches that were trained on; unless `endless`, never past the end of an epoch."""
        rest = self._num_steps - self.position.step
        taken = num_batches if self.endless else min(num_batches, rest)
        self.position = self.position.after(taken, self._num_steps)


def make_state(order: OrderNumbers, split: str, position: Position) -> dict[str, Any]:
    """The document for a position.

    Args:
        order: What decides the order.
        split: The split's name.
        position: The position.

    Returns:
        A dictionary of plain values for `json.dumps`.
    """
    return {
        "shardkit_state": STATE_VERSION,
        "split": split,
        "epoch": position.epoch,
        "step": position.step,
        "order": asdict(order),
    }


def read_state(state: Mapping[str, Any] | str | bytes, order: OrderNumbers, split: str) -> Position:
    """The position in a document, which must be one of this very order.

    Args:
        state: What `make_state` gave, or the same as JSON.
        order: What decides the order here.
        split: The split's name here.

    Returns:
        The position.

    Raises:
        StateError: It is no such document, of a newer version, or of another data set or order.
    """
    document = _document(state)
    expected = {"split": document["split"], **document["order"]}
    found = {"split": split, **asdict(order)}
    # The data set first: where that differs, the other numbers do too, and saying so would mislead.
    for name in ("fingerprint", *sorted(found, key=lambda name: name != "split")):
        if expected.get(name) != found[name]:
            what = "data set" if name == "fingerprint" else name
            raise StateError(
                f"the saved position belongs to another {what}",
                setting=name, expected=expected.get(name), found=found[name],
                advice="A position only means something in the order it was saved in",
            )  # fmt: skip
    position = Position(document["epoch"], document["step"])
    if position.step > order.num_steps:
        raise StateError(
            "the saved step lies behind the end of the epoch",
            setting="step", expected=position.step, found=order.num_steps,
        )  # fmt: skip
    return position.after(0, order.num_steps)


def _document(state: Mapping[str, Any] | str | bytes) -> Mapping[str, Any]:
    try:
        if isinstance(state, (str, bytes)) and len(state) > MAX_STATE_BYTES:
            raise ValueError(f"{len(state)} bytes are too many")
        document: Mapping[str, Any] = json.loads(state) if isinstance(state, (str, bytes)) else state
        if not isinstance(document, Mapping):
            raise TypeError(f"it is a {type(document).__name__}")
        version = document["shardkit_state"]
        if type(version) is int and version > STATE_VERSION:
            raise StateError(
                "the saved position is of a newer version", setting="shardkit_state", expected=version,
                found=STATE_VERSION, advice="Upgrade shardkit",
            )  # fmt: skip
        counts = [document["epoch"], document["step"], version]
        if any(type(count) is not int or not 0 <= count < 1 << 62 for count in counts):
            raise ValueError("epoch or step is no count")
        if not isinstance(document["order"], dict) or not isinstance(document["split"], str):
            raise TypeError("order or split is missing")
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        if isinstance(exc, StateError):
            raise
        raise StateError(f"not a saved position: {exc!r}", setting="state") from exc
    return document

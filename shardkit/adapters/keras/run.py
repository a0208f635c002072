"""One call of `fit` that is saved, and continued from a save."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras

from shardkit.adapters.keras.building import build_as_saved
from shardkit.adapters.keras.randomness import random_states, restore_random_states, unsaved_operations
from shardkit.adapters.keras.saved import SavedVariables, save_variables
from shardkit.adapters.keras.snapshot import Snapshot, from_plain, read_snapshot, to_plain, write_snapshot
from shardkit.adapters.keras.variables import state_of
from shardkit.errors import ConfigError, ShardkitWarning, StateError
from shardkit.loader.state import ProgressTracker

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardkit.adapters.keras.callbacks import OtherCallbacks
    from shardkit.adapters.keras.fit import FitCall
    from shardkit.adapters.keras.stream import KerasStream
    from shardkit.loader import Loader
    from shardkit.loader.state import Position
    from shardkit.storage import Store

__all__ = ["SNAPSHOT_NAME", "Run", "RunParts"]

SNAPSHOT_NAME = "resume.npz"


@dataclass(frozen=True, slots=True)
class RunParts:
    """What takes part in a run.

    Attributes:
        model: The model.
        loader: The loader that it is trained from.
        others: The other callbacks.
        store: Where the run is saved.
        fit: The call of `fit`.
    """

    model: Any
    loader: Loader
    others: OtherCallbacks
    store: Store
    fit: FitCall


class Run:
    """A run that begins, or continues from its save.

    Args:
        parts: What takes part in it.
        stream: The data that `fit` trains from.

    Attributes:
        fit: The call of `fit`.
        skip: Steps of the first epoch that were done before.
        saved_at: When it was saved last.

    Raises:
        ConfigError: A new run cannot begin where the data stand.
        StateError: The save is of another data set, order, model or backend, or is damaged.
        StorageError: It cannot be read.
    """

    def __init__(self, parts: RunParts, stream: KerasStream) -> None:
        self.fit = parts.fit
        self.skip = 0
        self.saved_at = time.monotonic()
        self._parts = parts
        self._epoch: int | None = None
        self._begun_at: int | None = None  # the first step of the execution that began last
        self._stepped = self._warned = False
        self._logs: dict[str, Any] = {}
        # On JAX, asking a callback for its model waits for the device.
        self._steps_per_execution = parts.model.steps_per_execution
        self._restored = read_snapshot(parts.store, SNAPSHOT_NAME)
        position = self._fresh_position(stream) if self._restored is None else self._saved_position(self._restored)
        self._tracker = ProgressTracker(position, len(parts.loader))
        if self._restored is not None:
            self._resume(self._restored, lambda: _batch_at(stream, position))
        self._progress = stream.dataset.progress
        stream.follow(self._tracker)
        self._progress.follow(self._tracker, parts.fit)

    @property
    def is_put_back(self) -> bool:
        """Whether all of a save is where it was. True for a new run."""
        return self._restored is None

    @property
    def can_be_saved(self) -> bool:
        """Whether there is something to save that was not saved before."""
        # A model may have no variables before its first step.
        return self._restored is None and self._stepped

    def begin_epoch(self, epoch: int) -> None:
        """Note that Keras begins an epoch."""
        self._epoch, self._begun_at = epoch, None
        self._parts.model._initial_epoch = None  # noqa: SLF001 (it was for this call only)
        if self._restored is not None and self._restored.document["finished"]:
            # The rest was put back before Keras began the epoch, and has changed for it since.
            self._put_callbacks_back(self._restored)
            self._restored = None

    def begin_step(self, step: int) -> None:
        """Note that Keras begins an execution of its training function.

        Args:
            step: Its first step.
        """
        self._begun_at = step

    def end_step(self, logs: dict[str, Any] | None) -> None:
        """Count an execution of Keras's training function.

        Args:
            logs: What Keras says of it.
        """
        if self._begun_at is None or self._begun_at >= self.skip:
            self._stepped = True
            # Not looked at before they are saved, since a look waits for the device.
            self._logs = logs or {}
            self._tracker.advance(self._steps_per_execution)
        elif self._steps_done >= self.skip and self._restored is not None:
            # The epoch may end here, and Keras then reads its metrics.
            self._put_variables_back(self._restored)
            self._stop_if_stopped(self._restored)

    def put_back(self) -> None:
        """Put everything back. From here on steps are real."""
        assert self._restored is not None
        restored, self._restored, self.skip = self._restored, None, 0
        self._put_variables_back(restored)
        self._put_callbacks_back(restored)
        self._stop_if_stopped(restored)
        _put_random_back(restored)

    def save(self, *, at_start: bool = False, finished: bool = False) -> None:
        """Save everything.

        Args:
            at_start: Whether a step of the epoch begins. Otherwise all its steps are done.
            finished: Whether the whole run is.

        Raises:
            StorageError: It cannot be written.
        """
        self.saved_at = time.monotonic()
        if self._parts.loader.rank != 0:
            return
        found = state_of(self._parts.model)
        self._warn(found.unsaved)
        arrays: dict[str, Any] = {}
        position, epoch = self._tracker.position, self._epoch or 0
        document = {
            "backend": keras.backend.backend(),
            "epoch": epoch + 1 if finished else epoch,
            "step": 0 if finished else (self._begun_at or 0) if at_start else self._steps_done,
            "finished": finished,
            "stopped": bool(self._parts.model.stop_training),
            "logs": {name: to_plain(_plain_log(value), f"log.{name}", arrays) for name, value in self._logs.items()},
            "loader": self._parts.loader.state(position.epoch, position.step),
            **save_variables(found, arrays),
            "callbacks": self._parts.others.save(arrays),
            "random": to_plain(random_states(), "random", arrays),
        }
        write_snapshot(self._parts.store, SNAPSHOT_NAME, Snapshot(document, arrays))

    def end(self) -> None:
        """Save the finished run.

        Raises:
            StorageError: It cannot be written.
        """
        self._parts.model._initial_epoch = None  # noqa: SLF001 (it was for this call only)
        try:
            if self._restored is not None:
                # There was nothing left to train.
                self.put_back()
            elif self._epoch is not None:
                self.save(finished=True)
        finally:
            self._progress.leave()

    @property
    def _steps_done(self) -> int:
        return 0 if self._begun_at is None else self._begun_at + self._steps_per_execution

    def _fresh_position(self, stream: KerasStream) -> Position:
        position = stream.dataset.progress.position
        if self._parts.loader.position.step or (position.step and not stream.dataset.repeat):
            raise ConfigError(
                "a new run begins with an epoch, and the loader stands within one",
                setting="loader", value=position,
                advice="Make the loader without state=, or give Resume the directory of the run that it belongs to",
            )  # fmt: skip
        return position

    def _saved_position(self, restored: Snapshot) -> Position:
        backend = keras.backend.backend()
        if restored.document["backend"] != backend:
            raise StateError(
                "the saved run is of another Keras backend", setting="backend",
                expected=restored.document["backend"], found=backend,
                advice="Set KERAS_BACKEND as in the saved run, or give Resume another directory",
            )  # fmt: skip
        return self._parts.loader.position_in(restored.document["loader"])

    def _resume(self, restored: Snapshot, next_batch: Callable[[], Any]) -> None:
        document, model = restored.document, self._parts.model
        build_as_saved(model, SavedVariables.of(document, restored.arrays), next_batch)
        self._put_variables_back(restored)
        epoch = document["epoch"]
        if document["finished"]:
            # Everything is as between two epochs.
            _put_random_back(restored)
            epoch = self.fit.epochs if document["stopped"] else min(epoch, self.fit.epochs)
        elif document["step"]:
            self.skip = document["step"]
            self._step_over(restored)
        model._initial_epoch = epoch  # noqa: SLF001 (as Keras's BackupAndRestore does)

    def _step_over(self, restored: Snapshot) -> None:
        """Make Keras's train function do nothing for the first steps."""
        jax, fit = keras.backend.backend() == "jax", self.fit
        if keras.backend.backend() != "tensorflow":
            # Keras may draw a batch before it calls the train function, which draws it on TensorFlow.
            self._tracker.lead = self.skip
        model = self._parts.model
        train_function: Callable[..., Any] = model.train_function
        # Where no step follows, Keras takes the metrics of the epoch by these names.
        logs = {name: from_plain(value, restored.arrays) for name, value in restored.document["logs"].items()}

        def stepping_over(*arguments: Any) -> Any:
            # An exception may have ended this call of `fit`, and another one trains the model now.
            if self._restored is None or not fit.is_running():
                model.train_function = train_function
                return train_function(*arguments)
            if hasattr(arguments[-1], "__next__"):
                # Nobody has drawn, and nobody will.
                self._tracker.lead = 0
            return (logs, arguments[0]) if jax else logs

        model.train_function = stepping_over

    def _put_variables_back(self, restored: Snapshot) -> None:
        saved, found = SavedVariables.of(restored.document, restored.arrays), state_of(self._parts.model)
        saved.check(found)
        saved.put_into(found)

    def _put_callbacks_back(self, restored: Snapshot) -> None:
        self._parts.others.put_back(restored.document["callbacks"], restored.arrays)

    def _stop_if_stopped(self, restored: Snapshot) -> None:
        """End training where a callback ended it, which may not do so again."""
        if restored.document["stopped"]:
            self._parts.model.stop_training = True

    def _warn(self, unsaved: tuple[str, ...]) -> None:
        """Name what is not saved, once."""
        if self._warned:
            return
        self._warned = True
        compiled = [f"{name} of tf.random" for name in unsaved_operations(self._parts.model.train_function)]
        left_out = [*self._parts.others.unsaved(), *unsaved, *compiled]
        if left_out:
            warnings.warn(
                f"Resume does not save {', '.join(left_out)}. It saves numbers, texts and arrays of callbacks, and "
                "lists and dictionaries of them; variables of models; and generators such as those of keras.random",
                ShardkitWarning,
                stacklevel=2,
            )


def _batch_at(stream: KerasStream, position: Position) -> Any:
    """The batch at a position, as Keras takes it. The stream does not move."""
    batches = stream.dataset.batches_from(position)
    try:
        return stream.structured(next(batches))
    finally:
        batches.suspend()


def _put_random_back(restored: Snapshot) -> None:
    restore_random_states(from_plain(restored.document["random"], restored.arrays))


def _plain_log(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return keras.ops.convert_to_numpy(value)

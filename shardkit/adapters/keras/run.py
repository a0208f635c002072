"""One call of `fit` that is saved, and continued from a save."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras

from shardkit.adapters.keras.building import build_as_saved
from shardkit.adapters.keras.left_out import LeftOut
from shardkit.adapters.keras.positions import EpochSteps, fresh_position, saved_position
from shardkit.adapters.keras.randomness import check_random_states, random_states, restore_random_states
from shardkit.adapters.keras.saved import SavedVariables
from shardkit.adapters.keras.snapshot import Snapshot, read_snapshot, write_snapshot
from shardkit.adapters.keras.variables import state_of
from shardkit.errors import StateError
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
        StateError: The save is of another data set, order, model or backend, is damaged, or sets what no callback
            declares.
        StorageError: It cannot be read.
    """

    def __init__(self, parts: RunParts, stream: KerasStream) -> None:
        self.fit = parts.fit
        self.skip = 0
        self.saved_at = time.monotonic()
        self._parts = parts
        self._epoch: int | None = None
        self._begun_at: int | None = None  # the first step of the execution that began last
        self._stepped = False
        self._left_out = LeftOut(parts.model, parts.others)
        self._logs: dict[str, Any] = {}
        # On JAX, asking a callback for its model waits for the device.
        self._steps_per_execution = parts.model.steps_per_execution
        self._steps = EpochSteps.of(parts.fit, stream, parts.loader)
        self._restored = read_snapshot(parts.store, SNAPSHOT_NAME)
        position = (
            fresh_position(parts.loader, stream)
            if self._restored is None
            else saved_position(self._restored, parts.loader, self._steps)
        )
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
        if self._restored is not None and self._restored.finished:
            # The rest was put back before Keras began the epoch, and has changed for it since.
            self._parts.others.put_back(self._restored.callbacks, before=False)
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
        self._parts.others.put_back(restored.callbacks)
        self._stop_if_stopped(restored)
        _put_random_back(restored)

    def save(self, *, at_start: bool = False, finished: bool = False) -> None:
        """Save everything.

        Args:
            at_start: Whether a step of the epoch begins. Otherwise all its steps are done.
            finished: Whether the whole run is.

        Raises:
            ConfigError: What a callback declares cannot be saved.
            StorageError: It cannot be written.
        """
        self.saved_at = time.monotonic()
        if self._parts.loader.rank != 0:
            return
        found = state_of(self._parts.model)
        self._left_out.tell(found.unsaved)
        position, epoch = self._tracker.position, self._epoch or 0
        step = self._begun_at or 0 if at_start else self._steps_done
        snapshot = Snapshot(
            backend=keras.backend.backend(),
            epoch=epoch + 1 if finished else epoch,
            step=0 if finished else self._steps.clipped(step),
            finished=finished,
            stopped=bool(self._parts.model.stop_training),
            logs={name: _plain_log(value) for name, value in self._logs.items()},
            loader=self._parts.loader.state(position.epoch, position.step),
            variables=SavedVariables.in_model(found),
            callbacks=self._parts.others.states(),
            random=random_states(),
        )
        write_snapshot(self._parts.store, SNAPSHOT_NAME, snapshot)

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

    def _resume(self, restored: Snapshot, next_batch: Callable[[], Any]) -> None:
        model = self._parts.model
        try:
            check_random_states(restored.random)
        except ValueError as exc:
            raise _refused_random(exc) from exc
        build_as_saved(model, restored.variables, next_batch)
        restored.variables.check_values(state_of(model))
        self._parts.others.check(restored.callbacks, model.get_weights)
        self._put_variables_back(restored)
        epoch = restored.epoch
        if restored.finished:
            # Everything is as between two epochs. The callbacks that are called later begin their training later, too.
            self._parts.others.put_back(restored.callbacks, after=False)
            _put_random_back(restored)
            epoch = self.fit.epochs if restored.stopped else min(epoch, self.fit.epochs)
        elif restored.step:
            self.skip = restored.step
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
        logs = dict(restored.logs)

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
        found = state_of(self._parts.model)
        restored.variables.check(found)
        restored.variables.put_into(found)

    def _stop_if_stopped(self, restored: Snapshot) -> None:
        """End training where a callback ended it, which may not do so again."""
        if restored.stopped:
            self._parts.model.stop_training = True


def _batch_at(stream: KerasStream, position: Position) -> Any:
    """The batch at a position, as Keras takes it. The stream does not move."""
    batches = stream.dataset.batches_from(position)
    try:
        return stream.structured(next(batches))
    finally:
        batches.suspend()


def _put_random_back(restored: Snapshot) -> None:
    try:
        restore_random_states(restored.random)
    except (ValueError, TypeError, RuntimeError) as exc:
        raise _refused_random(exc) from exc


def _refused_random(exc: Exception) -> StateError:
    return StateError(
        f"the saved run has states that the random generators do not take: {exc}", setting="random",
        advice="The file is damaged, or of other versions of the libraries. Give Resume another directory",
    )  # fmt: skip


def _plain_log(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return keras.ops.convert_to_numpy(value)

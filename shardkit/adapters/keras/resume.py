"""A Keras callback that resumes a stopped run at the very next batch.

Everything is saved, and put back, at the same point of Keras's loop: when a training step is about to begin, or a
validation at an epoch's end. All callbacks have then seen the step before, whatever their order in the list. Keras
itself counts an epoch's steps from 0; those that were done before the run was stopped are stepped over without data
and without training, so that the progress bar, the callbacks and the end of the epoch come out right.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import keras

from shardkit.adapters.keras.callbacks import OtherCallbacks
from shardkit.adapters.keras.fit import FitCall, callbacks_of_caller, find_fit
from shardkit.adapters.keras.run import Run, RunParts
from shardkit.adapters.keras.run_lock import RunLock, lock_run
from shardkit.errors import ConfigError
from shardkit.storage import StoreOptions, check_environment, open_store, without_secrets

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from shardkit.adapters.keras.stream import KerasStream
    from shardkit.loader import Loader

__all__ = ["ResumeCallback"]


class ResumeCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Saves the run while it trains, and continues from the last save when it is started again.

    A copy by `copy.deepcopy` has the same loader. Copies know nothing of a run.

    Args:
        loader: The loader that ``fit`` trains from, through `to_keras`.
        directory: Where the run is saved.
        every: Seconds between saves within an epoch; ``None`` saves at epochs only.
        storage_options: For a directory in a bucket: as the loader's.

    Raises:
        ConfigError: A setting is wrong.
    """

    # Another one beside it has nothing to save.
    resume_attributes = ()

    def __init__(
        self,
        loader: Loader,
        directory: str | os.PathLike[str],
        *,
        every: float | None = 60.0,
        storage_options: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        if every is not None and not (isinstance(every, int | float) and every >= 0):
            raise ConfigError("every must be seconds, at least 0, or None", setting="every", value=every)
        self._loader = loader
        self._settings = {"directory": directory, "every": every, "storage_options": storage_options}
        self._directory = directory
        self._storage = StoreOptions(storage_options={} if storage_options is None else storage_options)
        self._store = open_store(directory, self._storage)
        self._every = every
        self._others = OtherCallbacks([])
        self._run: Run | None = None
        self._lock: RunLock | None = None

    def set_model(self, model: Any) -> None:
        """Called by Keras's list of callbacks, which is where the others are found.

        Raises:
            ConfigError: `resume_attributes` of one of them is no tuple of names.
        """
        super().set_model(model)
        callbacks = callbacks_of_caller()
        place = next((number for number, callback in enumerate(callbacks) if callback is self), len(callbacks))
        self._others = OtherCallbacks(callbacks[:place], callbacks[place + 1 :])

    def on_train_begin(self, logs: Any = None) -> None:
        """Put the run back, if there is one.

        Raises:
            ConfigError: ``fit`` trains from other data than the loader's, another run trains with the directory, or a
                new run cannot begin where the data stand.
            StateError: The save is of another data set, order, model or backend, or is damaged.
            StorageError: The save cannot be read, or the directory cannot be locked.
        """
        del logs
        self._run = None
        fit, stream = find_fit(self._model)
        self._check_data(stream, fit)
        # One rank saves; the others only read.
        self._lock = lock_run(self._store, fit) if self._loader.rank == 0 else None
        parts = RunParts(self._model, self._loader, self._others, self._store, fit)
        try:
            self._run = Run(parts, stream)
        except BaseException:
            self._unlock()
            raise

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch."""
        del logs
        if self._run is not None:
            self._run.begin_epoch(epoch)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Put everything back before the first real step; save before others, when it is time."""
        del logs
        run = self._run
        if run is None:
            return
        run.begin_step(batch)
        if batch < run.skip:
            return
        if not run.is_put_back:
            run.put_back()
        elif run.can_be_saved and (batch == 0 or self._is_time(run)):
            run.save(at_start=True)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count what was trained on."""
        # With several steps in one execution, Keras tells the first or the last of them, depending on its version.
        del batch
        if self._run is not None:
            self._run.end_step(logs)

    def on_test_begin(self, logs: Any = None) -> None:
        """Save at the end of an epoch's training, so that a kill during its validation loses nothing."""
        del logs
        run = self._run
        # It may also be given to `evaluate` itself, after an exception ended `fit`.
        if run is None or not run.fit.is_running():
            return
        if not run.is_put_back:
            run.put_back()
        else:
            run.save()

    def on_train_end(self, logs: Any = None) -> None:
        """Save the finished run.

        Raises:
            StorageError: It cannot be written.
        """
        del logs
        run, self._run = self._run, None
        try:
            if run is not None:
                run.end()
        finally:
            self._unlock()

    def __deepcopy__(self, memo: dict[int, Any]) -> ResumeCallback:
        # The same loader, since `fit` must train from it.
        return _make(memo.get(id(self._loader), self._loader), self._settings)

    def __reduce__(self) -> Any:
        portable, left_out = without_secrets(self._directory, self._storage)
        return _make, (self._loader, {**self._settings, "storage_options": portable}, left_out)

    def _is_time(self, run: Run) -> bool:
        return self._every is not None and time.monotonic() - run.saved_at >= self._every

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    def _check_data(self, stream: KerasStream, fit: FitCall) -> None:
        loader = stream.dataset.loader
        if loader is not self._loader:
            raise ConfigError(
                f"Resume was given another loader than fit trains from: {self._loader!r} instead of {loader!r}",
                setting="loader", advice="Give the same loader object to shardkit.to_keras and to shardkit.Resume",
            )  # fmt: skip
        if fit.steps_per_epoch not in {None, len(loader)} and not stream.dataset.repeat:
            raise ConfigError(
                f"an epoch of fit has {fit.steps_per_epoch} steps, an epoch of the data has {len(loader)}, and Resume "
                "can count such steps only where data repeat",
                setting="steps_per_epoch", value=fit.steps_per_epoch,
                advice="Give fit shardkit.to_keras(loader, repeat=True)",
            )  # fmt: skip


def _make(loader: Loader, settings: dict[str, Any], left_out: tuple[str, ...] = ()) -> ResumeCallback:
    check_environment(settings["directory"], left_out)
    return ResumeCallback(loader, **settings)

"""A Keras callback that makes a run go on at the very next batch.

Everything is saved, and put back, at the same point of Keras's loop: when a training step is about to begin, or a
validation at an epoch's end. All callbacks have then seen the step before, whatever their order in the list. Keras
itself counts an epoch's steps from 0; those that were done before the run was stopped are stepped over without data
and without training, so that the progress bar, the callbacks and the end of the epoch come out right.
"""

from __future__ import annotations

import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from shardkit.adapters.snapshot import Snapshot, from_plain, read_snapshot, to_plain, write_snapshot
from shardkit.errors import ConfigError, ShardkitWarning, StateError
from shardkit.storage import StoreOptions, open_store

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from shardkit.loader import Loader

__all__ = ["ResumeCallback"]

SNAPSHOT_NAME = "resume.npz"
# Objects of Keras's own callbacks that are made anew and hold nothing of the run.
_KERAS = "keras."
_NOT_PLAIN = object()
# Keras's monitoring callbacks turn the sign of `min_delta` when they first see their metric, in each run anew.
_NOT_STATE = {"model", "_model", "params", "validation_data", "min_delta"}


class ResumeCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Saves the run while it trains, and goes on from the last save when it is started again.

    Args:
        loader: The loader that ``fit`` trains from, through `to_keras`.
        directory: Where the save lies.
        every: Seconds between saves within an epoch; ``None`` saves at epochs only.
        storage_options: For a directory in a bucket: as the loader's.
    """

    def __init__(
        self,
        loader: Loader,
        directory: str | os.PathLike[str],
        *,
        every: float | None = 60.0,
        storage_options: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        if every is not None and not every >= 0:
            raise ConfigError("every must be seconds, at least 0, or None", setting="every", value=every)
        self._loader = loader
        self._store = open_store(directory, StoreOptions(storage_options=storage_options or {}))
        self._every = every
        self._others: list[Any] = []
        self._baselines: list[dict[str, Any]] = []
        self._restored: Snapshot | None = None
        self._epoch = 0
        self._skip = 0
        self._logs: dict[str, Any] = {}
        self._steps_per_execution = 1
        self._begun_at = 0
        self._stepped = False
        self._warned = False
        self._saved_at = 0.0

    def set_model(self, model: Any) -> None:
        """Called by Keras's list of callbacks, which is where the others are found."""
        super().set_model(model)
        # Keras hands a callback its model but not its list; the list is the caller of this method.
        caller = sys._getframe(1).f_locals.get("self")  # noqa: SLF001
        found = caller.callbacks if isinstance(caller, keras.callbacks.CallbackList) else []
        self._others = [callback for callback in found if callback is not self and _has_state(callback)]
        self._baselines = [_plain_values(callback) for callback in self._others]

    def on_train_begin(self, logs: Any = None) -> None:
        """Put the run back, if there is one."""
        del logs
        self._saved_at = time.monotonic()
        self._skip = 0
        self._stepped = False
        self._steps_per_execution = self.model.steps_per_execution
        self._handover = self._loader.hand_over()
        self._restored = read_snapshot(self._store, SNAPSHOT_NAME)
        if self._restored is None:
            return
        document = self._restored.document
        self._loader.resume(document["loader"])
        self._handover = self._loader.hand_over()
        self.model._symbolic_build(data_batch=self._loader.zeros(0))  # noqa: SLF001 (what Keras's own fit calls)
        self._put_variables_back()
        epoch, self._skip = document["epoch"], document["step"]
        if document["finished"] and (document["stopped"] or epoch >= self.params["epochs"]):
            epoch = self.params["epochs"]
        else:
            self._step_over(self._skip)
        self.model._initial_epoch = epoch  # noqa: SLF001 (as Keras's BackupAndRestore does)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch."""
        del logs
        self._epoch = epoch
        self.model._initial_epoch = 0  # noqa: SLF001 (it was for this fit only)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Put everything back before the first real step; save before others, when it is time."""
        del logs
        self._begun_at = batch
        if batch < self._skip:
            return
        if self._restored is not None:
            self._put_back()
        elif not self._stepped:
            # A model may have no variables before its first step, and there is nothing to lose yet.
            return
        elif batch == 0 or (self._every is not None and time.monotonic() - self._saved_at >= self._every):
            self._save(step=batch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count what was trained on."""
        # With several steps in one execution, `batch` is the last of them, which the epoch may not even have.
        if self._begun_at < self._skip:
            if batch >= self._skip - 1:
                # The epoch may end here, and Keras then reads its metrics.
                self._put_variables_back()
            return
        self._stepped = True
        # Not looked at before they are saved: a look waits for the device, and on JAX the model's does too.
        self._logs = logs or {}
        self._handover.advance(self._steps_per_execution)

    def on_test_begin(self, logs: Any = None) -> None:
        """Save at the end of an epoch's training, so that a kill during its validation loses nothing."""
        del logs
        if self._restored is not None:
            self._put_back()
        else:
            self._save(step=self.params["steps"] or 0)

    def on_train_end(self, logs: Any = None) -> None:
        """Save the finished run."""
        del logs
        if self._restored is not None:
            # There was nothing left to train.
            self._put_back()
        else:
            self._save(step=0, epoch=self._epoch + 1, finished=True)

    def _step_over(self, steps: int) -> None:
        """Make Keras's train function do nothing for the first steps."""
        jax = keras.backend.backend() == "jax"
        if keras.backend.backend() != "tensorflow":
            # TensorFlow draws ahead of the train function. Others may draw before they call it, or it draws itself.
            self._handover.lead = steps
        # On JAX, asking the callback for its model drops what the train function is about to give.
        model = self.model
        train_function: Callable[..., Any] = model.train_function
        assert self._restored is not None
        # Where no step follows, Keras takes the metrics of the epoch by these names.
        logs = self._restored.document["logs"]

        def stepping_over(*arguments: Any) -> Any:
            if self._restored is None:
                model.train_function = train_function
                return train_function(*arguments)
            if hasattr(arguments[-1], "__next__"):
                # Nobody has drawn, and nobody will.
                self._handover.lead = 0
            return (logs, arguments[0]) if jax else logs

        if steps:
            model.train_function = stepping_over

    def _variables(self) -> list[Any]:
        model = self.model
        if hasattr(model, "jax_state_sync"):
            model.jax_state_sync()
        found = [*model.variables, *model.metrics_variables]
        found += model.optimizer.variables if model.optimizer is not None else []
        return list({id(variable): variable for variable in found}.values())

    def _save(self, *, step: int, epoch: int | None = None, finished: bool = False) -> None:
        self._saved_at = time.monotonic()
        if self._loader.rank != 0:
            return
        arrays: dict[str, Any] = {}
        described = []
        for number, variable in enumerate(self._variables()):
            value = variable.numpy()
            described.append({"path": variable.path, "shape": list(value.shape), "dtype": str(value.dtype)})
            arrays[f"variable.{number}"] = np.frombuffer(value.tobytes(), dtype=np.uint8)
        callbacks = []
        for number, (callback, baseline) in enumerate(zip(self._others, self._baselines, strict=True)):
            state = self._state_of(callback, baseline, f"callback.{number}", arrays)
            callbacks.append({"name": type(callback).__name__, "state": state})
        self._warned = True
        position = self._handover.position
        document = {
            "epoch": self._epoch if epoch is None else epoch,
            "step": step,
            "finished": finished,
            "stopped": bool(self.model.stop_training),
            "logs": {name: float(value) for name, value in self._logs.items()},
            "loader": self._loader.state(position.epoch, position.step),
            "variables": described,
            "callbacks": callbacks,
        }
        write_snapshot(self._store, SNAPSHOT_NAME, Snapshot(document, arrays))

    def _state_of(self, callback: Any, baseline: dict[str, Any], name: str, arrays: dict[str, Any]) -> dict[str, Any]:
        """What a callback has come to hold since it was made."""
        now = _plain_values(callback)
        left = [attribute for attribute, value in now.items() if value is _NOT_PLAIN]
        if left and not self._warned and not type(callback).__module__.startswith(_KERAS):
            warnings.warn(
                f"Resume does not save {', '.join(left)} of {type(callback).__name__}: only numbers, texts and arrays, "
                "and lists and dictionaries of them, are saved",
                ShardkitWarning,
                stacklevel=2,
            )
        changed = [key for key, value in now.items() if key not in left and value != baseline.get(key, _NOT_PLAIN)]
        return {key: to_plain(getattr(callback, key), f"{name}.{key}", arrays) for key in changed}

    def _put_back(self) -> None:
        """Put everything back; from here on steps are real."""
        self._put_variables_back()
        self._skip = 0
        assert self._restored is not None
        if self._restored.document["step"] == 0:
            # The end of a run holds the metrics of its last epoch; this one begins.
            self.model.reset_metrics()
        # By name, and in order among those of one name; one that is no longer in the list has nothing to get.
        left = list(self._others)
        for entry in self._restored.document["callbacks"]:
            callback = next((each for each in left if type(each).__name__ == entry["name"]), None)
            if callback is not None:
                left.remove(callback)
                for attribute, value in entry["state"].items():
                    setattr(callback, attribute, from_plain(value, self._restored.arrays))
        self._restored = None

    def _put_variables_back(self) -> None:
        if self._restored is None:
            return
        variables = self._variables()
        described = self._restored.document["variables"]
        values = [variable.numpy() for variable in variables]
        found = [(list(value.shape), str(value.dtype)) for value in values]
        if found != [(entry["shape"], entry["dtype"]) for entry in described]:
            raise StateError(
                "the saved run is of another model", setting="variables",
                expected=len(described), found=len(variables),
                advice="Begin another directory, or delete the save; a save belongs to one Keras backend",
            )  # fmt: skip
        for number, (variable, value) in enumerate(zip(variables, values, strict=True)):
            raw = self._restored.arrays[f"variable.{number}"]
            variable.assign(np.frombuffer(raw.tobytes(), dtype=value.dtype).reshape(value.shape))


def _has_state(callback: Any) -> bool:
    return not isinstance(callback, keras.callbacks.ProgbarLogger)


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

"""Which attributes of Keras's own callbacks are progress of a run, and of which kind.

This is for Keras 3.7 to 3.15. Whatever else a callback has is a setting, or is made anew when training begins. A saved
run may set these attributes and no others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ANY", "COUNT", "KERAS_CALLBACKS", "Attributes", "Kind", "attributes_of"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What an attribute can be.

    Attributes:
        name: What to call it.
        fits: Whether a value is of this kind.
        of_model: Whether it is as many arrays as the model has weights, each of the same shape and type.
        is_users: Whether a class of the user's declares it, which says no kind.
    """

    name: str
    fits: Callable[[Any], bool]
    of_model: bool = False
    is_users: bool = False


@dataclass(frozen=True, slots=True)
class Attributes:
    """The attributes of a class of Keras.

    Attributes:
        saved: What a run saves, and its kind.
        anew: What changes in training and is made anew, or is the model's.
    """

    saved: Mapping[str, Kind] = field(default_factory=dict)
    anew: frozenset[str] = frozenset()


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: Any) -> bool:
    return value is None or type(value) in (int, float) or (isinstance(value, np.generic) and value.dtype.kind in "iuf")


def _is_list_of(value: Any, kind: type) -> bool:
    return type(value) is list and all(type(item) is kind for item in value)


def _is_history(value: Any) -> bool:
    return type(value) is dict and all(type(name) is str and type(each) is list for name, each in value.items())


ANY = Kind("anything", lambda _: True, is_users=True)
COUNT = Kind("a count", _is_count)
_COUNT_OR_NONE = Kind("a count or None", lambda value: value is None or _is_count(value))
_NUMBER = Kind("a number or None", _is_number)
_FLAG = Kind("True or False", lambda value: type(value) is bool)
_EPOCHS = Kind("a list of epochs", lambda value: _is_list_of(value, int) and all(epoch >= 0 for epoch in value))
_NAMES = Kind("a list of texts or None", lambda value: value is None or _is_list_of(value, str))
_HISTORY = Kind("a dictionary of lists", _is_history)
_WEIGHTS = Kind(
    "the model's weights or None",
    lambda value: value is None or (type(value) is list and all(isinstance(item, np.ndarray) for item in value)),
    of_model=True,
)

_BATCHES = {"_batches_seen_since_last_saving": COUNT, "_last_batch_seen": _COUNT_OR_NONE}
# Found, and the sign of `min_delta` turned, when the metric is first seen in each run.
_MONITOR = frozenset({"monitor_op", "min_delta", "mode"})

KERAS_CALLBACKS: Mapping[str, Attributes] = MappingProxyType(
    {
        "BackupAndRestore": Attributes({**_BATCHES, "_current_epoch": COUNT}),
        # The file says whether it has a header. Its columns are those of the first epoch.
        "CSVLogger": Attributes({"keys": _NAMES}, frozenset({"append_header", "csv_file", "writer"})),
        "Callback": Attributes(anew=frozenset({"_model", "model", "params", "validation_data"})),
        "EarlyStopping": Attributes(
            {"best": _NUMBER, "best_epoch": COUNT, "best_weights": _WEIGHTS, "stopped_epoch": COUNT, "wait": COUNT},
            _MONITOR,
        ),
        "History": Attributes({"epoch": _EPOCHS, "history": _HISTORY}),
        "LambdaCallback": Attributes(),
        "LearningRateScheduler": Attributes(),
        # Each epoch tells its number before it begins.
        "ModelCheckpoint": Attributes({**_BATCHES, "best": _NUMBER}, _MONITOR | {"_current_epoch"}),
        "MonitorCallback": Attributes({"best": _NUMBER}, _MONITOR),
        "OrbaxCheckpoint": Attributes(
            {**_BATCHES, "_total_batches_seen": COUNT, "best": _NUMBER}, _MONITOR | {"_async_futures"}
        ),
        "ReduceLROnPlateau": Attributes({"best": _NUMBER, "cooldown_counter": _NUMBER, "wait": COUNT}, _MONITOR),
        "RemoteMonitor": Attributes(),
        "SwapEMAWeights": Attributes({"_ema_weights_in_model": _FLAG}),
        # Steps per second are those since the run was started again.
        "TensorBoard": Attributes(
            {"_global_test_batch": COUNT, "_global_train_batch": COUNT},
            frozenset(
                {
                    "_batch_start_time",
                    "_batch_trace_context",
                    "_epoch_start_time",
                    "_is_tracing",
                    "_log_write_dir",
                    "_prev_summary_state",
                    "_previous_epoch_iterations",
                    "_profiler_started",
                    "_should_trace",
                    "_should_write_train_graph",
                    "_start_batch",
                    "_stop_batch",
                    "_summary_module",
                    "_train_accumulated_time",
                    "_train_dir",
                    "_val_dir",
                    "_writers",
                }
            ),
        ),
        "TerminateOnNaN": Attributes(),
    }
)


def attributes_of(names: list[str]) -> Attributes:
    """The attributes of a class that is derived from classes of Keras.

    Args:
        names: The names of those classes of Keras.
    """
    known = [KERAS_CALLBACKS[name] for name in names if name in KERAS_CALLBACKS]
    return Attributes(
        {name: kind for each in known for name, kind in each.saved.items()},
        frozenset(name for each in known for name in each.anew),
    )

"""Finds the call of Keras's `fit` that runs a callback.

Keras tells a callback its model, but neither its list of callbacks nor the data that `fit` trains from. Both must be
known exactly: `Resume` counts the batches of one stream of data, and a wrong one would be counted in silence. Both are
plain local variables of functions that are on the stack whenever a callback is called: `fit` names its data
`epoch_iterator`, and a list of callbacks calls `set_model` of each. All access to frames is in this module.

No frame is kept: a frame holds all that its function holds, such as the user's data, and cannot be referenced weakly.
A call of `fit` is recognized again by its stream, which no other call shares.

Of another thread only the functions that it runs are looked at, and no variables. Frames of a thread end with it, and
Python 3.11 reads what was freed where the garbage collector lets a thread end in the midst of a look (CPython's issue
106883). So the collector rests meanwhile.
"""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras

from shardkit.adapters.keras.stream import STREAMS, KerasStream
from shardkit.errors import ConfigError
from shardkit.process import renew_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

    from shardkit.adapters.keras.dataset import KerasDataset

__all__ = ["FitCall", "callbacks_of_caller", "find_fit"]


@dataclass(frozen=True, slots=True)
class FitCall:
    """One call of `fit`.

    Attributes:
        code: The code of the function.
        thread: The thread that runs it.
        stream: The data that it trains from. The call must not keep them alive.
        epochs: As `fit` takes it.
        steps_per_epoch: As `fit` takes it.
    """

    code: CodeType
    thread: int
    stream: weakref.ref[KerasStream]
    epochs: int
    steps_per_epoch: int | None

    def is_running(self) -> bool:
        """Whether the call is on its thread's stack. After an exception it is not.

        Another thread that runs `fit` is taken to run this call.
        """
        stream = self.stream()
        if stream is None:
            return False
        if self.thread != threading.get_ident():
            return _runs(self.thread, lambda code: code is self.code)
        frames = _outwards(sys._getframe(1))  # noqa: SLF001 (see the module)
        return any(frame.f_code is self.code and _data_of(frame) is stream for frame in frames)


def find_fit(model: Any) -> tuple[FitCall, KerasStream]:
    """The call of `fit` that trains a model, for a callback that runs within it.

    Args:
        model: The model.

    Returns:
        The call, and the data that it trains from.

    Raises:
        ConfigError: There is no such call, or it trains from other data than `to_keras` gives.
    """
    for frame in _outwards(sys._getframe(1)):  # noqa: SLF001 (see the module)
        # A model's own `fit` may call Keras's; only Keras's has these variables.
        if frame.f_code.co_name == "fit" and frame.f_locals.get("self") is model and "epoch_iterator" in frame.f_locals:
            data = _data_of(frame)
            if isinstance(data, KerasStream):
                steps = frame.f_locals["epoch_iterator"].steps_per_epoch
                thread = threading.get_ident()
                return FitCall(frame.f_code, thread, weakref.ref(data), frame.f_locals["epochs"], steps), data
            raise ConfigError(
                f"Resume counts the batches of shardkit.to_keras, and fit trains from a {type(data).__name__}",
                setting="x", advice="Give fit shardkit.to_keras(loader) itself, and what changes its batches as map=",
            )  # fmt: skip
    raise ConfigError("Resume works inside model.fit only", advice="Give it to model.fit(callbacks=[...])")


def suspend_idle_streams() -> None:
    """Suspend the streams of calls of Keras that are over.

    A call that ends before its data leaves its stream to the garbage collector, which may come late. A stream that is
    suspended by mistake only reads ahead anew.
    """
    here = threading.get_ident()
    running = {id(_data_of(frame)) for frame in _outwards(sys._getframe(1))}  # noqa: SLF001 (see the module)
    for stream in STREAMS.all():
        if id(stream) not in running and (stream.thread == here or not _runs(stream.thread, _has_data)):
            stream.suspend()


def is_read_by_caller(dataset: KerasDataset) -> bool:
    """Whether a call of Keras that reads a data set is among the callers.

    Args:
        dataset: The data set.
    """
    streams = (_data_of(frame) for frame in _outwards(sys._getframe(1)))  # noqa: SLF001 (see the module)
    return any(isinstance(stream, KerasStream) and stream.dataset is dataset for stream in streams)


def callbacks_of_caller() -> list[Any]:
    """The list of callbacks that calls `set_model` of one of them; empty if something else does."""
    for frame in _outwards(sys._getframe(1)):  # noqa: SLF001 (see the module)
        if frame.f_code.co_name == "set_model" and isinstance(frame.f_locals.get("self"), keras.callbacks.CallbackList):
            return list(frame.f_locals["self"].callbacks)
    return []


def _runs(thread: int, is_meant: Callable[[CodeType], bool]) -> bool:
    """Whether another thread runs one of some functions, told by their code."""
    with _COLLECTOR.resting():
        top = sys._current_frames().get(thread)  # noqa: SLF001 (the only way to see other threads)
        return any(is_meant(frame.f_code) for frame in _outwards(top))


class _Collector:
    """Python's garbage collector."""

    def __init__(self) -> None:
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Make the lock anew."""
        self._lock = threading.Lock()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Let it rest as long as the block runs, unless it does."""
        with self._lock:
            was_enabled = gc.isenabled()
            gc.disable()
            try:
                yield
            finally:
                if was_enabled:
                    gc.enable()


_COLLECTOR = _Collector()


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _has_data(code: CodeType) -> bool:
    return "epoch_iterator" in code.co_varnames


def _data_of(frame: FrameType) -> Any:
    if not _has_data(frame.f_code):
        return None
    return getattr(frame.f_locals.get("epoch_iterator"), "data_adapter", None)

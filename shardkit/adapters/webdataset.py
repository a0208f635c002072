"""Samples as webdataset's stages take them."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import sys
import threading
import weakref
from collections import Counter
from contextlib import contextmanager
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from shardkit.loader import Loader

__all__ = ["WebDatasetSamples"]

# The end of the log that is searched: 4,096 passes of four numbers.
_TAIL_BYTES = 4096 * 32
# Where no `DataLoader` drew a base seed. Drawn ones are never negative.
_NO_SEED = -1

# A file's lock does not stop other threads of the same process. No child may inherit this one while it is held.
_thread_lock = threading.Lock()
os.register_at_fork(
    before=_thread_lock.acquire, after_in_parent=_thread_lock.release, after_in_child=_thread_lock.release
)


class WebDatasetSamples:
    """Iterates over ``{"__key__": ..., "__url__": ..., "jpg": bytes, "cls": bytes}``.

    The workers of a PyTorch `DataLoader` share the samples: each comes once an epoch, whatever their number. Each
    iteration over the `DataLoader` is the next epoch, whether its workers are kept or started anew. Iterations are told
    apart by the base seed that the `DataLoader` draws, so a generator that is seeded alike before each of them gives
    the same epoch again where workers are started anew.

    A copy counts its own epochs, from the next one of the original. So does a process that is no such worker, from the
    first one if it was forked.

    Args:
        loader: The loader whose samples and order these are.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._epochs = _Epochs()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        from webdataset.utils import pytorch_worker_info

        _, _, worker, num_workers = pytorch_worker_info()
        return self._samples(self._epochs.take(), worker, num_workers)

    def _samples(self, epoch: int, worker: int, num_workers: int) -> Iterator[dict[str, Any]]:
        for sample in self._loader.samples(epoch, worker=worker, num_workers=num_workers):
            yield {"__key__": sample.key, "__url__": self._loader.url, **sample.fields}

    def __call__(self, *_: Any) -> Iterator[dict[str, Any]]:
        """As a pipeline's first stage."""
        return iter(self)


class _Epochs:
    """Gives each pass over the samples its epoch, the same in all workers of a `DataLoader`.

    Workers know nothing of each other, and `DataLoader` tells them neither the epoch nor the iteration. They share a
    log in memory: the first worker that begins a pass takes the next epoch and writes it down, the others find it
    there. A pass is known by three numbers: the process that iterates over the `DataLoader`, the base seed that the
    iteration drew, and how many passes the worker has begun under this seed. Workers that are started anew get a new
    seed and count from 0; those that are kept keep the seed and count up.

    Args:
        start: The first epoch.
        log: The log that another process shares; a new one without it.
    """

    def __init__(self, start: int = 0, log: int | None = None) -> None:
        self._start = start
        # Inherited by forked workers, handed over to spawned ones, and gone with the last process that has it open.
        self._log = os.memfd_create("shardkit-epochs") if log is None else log
        self._begun: Counter[int] = Counter()  # passes of this process by base seed
        weakref.finalize(self, os.close, self._log)

    def take(self) -> int:
        """The epoch of a pass that begins now."""
        owner, seed = _owner_and_seed()
        with _locked(self._log):
            number = self._begun[seed]
            self._begun[seed] += 1
            passes = self._passes(owner)
            same = passes[(passes[:, 1] == seed) & (passes[:, 2] == number)]
            if len(same):
                return int(same[-1, 3])
            epoch = self._after(passes)
            entry = np.array([owner, seed, number, epoch], dtype=np.int64)
            os.pwrite(self._log, entry.tobytes(), os.fstat(self._log).st_size)
        return epoch

    def _passes(self, owner: int) -> NDArray[np.int64]:
        """``(n, 4)``: owner, seed, number and epoch of a process's passes, the newest last."""
        size = os.fstat(self._log).st_size
        tail = os.pread(self._log, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        passes: NDArray[np.int64] = np.frombuffer(tail, dtype=np.int64).reshape(-1, 4)
        found: NDArray[np.int64] = passes[passes[:, 0] == owner]
        return found

    def _after(self, passes: NDArray[np.int64]) -> int:
        return int(passes[-1, 3]) + 1 if len(passes) else self._start

    def __reduce__(self) -> tuple[Any, ...]:
        owner, _ = _owner_and_seed()
        start = self._after(self._passes(owner))
        # A descriptor can only be handed over to a process that is being started.
        return _restored, (start, None if get_spawning_popen() is None else DupFd(self._log))


def _restored(start: int, log: Any) -> _Epochs:
    return _Epochs(start, None if log is None else log.detach())


def _owner_and_seed() -> tuple[int, int]:
    """The process that iterates, which is not this one in a worker of a `DataLoader`, and the iteration's base seed."""
    data = sys.modules.get("torch.utils.data")  # imported in each of its workers
    worker = None if data is None else data.get_worker_info()
    parent = multiprocessing.parent_process()
    if worker is None or parent is None or parent.pid is None:
        return os.getpid(), _NO_SEED
    return parent.pid, worker.seed - worker.id


@contextmanager
def _locked(log: int) -> Iterator[None]:
    """Keep other processes and threads out. The system ends the lock of a process that is killed."""
    with _thread_lock:
        fcntl.lockf(log, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(log, fcntl.LOCK_UN)

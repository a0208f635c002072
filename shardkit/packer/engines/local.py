"""Packing on this machine, in one process or several."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from shardkit.errors import PackError, ShardkitError
from shardkit.packer.engines.worker import read_message, write_message
from shardkit.packer.shard import pack_shard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from shardkit.manifest import ShardRow
    from shardkit.packer.options import Check
    from shardkit.packer.plan import ShardTask

__all__ = ["run_local"]


def run_local(
    tasks: Sequence[ShardTask], dest: str, check: Check, workers: int, on_progress: Callable[[int, int], None]
) -> Iterator[ShardRow | ShardkitError]:
    """Pack shards on this machine.

    Args:
        tasks: The shards.
        dest: The data set's URL.
        check: How thoroughly each picture is looked at.
        workers: Processes; 1 packs in this one.
        on_progress: Called with the pictures and bytes done since the last call, in this thread.

    Yields:
        For each task, in any order, the shard's row or what went wrong.
    """
    if workers <= 1 or len(tasks) <= 1:
        for task in tasks:
            try:
                yield pack_shard(task, dest, check, on_progress)
            except ShardkitError as exc:
                yield exc
        return
    pool = _Pool(tasks, dest, check, min(workers, len(tasks)))
    try:
        for message in pool:
            if message[0] == "progress":
                on_progress(*message[1:])
            else:
                yield message[1]
    finally:
        pool.close()


class _Pool:
    """Worker processes, each with a thread that feeds it; tasks are handed out one at a time."""

    def __init__(self, tasks: Sequence[ShardTask], dest: str, check: Check, workers: int) -> None:
        self._tasks: queue.SimpleQueue[ShardTask | None] = queue.SimpleQueue()
        for task in [*tasks, *[None] * workers]:
            self._tasks.put(task)
        self._num_tasks = len(tasks)
        self._messages: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._job = (dest, check)
        self._lock = threading.Lock()
        self._num_feeding = workers
        # The worker finds modules where this process does, however this one was started.
        code = f"import sys, json; sys.path[:] = json.loads({json.dumps(json.dumps(sys.path))}); "
        code += "from shardkit.packer.engines.worker import main; main()"
        self._processes = [
            subprocess.Popen(  # noqa: S603 (our own interpreter and code)
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            for _ in range(workers)
        ]
        self._threads = [threading.Thread(target=self._feed, args=(p,), daemon=True) for p in self._processes]
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        left = self._num_tasks
        while left:
            message = self._messages.get()
            left -= message[0] != "progress"
            yield message

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        while (task := self._tasks.get()) is not None:
            try:
                write_message(process.stdin, (task, *self._job))
                while (message := read_message(process.stdout))[0] == "progress":
                    self._messages.put(message)
            except (EOFError, OSError):
                message = ("failed", self._died(process, task))
                self._messages.put(message)
                return self._give_up()
            self._messages.put(message)
        process.stdin.close()
        return None

    def _died(self, process: subprocess.Popen[bytes], task: ShardTask) -> PackError:
        code = process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return PackError(
            f"the worker that packed {task.name} {how}",
            advice="Run the same command again: it goes on where it stopped",
        )

    def _give_up(self) -> None:
        """The other workers take over; the last one to go says which tasks nobody is left for."""
        with self._lock:
            self._num_feeding -= 1
            last = self._num_feeding == 0
        while last and (task := self._tasks.get()) is not None:
            self._messages.put(("failed", PackError(f"no worker was left to pack {task.name}")))

    def close(self) -> None:
        """Stop the workers and wait for them."""
        for process in self._processes:
            process.kill()
        for process, thread in zip(self._processes, self._threads, strict=True):
            self._tasks.put(None)
            process.wait()
            thread.join()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()

"""Packing on this machine, in one process or several."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

from shardkit.errors import PackError, ShardkitError, StorageError
from shardkit.packer.engines.worker import read_message, unexpected, write_message
from shardkit.packer.shard import pack_shard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from shardkit.manifest import ShardRow
    from shardkit.packer.pictures import PictureOptions
    from shardkit.packer.plan import ShardTask
    from shardkit.storage import Place

__all__ = ["LocalWorkers"]


class LocalWorkers:
    """Processes of this machine that pack shards. A context manager: at its end they are gone.

    Args:
        most: How many processes at most; 1 packs in this one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, num_tasks: int) -> None:
        """Start the processes for so many tasks now, since that takes as long as planning the tasks.

        Args:
            num_tasks: The tasks that there will be, as far as that is known.

        Raises:
            PackError: A process cannot be started.
        """
        wanted = min(self._most, num_tasks)
        # The worker finds modules where this process does, however this one was started.
        code = f"import sys, json; sys.path[:] = json.loads({json.dumps(json.dumps(sys.path))}); "
        code += "from shardkit.packer.engines.worker import main; main()"
        while wanted > 1 and len(self._processes) < wanted:
            self._processes.append(_started(code))

    def run(
        self, tasks: Sequence[ShardTask], dest: Place, pictures: PictureOptions, on_progress: Callable[[int, int], None]
    ) -> Iterator[ShardRow | ShardkitError]:
        """Pack shards, once.

        Args:
            tasks: The shards.
            dest: Where the data set goes.
            pictures: What becomes of each picture.
            on_progress: Called with the pictures and bytes done since the last call, in this thread.

        Yields:
            For each task, in any order, the shard's row or what went wrong. Where that is the storage, no more tasks
            are begun.

        Raises:
            PackError: A process cannot be started.
        """
        if self._most <= 1 or len(tasks) <= 1:
            for task in tasks:
                try:
                    yield pack_shard(task, dest, pictures, on_progress)
                except ShardkitError as exc:
                    yield exc
                    if isinstance(exc, StorageError):
                        return
            return
        self.start(len(tasks))
        pool = _Pool(tasks, dest, pictures)
        try:
            pool.feed(self._processes)
            for message in pool:
                if message[0] == "progress":
                    on_progress(*message[1:])
                else:
                    if isinstance(message[1], StorageError):
                        pool.begin_no_more()
                    yield message[1]
        finally:
            self.close()
            pool.close()

    def close(self) -> None:
        """Stop the processes."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        for process in self._processes:
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class _Pool:
    """Worker processes, each with a thread that feeds it; tasks are handed out one at a time."""

    def __init__(self, tasks: Sequence[ShardTask], dest: Place, pictures: PictureOptions) -> None:
        self._tasks: queue.SimpleQueue[ShardTask | None] = queue.SimpleQueue()
        for task in tasks:
            self._tasks.put(task)
        self._num_left = len(tasks)
        self._messages: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._job = (dest, pictures)
        self._lock = threading.Lock()
        self._num_feeding = 0
        self._threads: list[threading.Thread] = []

    def feed(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        """Hand the tasks out, from a thread for each process."""
        self._num_feeding = len(processes)
        for _ in processes:
            self._tasks.put(None)
        for process in processes:
            thread = threading.Thread(target=self._feed, args=(process,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        while self._num_left:
            message = self._messages.get()
            self._num_left -= message[0] != "progress"
            yield message

    def begin_no_more(self) -> None:
        """Leave out the tasks that no process has begun."""
        with contextlib.suppress(queue.Empty):
            while self._tasks.get_nowait() is not None:
                self._num_left -= 1
            self._tasks.put(None)

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        while (task := self._tasks.get()) is not None:
            try:
                write_message(process.stdin, (task, *self._job))
                while (message := read_message(process.stdout))[0] == "progress":
                    self._messages.put(message)
            except (EOFError, OSError):
                self._messages.put(("failed", self._died(process, task)))
                return self._give_up()
            except Exception as exc:  # noqa: BLE001 (a thread that ended here would leave the packer waiting)
                process.kill()
                self._messages.put(("failed", unexpected(f"no answer could be read about {task.name}", exc)))
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
        """Wait for the threads, once the processes are gone."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()


def _started(code: str) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 (our own interpreter and code)
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as exc:
        raise PackError(f"a worker cannot be started: {exc.strerror}", advice="Use fewer with --workers") from exc

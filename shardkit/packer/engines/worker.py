"""A worker process of the local engine: tasks come in on standard input, outcomes go out on standard output.

Started as a plain subprocess and not through multiprocessing, which would run the user's main script again in each
worker. Both ends are pipes between processes of the same user and the same code, so pickle is safe here.
"""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
import traceback
from typing import IO, Any

from shardkit.errors import PackError, ShardkitError
from shardkit.packer.shard import pack_shard

__all__ = ["main", "read_message", "unexpected", "write_message"]

_LENGTH_BYTES = 8


def write_message(pipe: IO[bytes], message: Any) -> None:
    """Send one value.

    Args:
        pipe: The pipe's writing end.
        message: The value.
    """
    data = pickle.dumps(message)
    pipe.write(len(data).to_bytes(_LENGTH_BYTES, "little") + data)
    pipe.flush()


def read_message(pipe: IO[bytes]) -> Any:
    """Receive one value.

    Args:
        pipe: The pipe's reading end.

    Returns:
        The value.

    Raises:
        EOFError: The other end is gone.
    """
    head = pipe.read(_LENGTH_BYTES)
    data = pipe.read(int.from_bytes(head, "little")) if len(head) == _LENGTH_BYTES else b""
    if not data or len(data) != int.from_bytes(head, "little"):
        raise EOFError
    return pickle.loads(data)  # noqa: S301 (our own parent or child wrote it)


def main() -> None:
    """Pack shards until there are no more tasks; end at once when the parent is gone."""
    # Anything that a library prints must not end up between two messages.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    idle = threading.Event()
    idle.set()
    threading.Thread(target=_receive, args=(tasks, idle), daemon=True).start()
    while (message := tasks.get()) is not None:
        outcome = _outcome(message, sink)
        idle.set()
        write_message(sink, outcome)


def unexpected(what: str, exc: Exception) -> PackError:
    """An error that nobody foresaw as one that can be sent and shown.

    Args:
        what: What failed.
        exc: Why.

    Returns:
        The error; its note is the traceback.
    """
    error = PackError(f"{what}: {type(exc).__name__}: {exc}", advice="This is a fault of shardkit's: please report it")
    error.add_note("".join(traceback.format_exception(exc)))
    return error


def _outcome(message: Any, sink: IO[bytes]) -> tuple[Any, ...]:
    if isinstance(message, Exception):
        return ("failed", unexpected("a worker could not read its task", message))
    task, dest, pictures = message
    try:
        row = pack_shard(task, dest, pictures, lambda count, size: write_message(sink, ("progress", count, size)))
    except ShardkitError as exc:
        return ("failed", exc)
    except Exception as exc:  # noqa: BLE001 (whatever it is, the packer must hear of it)
        return ("failed", unexpected(f"packing {task.name} failed", exc))
    return ("done", row)


def _receive(tasks: queue.SimpleQueue[Any], idle: threading.Event) -> None:
    """Take tasks from the parent. When it is killed, a worker that went on would write into the next run's shards."""
    try:
        while True:
            try:
                message = read_message(sys.stdin.buffer)
            except EOFError:
                raise
            except Exception as exc:  # noqa: BLE001 (a thread that ended here would leave the packer waiting)
                message = exc
            idle.clear()
            tasks.put(message)
    except EOFError:
        if not idle.is_set():
            os._exit(1)
        tasks.put(None)


if __name__ == "__main__":
    main()

"""Forks and spawns processes that use a loader, and tells what each came to: ``right``, a named error, or more.

``python forks_script.py KIND COUNT URL OPTIONS EXPECTED``, with the storage options as JSON, and the digest of the
first epoch. Prints a JSON list.

digest: nothing is started; the list has the digest of the first epoch.
before: forked from a process that has opened a loader and has not iterated over it.
while: forked while threads iterate over the loader and read keys, so that any of its locks may be held.
spawn: started anew, with the loader pickled.
"""

import hashlib
import json
import multiprocessing
import os
import select
import signal
import sys
import threading
import time

import shardkit

PATIENCE_S = 120
OPTIONS = {"batch_size": 8, "image_size": (16, 16), "shuffle": True, "threads": 2, "retries": 1}


def digest_of(loader):
    """All keys, pixels and labels of the first epoch."""
    digest = hashlib.sha256()
    for batch in loader.batches(0):
        digest.update("".join(batch.keys).encode())
        for array in batch.arrays.values():
            digest.update(array.tobytes())
    return digest.hexdigest()


def outcome_of(use, expected):
    """What using a loader comes to."""
    try:
        found = use()
    except shardkit.ShardkitError as exc:
        return f"named: {type(exc).__name__}: {exc.what}"
    except BaseException as exc:  # noqa: BLE001 (that is what is looked for)
        return f"other: {exc!r}"
    return "right" if found == expected else "WRONG"


def forked(use, expected):
    """The outcome in a forked process; ``hung`` where it does not end."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        os.write(writing, outcome_of(use, expected).encode()[:4000])
        os._exit(0)
    os.close(writing)
    try:
        if not select.select([reading], [], [], PATIENCE_S)[0]:
            os.kill(process, signal.SIGKILL)
            return "hung"
        return os.read(reading, 4000).decode() or "died"
    finally:
        os.waitpid(process, 0)
        os.close(reading)


def spawned_use(loader, expected, writing):
    """What a spawned process does."""
    writing.send(outcome_of(lambda: digest_of(loader), expected))


def spawned(loader, expected):
    """The outcome in a process that is started anew."""
    context = multiprocessing.get_context("spawn")
    reading, writing = context.Pipe(duplex=False)
    process = context.Process(target=spawned_use, args=(loader, expected, writing))
    process.start()
    writing.close()
    try:
        if not reading.poll(PATIENCE_S):
            process.kill()
            return "hung"
        return reading.recv()
    except EOFError:
        return "died"
    finally:
        process.join()


def main():
    kind, count, url, options, expected = sys.argv[1:]
    loader = shardkit.Loader(url, storage_options=json.loads(options), **OPTIONS)
    if kind == "digest":
        found = [digest_of(loader)]
    elif kind == "spawn":
        found = [spawned(loader, expected) for _ in range(int(count))]
    elif kind == "before":
        found = [forked(lambda: digest_of(loader), expected) for _ in range(int(count))]
    else:
        found = while_iterating(loader, int(count), expected)
    print(json.dumps(found))


def while_iterating(loader, count, expected):
    """Fork at odd moments, and use the loader, a batch of the parent's, and its iterator."""
    over, latest = threading.Event(), []

    def iterate():
        epoch = 0
        while not over.is_set():
            for batch in loader.batches(epoch):
                latest[:] = [batch]
                assert len(batch.keys) == len(batch)
                if over.is_set():
                    break
            tables = loader._pipeline.tables
            with tables._lock:  # so that keys are looked up in files again and again
                tables._keyed.clear()
                tables._keyed_bytes = 0
            epoch += 1

    threads = [threading.Thread(target=iterate, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    mine = loader.batches(0)
    first = next(mine)
    found = []
    for number in range(count):
        time.sleep(0.003 * (number % 7))
        if number % 4 == 3:
            # What has been made ahead may be right there; the rest is an error, and nothing is left out.
            found.append(forked(lambda: (next(mine), next(mine)), None))
        elif number % 4 == 2:
            keys = first.keys
            found.append(forked(lambda: first.keys, keys))
            batch = latest[0]
            found.append(forked(lambda batch=batch: len(batch.keys), len(batch)))
        else:
            found.append(forked(lambda: digest_of(loader), expected))
    mine.close()
    over.set()
    for thread in threads:
        thread.join()
    return found


if __name__ == "__main__":
    main()

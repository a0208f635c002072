"""Asks a loader what to change and what that would give, and finds what it gives: epochs of both, in turn.

python advice_script.py LARGE SMALL HEIGHT WIDTH, where SMALL is LARGE with the advice followed, prints JSON.
"""

import json
import statistics
import sys
import time

import shardkit


def seconds(loader: shardkit.Loader) -> float:
    started = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - started


def main() -> None:
    large, small, height, width = sys.argv[1:]
    options = {"batch_size": 16, "image_size": (int(height), int(width))}
    before, after = shardkit.Loader(large, **options), shardkit.Loader(small, **options)
    for loader in (before, after):  # the page cache and the first use of everything
        seconds(loader)
    before.stats(reset=True)
    # A short epoch is measured more often: a pause of the machine then hurts both alike.
    long, short = [], []
    for _ in range(5):
        long.append(seconds(before))
        short.append(statistics.mean(seconds(after) for _ in range(4)))
    gain = statistics.median(long) / statistics.median(short)
    advice = before.stats().advice
    print(json.dumps({"change": advice.change, "promised": advice.gain, "gain": gain}))


main()

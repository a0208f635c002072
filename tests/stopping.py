"""Runs that are stopped and gone on with."""

import os
import subprocess
import sys
import time

from pictures import tree

__all__ = ["COMMAND", "goes_on_to_the_same_bytes", "kills_of_each_kind"]

COMMAND = [sys.executable, "-m", "shardkit.cli"]


def goes_on_to_the_same_bytes(source, folder, options, how):
    """Pack twice, the second time stopped by a signal after three shards and begun again, and compare.

    Args:
        source: The pictures; at least four shards of them.
        folder: Where to pack.
        options: For `shardkit pack`.
        how: The signal.
    """
    subprocess.run([*COMMAND, "pack", source, folder / "whole", *options], check=True, stdout=subprocess.DEVNULL)
    command = [*COMMAND, "pack", source, folder / "shards", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list((folder / "shards").glob("*.tar"))) < 3:
        assert time.monotonic() < deadline
    process.send_signal(how)
    assert process.wait(30) != 0
    assert not (folder / "shards" / "manifest.json").exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert tree(folder / "shards") == tree(folder / "whole")


def kills_of_each_kind():
    """How often a test kills what it tests. `tools/prove` asks for more than CI has time for."""
    return int(os.environ.get("SHARDKIT_KILLS", "1"))

"""Memory for arrays that are used again."""

import subprocess
import sys

import numpy as np
import pytest

from shardkit.memory import fresh_bytes


@pytest.mark.parametrize("size", [0, 1, 1000, 2**16 - 1, 2**16, 10**6 + 3])
def test_it_is_an_array_that_can_be_written(size):
    found = fresh_bytes(size)
    assert (found.shape, found.dtype) == ((size,), np.uint8)
    found[:] = 7
    assert (found == 7).all()
    assert found.flags.c_contiguous


def test_it_lives_as_long_as_anything_refers_to_it():
    part = fresh_bytes(2**20)[5:10]
    part[:] = range(5)
    others = [fresh_bytes(2**20) for _ in range(20)]
    for other in others:
        other[:] = 255
    assert part.tolist() == [0, 1, 2, 3, 4]


FORKS = """
import os
from shardkit.memory import fresh_bytes

found = fresh_bytes(2**20)
found[:] = 1
child = os.fork()
if child == 0:
    found[:] = 2
    os._exit(0)
os.waitpid(child, 0)
assert (found == 1).all()
"""


def test_a_fork_has_a_copy():
    # In a process of its own: libraries that other tests have loaded do not like to be forked.
    subprocess.run([sys.executable, "-c", FORKS], check=True, timeout=60)


def test_too_much_is_an_error():
    for size in (2**50, 2**63, 2**70):
        with pytest.raises(MemoryError):
            fresh_bytes(size)

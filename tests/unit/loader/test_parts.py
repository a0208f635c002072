"""Parts that were asked for, and the samples that come of them."""

import threading
import time

import numpy as np
import pytest
from xxhash import xxh3_64_intdigest

from shardkit.loader.parts import Part, PartShelf

SAMPLES = [bytes([number]) * (10 + number) for number in range(6)]
GAP = b"-" * 7
SHARD = GAP.join(SAMPLES)


def rows_of(shard, samples=range(6)):
    """Rows as a sample table has them, of samples that lie in a shard one behind the other with gaps."""
    offsets = np.cumsum([0, *(len(sample) + len(GAP) for sample in SAMPLES)])
    rows = [(number, offsets[number], len(SAMPLES[number]), 0, 0, shard) for number in samples]
    numbers = np.array(rows, dtype=np.int64).reshape(-1, 6)
    numbers[:, 3] = np.array([xxh3_64_intdigest(SAMPLES[number]) for number in samples], np.uint64).view(np.int64)
    return numbers


def part_of(rows, piece=None):
    return Part(int(rows[0, 5]), int(rows[0, 1]), int(rows[-1, 1] + rows[-1, 2]), rows, piece)


def bytes_of(part):
    return memoryview(SHARD)[part.start : part.stop]


@pytest.fixture
def shelf():
    return PartShelf(10**6)


def test_samples_are_handed_out_once(shelf):
    rows = rows_of(3)
    part = part_of(rows, (0, 3))
    shelf.add([part])
    assert shelf.take(rows) == [None] * 6
    assert shelf.find(3, *rows[2, 1:3].cumsum()) is part
    shelf.take_in(part, bytes_of(part))
    assert part.is_done
    assert shelf.find(3, *rows[2, 1:3].cumsum()) is None
    assert shelf.take(rows[[4, 1]]) == [SAMPLES[4], SAMPLES[1]]
    assert shelf.take_one(3, int(rows[0, 1])) == SAMPLES[0]
    assert shelf.take(rows) == [None, None, SAMPLES[2], SAMPLES[3], None, SAMPLES[5]]
    assert shelf.take(rows_of(2)) == [None] * 6


def test_what_is_damaged_is_left_out(shelf):
    rows = rows_of(0)
    part = part_of(rows)
    shelf.add([part])
    data = bytearray(bytes_of(part))
    data[rows[3, 1] + 1] ^= 1
    shelf.take_in(part, memoryview(data))
    assert shelf.take(rows) == [*SAMPLES[:3], None, *SAMPLES[4:]]


def test_a_part_gives_only_the_samples_it_was_asked_for(shelf):
    rows = rows_of(0)
    alone, piece = part_of(rows[[1]]), part_of(rows[[0, 2, 3, 4, 5]], (0, 0))
    shelf.add([alone])
    shelf.add([piece])
    start, stop = rows[1, 1:3].cumsum().tolist()
    assert shelf.find(0, start, stop) is alone
    shelf.drop(alone)
    assert shelf.find(0, start, stop) is None
    assert shelf.find(0, *rows[2, 1:3].cumsum().tolist()) is piece
    by_block = Part(0, 0, len(SHARD))
    shelf.add([by_block])
    assert shelf.find(0, start, stop) is by_block


def test_what_is_used_up_is_forgotten(shelf):
    for number in range(20):
        rows = rows_of(number)
        part = part_of(rows, (number, number))
        shelf.add([part])
        assert (number, number) in shelf
        shelf.take_in(part, bytes_of(part))
        assert (number, number) in shelf
        assert shelf.take(rows) == SAMPLES
    assert sum((number, number) in shelf for number in range(20)) <= 2


def test_what_others_need_is_dropped_where_there_is_too_much():
    shelf = PartShelf(4 * len(SHARD))
    for number in range(20):
        rows = rows_of(number)
        part = part_of(rows, (number, number))
        shelf.add([part])
        shelf.take_in(part, bytes_of(part))
        assert shelf.take(rows[:3]) == SAMPLES[:3]  # the others are another rank's
    assert [number for number in range(20) if (number, number) in shelf] == [16, 17, 18, 19]
    assert shelf.take(rows_of(19, [3, 4])) == SAMPLES[3:5]
    assert shelf.take(rows_of(10, [3, 4])) == [None, None]


def test_what_was_asked_for_by_itself_comes_before_its_piece(shelf):
    early = [part_of(rows_of(0, run)) for run in ([0, 1], [4])]
    piece = part_of(rows_of(0), (0, 0))
    shelf.add(early)
    shelf.add([piece])
    offsets = rows_of(0)[:, 1]
    found = [shelf.find(0, int(offset), int(offset) + 5) for offset in offsets]
    assert found == [early[0], early[0], piece, piece, early[1], piece]
    shelf.drop(early[0])
    assert shelf.find(0, 0, 5) is piece


def test_what_is_read_by_the_block_stays_as_it_is(shelf):
    part = Part(0, 0, len(SHARD))
    shelf.add([part])
    shelf.take_in(part, memoryview(SHARD))
    assert part.data == SHARD
    assert shelf.find(0, 3, 17) is part
    shelf.drop(part)
    assert shelf.find(0, 3, 17) is None


def test_waiting_ends_when_it_has_come(shelf):
    part = part_of(rows_of(0))
    shelf.add([part])
    assert not part.wait(0.01)
    waiting = [threading.Thread(target=part.wait, args=(60,)) for _ in range(3)]
    for thread in waiting:
        thread.start()
    started = time.monotonic()
    shelf.take_in(part, bytes_of(part))
    for thread in waiting:
        thread.join()
    assert time.monotonic() - started < 10
    assert part.wait(0)

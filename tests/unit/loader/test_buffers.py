"""Memory that is used again, and never while anyone refers to it."""

import gc

import numpy as np
import pytest

from shardkit.loader.buffers import BufferPool


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_comes_again_when_nobody_refers_to_it():
    pool = BufferPool(3)
    first = pool.take((4, 5), np.uint8)
    where = address(first)
    assert first.shape == (4, 5)
    assert first.dtype == np.uint8
    assert first.flags.c_contiguous
    del first
    again = pool.take((2, 5), np.uint16)
    assert address(again) == where
    assert again.dtype == np.uint16


@pytest.mark.parametrize(
    "borrow",
    [
        lambda array: array,
        lambda array: array[1:],
        lambda array: array[1:][0].reshape(-1)[::2],
        memoryview,
        lambda array: np.frombuffer(array, np.uint8),
        lambda array: np.from_dlpack(array),
        lambda array: [array.T],
        lambda array: iter(array),
    ],
)
def test_memory_that_is_borrowed_in_any_way_is_left_alone(borrow):
    pool = BufferPool(3)
    array = pool.take((8, 8), np.uint8)
    where = address(array)
    borrowed = borrow(array)
    del array
    gc.collect()
    other = pool.take((8, 8), np.uint8)
    assert address(other) != where
    del borrowed
    gc.collect()
    assert address(pool.take((8, 8), np.uint8)) == where


@pytest.mark.parametrize("name", ["jax", "tensorflow"])
def test_what_a_framework_made_of_it_stays(name):
    module = pytest.importorskip(name)
    convert = module.device_put if name == "jax" else module.convert_to_tensor
    pool = BufferPool(1)
    array = pool.take((64, 64, 64), np.uint8)
    array[:] = 7
    held = convert(array)
    del array
    gc.collect()
    pool.take((64, 64, 64), np.uint8)[:] = 9
    assert (np.asarray(held) == 7).all()


def test_a_pool_forgets_what_is_too_much():
    pool = BufferPool(2)
    held = [pool.take((16,), np.uint8) for _ in range(5)]
    assert len({address(array) for array in held}) == 5
    newest = {address(array) for array in held[-2:]}
    del held
    gc.collect()
    assert {address(array) for array in [pool.take((16,), np.uint8) for _ in range(2)]} == newest

"""Memory that is used again, and never while anyone refers to it."""

import gc
import warnings

import numpy as np
import pytest

from shardkit.errors import ConfigError
from shardkit.loader.buffers import BufferPool, memory_of_chunks


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


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "int64"])
@pytest.mark.parametrize("shape", [(1,), (3, 5, 7), (33, 224, 224, 3), ()])
def test_arrays_begin_at_multiples_of_64_bytes(shape, dtype):
    pool = BufferPool(2)
    for _ in range(2):  # new memory, and the same again
        held = [pool.take(shape, dtype) for _ in range(5)]
        assert all(address(array) % 64 == 0 for array in held)
        assert {(array.shape, array.dtype.name, array.flags.c_contiguous) for array in held} == {(shape, dtype, True)}
        for value, array in enumerate(held):
            array[...] = value
        assert all((array == value).all() for value, array in enumerate(held))
        del held, array


def test_memory_is_for_arrays_of_the_same_number_of_bytes_only():
    pool = BufferPool(4)
    where = address(pool.take((128,), np.uint8))
    assert address(pool.take((127,), np.uint8)) != where
    assert address(pool.take((16,), np.float64)) == where


def of_generator(array):
    """An element of a `tf.data.Dataset` that a generator makes of the array."""
    tf = pytest.importorskip("tensorflow")
    arrays = [array]
    spec = tf.TensorSpec(array.shape, tf.as_dtype(array.dtype))
    (element,) = tf.data.Dataset.from_generator(lambda: iter([arrays.pop()]), output_signature=spec)
    return element


def on_jax(array):
    return pytest.importorskip("jax").device_put(array)


def on_torch(array):
    return pytest.importorskip("torch").from_numpy(array)


FRAMEWORKS = [of_generator, on_jax, on_torch]


@pytest.mark.parametrize("convert", FRAMEWORKS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_frameworks_use_it_without_a_copy(convert, dtype):
    array = BufferPool(1).take((8, 32, 32, 3), dtype)
    assert address(np.asarray(convert(array))) == address(array)


@pytest.mark.parametrize(
    "convert",
    [
        *FRAMEWORKS,
        lambda array: np.asarray(of_generator(array)),
        lambda array: of_generator(array)[3:],
        lambda array: np.asarray(on_jax(array)),
        lambda array: np.from_dlpack(on_jax(array)),
        lambda array: on_jax(array).reshape(-1),
        lambda array: pytest.importorskip("jax").numpy.from_dlpack(array),
        lambda array: on_torch(array)[3:],
        lambda array: pytest.importorskip("torch").from_dlpack(array),
        lambda array: pytest.importorskip("tensorflow").convert_to_tensor(array),
    ],
)
def test_what_a_framework_made_of_it_stays(convert):
    pool = BufferPool(2)
    array = pool.take((8, 64, 64, 3), np.float32)
    array[:] = 7
    held = convert(array)
    del array
    gc.collect()
    for _ in range(20):
        pool.take((8, 64, 64, 3), np.float32)[:] = 9
    assert (np.asarray(held) == 7).all()


@pytest.mark.parametrize("convert", FRAMEWORKS)
def test_it_comes_again_when_a_framework_has_let_go_of_it(convert):
    pool = BufferPool(2)
    array = pool.take((8, 64, 64, 3), np.uint8)
    where = address(array)
    held = convert(array)
    del array
    assert address(pool.take((8, 64, 64, 3), np.uint8)) != where
    del held
    convert(np.zeros(4, np.uint8))  # TensorFlow gives back what it used when it asks Python for more
    gc.collect()
    assert where in [address(array) for array in [pool.take((8, 64, 64, 3), np.uint8) for _ in range(2)]]


def test_it_stays_while_a_computation_that_was_begun_needs_it():
    jax = pytest.importorskip("jax")

    @jax.jit
    def compute(weights, array):
        weights = jax.lax.fori_loop(0, 30, lambda _, found: jax.numpy.tanh(found @ found), weights)
        return 0 * weights.sum() + array

    pool = BufferPool(2)
    weights = jax.numpy.ones((400, 400))
    for _ in range(5):
        array = pool.take((8, 64, 64, 3), np.float32)
        array[:] = 7
        found = compute(weights, array)
        del array
        while True:
            pool.take((8, 64, 64, 3), np.float32)[:] = 9
            if found.is_ready():
                break
        assert (np.asarray(found) == 7).all()


def test_memory_given_away_to_a_computation_is_not_written_to():
    jax = pytest.importorskip("jax")
    double = jax.jit(lambda array: 2 * array, donate_argnums=0)
    array = BufferPool(1).take((8, 64, 64, 3), np.float32)
    array[:] = 7
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing could be given away
        assert (np.asarray(double(jax.device_put(array))) == 14).all()
    assert (array == 7).all()


def test_a_pool_forgets_what_is_too_much():
    pool = BufferPool(2)
    held = [pool.take((16,), np.uint8) for _ in range(5)]
    assert len({address(array) for array in held}) == 5
    newest = {address(array) for array in held[-2:]}
    del held
    gc.collect()
    assert {address(array) for array in [pool.take((16,), np.uint8) for _ in range(2)]} == newest


@pytest.mark.parametrize("samples", [1 << 50, 1 << 62])
def test_memory_that_is_not_there_is_an_error_by_name(samples):
    with pytest.raises(ConfigError, match="no memory for chunks"), memory_of_chunks(samples):
        np.empty((samples, 1000), dtype=np.uint8)

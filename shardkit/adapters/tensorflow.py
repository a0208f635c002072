"""Batches as a `tf.data.Dataset`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shardkit.loader import Loader
    from shardkit.sample import ArraySpec

__all__ = ["dataset_of", "dataset_of_batches"]


def dataset_of(loader: Loader) -> tf.data.Dataset:
    """A loader as a data set of whole batches.

    Args:
        loader: The loader.

    Returns:
        The data set.
    """
    specs = tuple(_spec(spec) for spec in loader.signature.values())
    dataset = dataset_of_batches(lambda: iter(loader), specs if len(specs) > 1 else specs[0])
    return dataset.apply(tf.data.experimental.assert_cardinality(len(loader)))


def dataset_of_batches(make: Callable[[], Iterator[Any]], signature: Any) -> tf.data.Dataset:
    """A data set whose iterations take batches from Python one by one, and none ahead.

    Whole batches cross from Python into TensorFlow, which takes over their memory. Batches are read ahead before they
    cross, so prefetching here would only hold more of them, and nobody could tell how many were used.

    Args:
        make: Makes an iterator.
        signature: A structure of ``tf.TensorSpec`` that says what a batch is.
    """
    dataset = tf.data.Dataset.from_generator(make, output_signature=signature)
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return dataset.with_options(options)


def _spec(spec: ArraySpec) -> Any:
    # Encoded images are bytes, which TensorFlow calls strings.
    dtype = tf.string if spec.dtype == "object" else tf.dtypes.as_dtype(spec.dtype)
    return tf.TensorSpec(shape=spec.shape, dtype=dtype)

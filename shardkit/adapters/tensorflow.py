"""Batches as a `tf.data.Dataset`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from shardkit.loader import Loader
    from shardkit.sample import ArraySpec

__all__ = ["dataset_of"]


def dataset_of(loader: Loader) -> tf.data.Dataset:
    """A loader as a data set of whole batches.

    Only whole batches cross from Python into TensorFlow, so the crossing costs a copy and no more.

    Args:
        loader: The loader.

    Returns:
        The data set.
    """
    specs = tuple(_spec(spec) for spec in loader.signature.values())
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(loader), output_signature=specs if len(specs) > 1 else specs[0]
    )
    return dataset.apply(tf.data.experimental.assert_cardinality(len(loader))).prefetch(1)


def _spec(spec: ArraySpec) -> Any:
    # Encoded pictures are bytes, which TensorFlow calls strings.
    dtype = tf.string if spec.dtype == "object" else tf.dtypes.as_dtype(spec.dtype)
    return tf.TensorSpec(shape=spec.shape, dtype=dtype)

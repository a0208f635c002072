"""TFRecord files and tf.data, as its performance guide says: parallel reads and maps, AUTOTUNE, no fixed order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from PIL import Image

from benchmarks.settings import BATCH_SIZE, IMAGE_SIZE, shard_samples

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.photos import Data
    from benchmarks.settings import Settings

RESUMES = True

# Encoded samples in tf.data's buffer; about as much memory as shardkit's buffer takes of the page cache.
_SHUFFLE = 2_048
_FEATURES = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}


def prepare(data: Data, folder: Path) -> Path:
    """Shards of serialized examples, shuffled once."""
    files = data.files()
    np.random.default_rng(0).shuffle(files)
    num_bytes = sum(path.stat().st_size for path, _ in files)
    length = shard_samples(len(files), num_bytes)
    for start in range(0, len(files), length):
        with tf.io.TFRecordWriter(str(folder / f"{start // length:05d}.tfrecord")) as writer:
            for path, label in files[start : start + length]:
                image = np.asarray(Image.open(path)).tobytes() if data.kind == "digits" else path.read_bytes()
                features = {
                    "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    return folder


def batches(folder: Path, settings: Settings) -> Any:
    """The pipeline; ``variant="batched"`` parses whole batches, which suits small records."""
    files = tf.data.Dataset.list_files(str(folder / "*.tfrecord"), shuffle=True)
    records = tf.data.TFRecordDataset(files, num_parallel_reads=tf.data.AUTOTUNE)
    records = records.skip(settings.start * BATCH_SIZE).shuffle(_SHUFFLE)
    if settings.variant == "batched":
        found = records.batch(BATCH_SIZE, drop_remainder=True).map(
            _parse_raw_batch, num_parallel_calls=tf.data.AUTOTUNE
        )
    else:
        found = records.map(_parser(settings), num_parallel_calls=tf.data.AUTOTUNE)
        found = found.batch(BATCH_SIZE, drop_remainder=True)
    options = tf.data.Options()
    options.deterministic = False
    return found.prefetch(tf.data.AUTOTUNE).with_options(options)


def _parse_raw_batch(records: Any) -> tuple[Any, Any]:
    found = tf.io.parse_example(records, _FEATURES)
    return tf.reshape(tf.io.decode_raw(found["image"], tf.uint8), (-1, 28, 28, 1)), found["label"]


def _parser(settings: Settings) -> Any:
    def parse(record: Any) -> tuple[Any, Any]:
        found = tf.io.parse_single_example(record, _FEATURES)
        image = found["image"]
        if settings.content == "raw":
            image = tf.reshape(tf.io.decode_raw(image, tf.uint8), (28, 28, 1))
        elif settings.content == "decoded":
            image = tf.io.decode_jpeg(image, channels=3)
            image = tf.image.resize(image, IMAGE_SIZE, method="bilinear", antialias=settings.antialias)
            image = tf.cast(image + 0.5, tf.uint8)
        return image, found["label"]

    return parse

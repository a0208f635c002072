"""Small training runs with `Resume` inside this process, stopped by an exception."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
from keras.src.backend.common import global_state

import shardkit

__all__ = ["Stop", "Watch", "fit", "loaders", "make_model", "same_arrays", "seed", "stopped"]


def seed(number):
    """Seed everything, as in a new process."""
    keras.utils.set_random_seed(number)
    # Older versions of Keras leave their own generator as it is.
    global_state.set_global_attribute("global_seed_generator", None)


def make_model(**compiled):
    model = keras.Sequential([keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"], **compiled)
    return model


def loaders(dataset, **options):
    given = {"batch_size": 8, "image_size": (16, 16), "chunk_size": 3, **options}
    return shardkit.Loader(dataset, "train", shuffle=True, **given), shardkit.Loader(dataset, "val", **given)


class Stop(keras.callbacks.Callback):
    """Raises in the middle, as an exception in a training step does."""

    resume_attributes = ()

    def __init__(self, epoch, batch):
        super().__init__()
        self.place, self.epoch = (epoch, batch), None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            raise InterruptedError


class Watch(keras.callbacks.Callback):
    """Notes what Keras calls."""

    resume_attributes = ()

    def __init__(self):
        super().__init__()
        self.epochs, self.batches = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch)

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(batch)


def fit(
    dataset,
    directory,
    *callbacks,
    epochs=3,
    model=None,
    every=0,
    data=None,
    validate=True,
    steps_per_epoch=None,
    **options,
):
    """The model and its history, trained to an epoch. Callbacks may also be functions of the training data."""
    train, val = loaders(dataset, **options)
    data = shardkit.to_keras(train) if data is None else data(train)
    model = model or make_model()
    callbacks = [each if isinstance(each, keras.callbacks.Callback) else each(data) for each in callbacks]
    resume = shardkit.Resume(train, directory, every=every)
    history = model.fit(
        data, validation_data=shardkit.to_keras(val) if validate else None, epochs=epochs, verbose=0,
        steps_per_epoch=steps_per_epoch, callbacks=[*callbacks, resume],
    )  # fmt: skip
    return model, history


def stopped(dataset, directory, *callbacks, at, **options):
    """The same, stopped by an exception at a batch of an epoch."""
    with pytest.raises(InterruptedError):
        fit(dataset, directory, *callbacks, Stop(*at), **options)


def same_arrays(left, right):
    """Bit for bit."""
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        pair = [value.numpy() if hasattr(value, "numpy") else value for value in (one, other)]
        np.testing.assert_array_equal(*pair)

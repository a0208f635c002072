"""Uses of `shardkit.Resume`, and what fits leave behind, for `keras_uses.py`."""

import contextlib
import gc
import tempfile
import threading
import time
import weakref

import keras
import numpy as np
from keras_sources import unknown_attributes
from keras_uses import At, raises, recorder, use

import shardkit


def stop(_):
    raise InterruptedError("stop here")


def trained(uses, directory, *callbacks, **options):
    """A run of three epochs of Resume, with a model and a loader of its own, as a script that is started again has."""
    keras.utils.set_random_seed(1)
    loader, model = uses.loader(), recorder()
    callbacks = [shardkit.Resume(loader, directory, every=0), *callbacks]
    with contextlib.suppress(InterruptedError):
        model.fit(shardkit.to_keras(loader), epochs=3, verbose=0, callbacks=callbacks, **options)
    return model


@use
def a_run_of_resume_continues_at_the_next_batch(uses):
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryDirectory() as other:
        parts = [trained(uses, directory, At(stop, batch=batch)) for batch in (5, 7)]
        parts.append(trained(uses, directory))
        # The step in which a run is stopped is trained again, since it was not saved yet.
        assert parts[0].trained == uses.plan(0)[:6]
        assert sum((part.trained for part in parts), [])[-12:] == uses.plan(0, 1, 2)[-12:]
        for left, right in zip(parts[-1].get_weights(), trained(uses, other).get_weights(), strict=True):
            np.testing.assert_array_equal(left, right)


@use
def a_run_of_resume_that_evaluates_the_training_data(uses):
    with tempfile.TemporaryDirectory() as directory:
        loader, model = uses.loader(), recorder()
        data = shardkit.to_keras(loader)
        look = At(lambda model: model.evaluate(data, verbose=0))
        model.fit(data, epochs=3, verbose=0, callbacks=[shardkit.Resume(loader, directory, every=0), look])
    assert model.trained == uses.plan(0, 1, 2)
    assert model.tested == uses.plan(1, 2, 3)


class Noting(keras.callbacks.EarlyStopping):
    """Notes epochs, and never sees an improvement after the first."""

    resume_attributes = ("noted",)

    def __init__(self):
        super().__init__("loss", patience=10, mode="max", min_delta=1e6, restore_best_weights=True)
        self.noted = []

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self.noted.append((epoch, self.wait))


@use
def callbacks_of_keras_and_others_count_on(uses):
    def callbacks():
        plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e6, mode="max")
        return [Noting(), plateau]

    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryDirectory() as other:
        trained(uses, directory, *callbacks(), At(stop, batch=5))
        trained(uses, directory, *callbacks(), At(stop))
        parts, whole = callbacks(), callbacks()
        trained(uses, directory, *parts)
        trained(uses, other, *whole)
    assert whole[0].noted == parts[0].noted == [(0, 0), (1, 1), (2, 2)]
    for name in ("wait", "best", "best_epoch", "stopped_epoch"):
        assert getattr(whole[0], name) == getattr(parts[0], name), name
    assert [whole[1].wait, whole[1].best] == [parts[1].wait, parts[1].best]
    for left, right in zip(whole[0].best_weights, parts[0].best_weights, strict=True):
        np.testing.assert_array_equal(left, right)


@use
def attributes_of_all_callbacks_of_keras_are_known(uses):
    assert unknown_attributes() == {}


@use
def resume_of_other_data_is_refused(uses):
    with tempfile.TemporaryDirectory() as directory:
        train = uses.loader()
        for other in (uses.loader("val"), uses.loader()):
            callback = shardkit.Resume(other, directory)
            raises(
                shardkit.ConfigError,
                "loader",
                lambda callback=callback: recorder().fit(shardkit.to_keras(train), verbose=0, callbacks=[callback]),
            )


@use
def two_runs_in_one_directory(uses):
    with tempfile.TemporaryDirectory() as directory:

        def another(_):
            raises(shardkit.ConfigError, "another run trains with this directory", lambda: trained(uses, directory))

        assert trained(uses, directory, At(another, batch=2)).trained == uses.plan(0, 1, 2)
        # The lock is gone with the run: the same script finds it finished.
        assert trained(uses, directory).trained == []


@use
def short_fits_leave_nothing(uses):
    seen, loader, model = [], uses.loader(), recorder()

    def note(images, labels):
        seen.append(weakref.ref(images))
        return images, labels

    def fit():
        model.fit(shardkit.to_keras(loader, map=note), steps_per_epoch=2, verbose=0)

    def alive():
        gc.collect()
        return sum(found() is not None for found in seen)

    for _ in range(10):
        fit()
    before = alive()
    for _ in range(20):
        fit()
    assert len(seen) >= 60
    assert alive() <= before, "batches of fits that are over are held"
    deadline = time.monotonic() + 60
    while (left := [thread for thread in threading.enumerate() if thread.name.startswith("shardkit")]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.05)
    assert left == []

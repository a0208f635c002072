"""A training script for several processes as a user writes it, for tests that start it several times at once.

Its argument: a JSON document with ``dataset``, ``run`` (where `Resume` saves), ``out`` (where the result goes),
``address``, ``rank`` and ``world_size`` (how the processes find each other), ``epochs``, ``num_pictures``, and
``hang_after``: a number of steps after which the run stands still, to be killed.

The model keeps, on the device and inside the compiled step, which pictures each training step held over all processes.
"""

import json
import os
import sys
import time

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import keras
import numpy as np

import shardkit

settings = json.loads(sys.argv[1])


class Tally(keras.metrics.Metric):
    """Which pictures came with a weight, step by step, and how many rows there were. Never reset."""

    def __init__(self, num_steps, num_pictures):
        super().__init__(name="tally")
        self.step = self.add_weight(shape=(), dtype="int32", initializer="zeros", name="step")
        self.seen = self.add_weight(shape=(num_steps, num_pictures), initializer="zeros", name="seen")
        self.rows = self.add_weight(shape=(num_steps,), initializer="zeros", name="rows")

    def update_state(self, images, sample_weight=None):
        first = keras.ops.cast(images[:, 0, 0, :2], "int32")
        pictures = keras.ops.one_hot(first[:, 0] * 256 + first[:, 1], self.seen.shape[1])
        if sample_weight is not None:
            pictures = pictures * keras.ops.cast(sample_weight > 0, "float32")[:, None]
        this = keras.ops.one_hot(self.step + 0, self.seen.shape[0])
        self.seen.assign(self.seen + this[:, None] * keras.ops.sum(pictures, axis=0))
        self.rows.assign(self.rows + this * images.shape[0])
        self.step.assign(self.step + 1)

    def result(self):
        return self.step + 0

    def reset_state(self):
        pass


class Counting(keras.Sequential):
    """A model that tallies."""

    def __init__(self, layers, tally):
        super().__init__(layers)
        self.tally = tally
        self.training_now = True

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if self.training_now:
            self.tally.update_state(x, sample_weight)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def test_step(self, *arguments):
        self.training_now = False
        try:
            return super().test_step(*arguments)
        finally:
            self.training_now = True


class StandStill(keras.callbacks.Callback):
    """Says that so many steps are done, and does nothing more."""

    resume_attributes = ()
    steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps == settings.get("hang_after"):
            with open(f"{settings['out']}.hangs", "w"):
                pass
            time.sleep(600)


def join_the_others():
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        settings["address"],
        settings["world_size"],
        settings["rank"],
        coordinator_bind_address=settings["address"],
        initialization_timeout=120,
    )


def refused(model, dataset):
    """What `evaluate` says of a loader that knows of no other process."""
    try:
        model.evaluate(shardkit.to_keras(shardkit.Loader(dataset, "val", image_size=(16, 16))), verbose=0)
    except shardkit.ConfigError as exc:
        return str(exc)
    return None


def main():
    if settings["world_size"] > 1:
        join_the_others()
    keras.utils.set_random_seed(11)
    if settings["world_size"] > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    options = {"image_size": (16, 16), "chunk_size": 3, "lanes": 12, "threads": 1, "rank": "auto"}
    train = shardkit.Loader(settings["dataset"], "train", batch_size=9, shuffle=True, seed=3, **options)
    val = shardkit.Loader(settings["dataset"], "val", batch_size=11, **options)
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(3)]
    epochs = settings["epochs"]
    model = Counting(layers, Tally(epochs * len(train), settings["num_pictures"]))
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top_2")],
    )
    callbacks = [shardkit.Resume(train, settings["run"], every=0), StandStill()]
    history = model.fit(
        shardkit.to_keras(train), validation_data=shardkit.to_keras(val), epochs=epochs, verbose=0, callbacks=callbacks
    )
    evaluated = model.evaluate(shardkit.to_keras(val), verbose=0, return_dict=True)
    np.savez(
        f"{settings['out']}.npz",
        seen=np.asarray(model.tally.seen),
        rows=np.asarray(model.tally.rows),
        kernel=np.asarray(model.layers[-1].kernel),
        bias=np.asarray(model.layers[-1].bias),
    )
    found = {
        "rank": train.rank,
        "world_size": train.world_size,
        "evaluated": {name: float(value) for name, value in evaluated.items()},
        "history": {name: [float(value) for value in values] for name, values in history.history.items()},
        "epochs": history.epoch,
        "refused": refused(model, settings["dataset"]),
    }
    with open(f"{settings['out']}.json", "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()

"""A training script as a user writes it, for tests that kill it: the same script, started again, goes on.

Its argument: a JSON document with ``dataset``, ``run`` (where `Resume` saves), ``out`` (where the result goes) and
settings.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import shardkit


def make_model():
    return keras.Sequential(
        [
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dropout(0.4),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


def main():
    settings = json.loads(sys.argv[1])
    keras.utils.set_random_seed(11)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
        tf.config.threading.set_inter_op_parallelism_threads(1)
    options = {"batch_size": 8, "image_size": (16, 16), "chunk_size": 3, "threads": settings.get("threads", 2)}
    train = shardkit.Loader(settings["dataset"], "train", shuffle=True, **options)
    val = shardkit.Loader(settings["dataset"], "val", **options)
    model = make_model()
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=settings.get("steps_per_execution", 1),
    )

    class Slow(keras.callbacks.Callback):
        """Makes the run last long enough to be killed in the middle."""

        def on_train_batch_begin(self, batch, logs=None):
            import time

            time.sleep(settings.get("slow", 0))

    callbacks = [
        keras.callbacks.EarlyStopping("val_loss", patience=50),
        shardkit.Resume(train, settings["run"], every=settings.get("every", 0)),
        keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=0.05),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        Slow(),
    ]
    endless = settings.get("steps_per_epoch") is not None
    history = model.fit(
        shardkit.to_keras(train, repeat=endless),
        validation_data=shardkit.to_keras(val),
        steps_per_epoch=settings.get("steps_per_epoch"),
        epochs=settings.get("epochs", 4),
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )
    variables = [keras.ops.convert_to_numpy(variable) for variable in [*model.variables, *model.optimizer.variables]]
    np.savez(settings["out"] + ".npz", *variables)
    with open(settings["out"] + ".json", "w") as file:
        json.dump({"history": history.history, "epochs": history.epoch}, file)


if __name__ == "__main__":
    main()

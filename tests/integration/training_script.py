"""A training script as a user writes it, for tests that kill it: the same script, started again, resumes.

Its argument: a JSON document with ``dataset``, ``run`` (where `Resume` saves), ``out`` (where the result goes) and
settings.
"""

import json
import os
import random
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from training_models import make_gan, make_plain, make_vae

import shardkit

MODELS = {"plain": make_plain, "gan": make_gan, "vae": make_vae}


def be_deterministic():
    # Keras's own function would import TensorFlow on every backend.
    random.seed(11)
    np.random.seed(11)  # noqa: NPY002 (its state is process-wide)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        keras.utils.set_random_seed(11)
        tf.config.experimental.enable_op_determinism()
        tf.config.threading.set_inter_op_parallelism_threads(1)
    if keras.backend.backend() == "torch":
        import torch

        torch.manual_seed(11)
        torch.use_deterministic_algorithms(True)
        torch.set_num_threads(1)


def random_numbers():
    """The next number of each generator."""
    found = [random.random(), np.random.random(), float(keras.random.normal(()))]  # noqa: NPY002
    if keras.backend.backend() == "torch":
        import torch

        found.append(float(torch.rand(())))
    return found


class EvaluateTheTrainingData(keras.callbacks.Callback):
    """Reads the data that are trained from, within epochs and between them, in every way there is."""

    resume_attributes = ("found",)

    def __init__(self, data):
        super().__init__()
        self.reads, self.found = lambda: data, []

    def on_train_batch_end(self, batch, logs=None):
        if batch == 4:
            data = self.reads()
            self.found += [float(self.model.predict(data, verbose=0).sum()), int(data[1][1].sum())]

    def on_epoch_end(self, epoch, logs=None):
        data = self.reads()
        self.found += [*map(float, self.model.evaluate(data, verbose=0)), data.epoch]
        self.found += [int(labels.sum()) for _, labels in data][:3]


class Slow(keras.callbacks.Callback):
    """Makes the run last long enough to be killed in the middle. Draws random numbers, which must not repeat."""

    resume_attributes = ("drawn",)

    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.drawn = seconds, []

    def on_train_batch_end(self, batch, logs=None):
        import time

        time.sleep(self.seconds)
        self.drawn.append([random.random(), np.random.random()])  # noqa: NPY002


def variables_of(model):
    optimizers = [getattr(model, name, None) for name in ("optimizer", "d_optimizer", "g_optimizer")]
    found = [*model.variables, *model.metrics_variables]
    found += [variable for optimizer in optimizers if optimizer is not None for variable in optimizer.variables]
    return [keras.ops.convert_to_numpy(variable) for variable in found]


def main():
    settings = json.loads(sys.argv[1])
    be_deterministic()
    options = {"batch_size": 8, "image_size": (16, 16), "chunk_size": 3, "threads": settings.get("threads", 2)}
    train = shardkit.Loader(settings["dataset"], "train", shuffle=True, **options)
    kind = settings.get("model", "plain")
    model = MODELS[kind](settings)
    endless = settings.get("steps_per_epoch") is not None
    change = (lambda images, labels: (255 - images, labels)) if settings.get("map") else None
    data = shardkit.to_keras(train, repeat=endless, map=change)
    slow = Slow(settings.get("slow", 0))
    callbacks = [
        keras.callbacks.EarlyStopping("val_loss", patience=50),
        shardkit.Resume(train, settings["run"], every=settings.get("every", 0)),
        keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=0.05),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        slow,
    ]
    if kind != "plain":
        # They have neither a validation nor one learning rate.
        callbacks = [callbacks[1], slow]
    reader = EvaluateTheTrainingData(data)
    if settings.get("evaluate"):
        callbacks.append(reader)
    history = model.fit(
        data,
        validation_data=shardkit.to_keras(shardkit.Loader(settings["dataset"], "val", **options))
        if kind == "plain"
        else None,
        steps_per_epoch=settings.get("steps_per_epoch"),
        epochs=settings.get("epochs", 4),
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )
    np.savez(settings["out"] + ".npz", *variables_of(model))
    result = {
        "history": history.history,
        "epochs": history.epoch,
        "random": random_numbers(),
        "drawn": slow.drawn,
        "read": reader.found,
    }
    with open(settings["out"] + ".json", "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()

"""Programs from Keras's documentation and examples, ported to `shardkit.to_keras`, for `keras_uses.py`.

Each notes in ``map=`` which images Keras takes, so that models may be compiled as users compile them.
"""

import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops
from keras_uses import BACKEND, VERSION, use
from pictures import numbers_in
from training_models import make_gan, make_vae

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def noted(uses, change=None, **options):
    """A training data set, and the list of the images that are taken from it, batch by batch."""
    taken = []

    def note(images, labels):
        taken.append(numbers_in(images))
        return (images, labels) if change is None else change(images, labels)

    return uses.data(map=note, **options), taken


def assert_taken(taken, plan):
    """Check that Keras took exactly these batches, in order."""
    if BACKEND == "jax" and VERSION < (3, 15):
        # Keras takes some batches before it needs them, and again after its look at the first.
        rest = iter(taken)
        assert all(batch in rest for batch in plan)
    else:
        assert taken == plan


def classifier():
    """A small model with random layers and normalization, as in `image_classification_from_scratch`."""
    inputs = keras.Input((16, 16, 3))
    x = layers.RandomRotation(0.1)(layers.RandomFlip("horizontal")(inputs))
    x = layers.Rescaling(1.0 / 255)(x)
    x = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.Dropout(0.25)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(3)(x))


@use
def image_classification_from_scratch(uses):
    data, taken = noted(uses)
    model = classifier()
    model.compile(keras.optimizers.Adam(3e-4), loss=LOSS, metrics=[keras.metrics.SparseCategoricalAccuracy(name="acc")])
    with tempfile.TemporaryDirectory() as folder:
        callbacks = [keras.callbacks.ModelCheckpoint(str(Path(folder) / "save_at_{epoch}.keras"))]
        history = model.fit(data, epochs=2, callbacks=callbacks, validation_data=uses.data("val"), verbose=0).history
        assert len(list(Path(folder).glob("*.keras"))) == 2
    assert_taken(taken, uses.plan(0, 1))
    assert set(history) == {"loss", "acc", "val_loss", "val_acc"}
    images = np.concatenate([x for x, _ in uses.data("val")])
    labels = np.concatenate([y for _, y in uses.data("val")])
    accuracy = (model.predict(images, verbose=0).argmax(1) == labels).mean()
    np.testing.assert_allclose(model.evaluate(uses.data("val"), verbose=0)[1], accuracy, rtol=1e-6)
    np.testing.assert_allclose(history["val_acc"][-1], accuracy, rtol=1e-6)


@use
def segmentation(uses):
    def with_mask(images, _):
        return images.astype("float32") / 255, (images.mean(-1, keepdims=True) > 127).astype("uint8")

    data, taken = noted(uses, with_mask)
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(x))
    model.compile(optimizer="adam", loss=LOSS)
    model.fit(data, epochs=2, verbose=0)
    assert_taken(taken, uses.plan(0, 1))
    assert model.predict(data, verbose=0).shape == (sum(map(len, uses.plan(2))), 16, 16, 2)


class Embedding(keras.Model):
    """Metric learning: anchors and positives, and the position of each as its own class."""

    def similarities(self, pairs):
        anchors, positives = self(pairs[:, 0], training=True), self(pairs[:, 1], training=True)
        return ops.einsum("ae,pe->ap", anchors, positives) / 0.2

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        similarities = self.similarities(x)
        return self.loss(ops.arange(ops.shape(similarities)[0]), similarities)

    def call(self, images, training=False):
        if len(images.shape) == 5:
            images = images[:, 0]
        return self.tail(self.body(images))


@use
def metric_learning(uses):
    def pairs(images, _):
        images = images.astype("float32") / 255
        return np.stack([images, images[:, :, ::-1]], axis=1), np.arange(len(images))

    data, taken = noted(uses, pairs)
    model = Embedding()
    model.body = keras.Sequential([layers.Conv2D(4, 3, strides=2, activation="relu"), layers.GlobalAveragePooling2D()])
    model.tail = keras.Sequential([layers.Dense(4, use_bias=False), layers.UnitNormalization()])
    model.compile(optimizer="adam", loss=LOSS, run_eagerly=BACKEND == "torch")
    model.fit(data, epochs=2, verbose=0)
    assert_taken(taken, uses.plan(0, 1))


@use
def a_training_loop_of_ones_own(uses):
    data, seen = uses.data(), []
    model = keras.Sequential([keras.Input((16, 16, 3)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(3)])
    optimizer = keras.optimizers.SGD(0.01)
    optimizer.build(model.trainable_variables)
    step = {"tensorflow": tensorflow_step, "jax": jax_step, "torch": torch_step}[BACKEND](model, optimizer)
    for epoch in range(2):
        data.epoch = epoch
        for images, labels in data:
            seen.append(numbers_in(images))
            assert np.isfinite(step(images, labels))
    assert seen == uses.plan(0, 1)


def tensorflow_step(model, optimizer):
    import tensorflow as tf

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = LOSS(labels, model(images, training=True))
        optimizer.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)
        return loss

    return lambda images, labels: float(step(tf.convert_to_tensor(images), tf.convert_to_tensor(labels)))


def torch_step(model, optimizer):
    import torch

    def step(images, labels):
        loss = LOSS(torch.from_numpy(labels), model(torch.from_numpy(images), training=True))
        model.zero_grad()
        loss.backward()
        variables = model.trainable_weights
        with torch.no_grad():
            optimizer.apply([variable.value.grad for variable in variables], variables)
        return float(loss.detach())

    return step


def jax_step(model, optimizer):
    import jax

    def loss_of(trainable, fixed, images, labels):
        logits, fixed = model.stateless_call(trainable, fixed, images, training=True)
        return LOSS(labels, logits), fixed

    @jax.jit
    def train(state, images, labels):
        trainable, fixed, of_optimizer = state
        (loss, fixed), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable, fixed, images, labels)
        trainable, of_optimizer = optimizer.stateless_apply(of_optimizer, gradients, trainable)
        return loss, (trainable, fixed, of_optimizer)

    held = [([v.value for v in variables]) for variables in
            (model.trainable_variables, model.non_trainable_variables, optimizer.variables)]  # fmt: skip

    def step(images, labels):
        nonlocal held
        loss, held = train(held, images, labels)
        return float(loss)

    return step


@use
def train_on_batch_in_a_loop(uses):
    data, model = uses.data(), classifier()
    model.compile("sgd", loss=LOSS)
    seen = []
    for images, labels in data:
        seen.append(numbers_in(images))
        model.train_on_batch(images, labels)
    assert seen == uses.plan(0)


@use
def keras_tuner_searches(uses):
    try:
        import keras_tuner
    except ImportError:
        return

    def build(choices):
        model = keras.Sequential([layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(3)])
        model.compile(keras.optimizers.SGD(choices.Float("rate", 1e-4, 1e-2)), loss=LOSS, metrics=["accuracy"])
        return model

    data, taken = noted(uses)
    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_tuner.RandomSearch(build, "val_loss", max_trials=2, directory=folder, project_name="p", seed=1)
        stop = keras.callbacks.EarlyStopping(patience=5)
        tuner.search(data, epochs=2, validation_data=uses.data("val"), callbacks=[stop], verbose=0)
    assert_taken(taken, uses.plan(0, 1, 2, 3))


@use
def folds_by_hand(uses):
    data = uses.data(drop_remainder=False)
    images = np.concatenate([x for x, _ in data])
    labels = np.concatenate([y for _, y in data])
    assert sorted(numbers_in(images)) == sorted(sum(uses.plan(0, drop_remainder=False), []))
    assert labels.tolist() == [number % 3 for number in numbers_in(images)]
    folds = np.arange(len(images)) % 3
    for fold in range(3):
        model = classifier()
        model.compile("sgd", loss=LOSS)
        model.fit(images[folds != fold], labels[folds != fold], verbose=0)
        assert np.isfinite(model.evaluate(images[folds == fold], labels[folds == fold], verbose=0))


@use
def several_targets_from_one_label(uses):
    def both(images, labels):
        return images, {"kind": labels, "is_first": (labels == 0).astype("float32")[:, None]}

    data, taken = noted(uses, both)
    inputs = keras.Input((16, 16, 3))
    x = layers.Flatten()(layers.Rescaling(1 / 255)(inputs))
    outputs = {"kind": layers.Dense(3, name="kind")(x), "is_first": layers.Dense(1, name="is_first")(x)}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", loss={"kind": LOSS, "is_first": keras.losses.BinaryCrossentropy(from_logits=True)})
    model.fit(data, epochs=2, verbose=0)
    assert_taken(taken, uses.plan(0, 1))


@use
def steps_in_one_execution(uses):
    if BACKEND == "torch":
        return  # Keras has none there
    data, taken = noted(uses)
    model = classifier()
    model.compile("sgd", loss=LOSS, steps_per_execution=3)
    model.fit(data, epochs=2, verbose=0)
    assert_taken(taken, uses.plan(0, 1))


@use
def a_gan(uses):
    data, taken = noted(uses)
    make_gan({}).fit(data, epochs=2, verbose=0)
    assert_taken(taken, uses.plan(0, 1))


@use
def a_variational_autoencoder(uses):
    data, taken = noted(uses)
    make_vae({}).fit(data, epochs=2, verbose=0)
    assert_taken(taken, uses.plan(0, 1))

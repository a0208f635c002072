"""The loader inside Keras: which batches a model really sees."""

import gc
import os
import threading
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from pictures import make_dataset, numbers_in

import shardkit

keras = pytest.importorskip("keras", reason="Keras is not installed")

SIZE = (16, 16)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("keras"), 100, split="train=0.7,val=0.3", stratify=True)


@pytest.fixture
def train(dataset):
    return shardkit.Loader(dataset, "train", batch_size=8, image_size=SIZE, shuffle=True, chunk_size=3, lanes=4)


class Recorder(keras.Model):
    """A model that keeps what reaches its steps, in order."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)
        self.flat = keras.layers.Flatten()
        self.scale = keras.layers.Rescaling(1 / 255)
        self.trained, self.tested, self.weights_seen = [], [], []

    def call(self, images):
        return self.dense(self.flat(self.scale(images)))

    def train_step(self, data):
        images, _, weights = keras.utils.unpack_x_y_sample_weight(data)
        self.trained.append(numbers_in(images))
        self.weights_seen.append(None if weights is None else np.asarray(weights).tolist())
        return super().train_step(data)

    def test_step(self, data):
        self.tested.append(numbers_in(keras.utils.unpack_x_y_sample_weight(data)[0]))
        return super().test_step(data)


@pytest.fixture
def model():
    made = Recorder()
    made.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"], run_eagerly=True
    )
    return made


def plan(loader, *epochs):
    """The batches that the loader itself hands out."""
    return [numbers_in(batch.arrays["image"]) for epoch in epochs for batch in loader.batches(epoch)]


def test_fit_sees_every_batch_of_every_epoch_in_plan_order(train, model):
    history = model.fit(shardkit.to_keras(train), epochs=3, verbose=0)
    assert model.trained == plan(train, 0, 1, 2)
    assert len(history.history["loss"]) == 3


def test_another_fit_goes_on_with_the_next_epoch(train, model):
    data = shardkit.to_keras(train)
    model.fit(data, epochs=2, verbose=0)
    model.fit(data, epochs=1, verbose=0)
    assert model.trained == plan(train, 0, 1, 2)


def test_the_peek_reads_nothing(train, model, monkeypatch):
    data = shardkit.to_keras(train)
    opened = []
    real = train.batches
    monkeypatch.setattr(train, "batches", lambda *where: opened.append(where) or real(*where))
    model.fit(data, epochs=2, verbose=0)
    assert opened == [(0, 0), (1, 0)]
    assert model.trained == plan(train, 0, 1)


def test_a_look_at_a_batch_consumes_nothing(train, model):
    data = shardkit.to_keras(train)
    images, labels = data[0]
    assert (images.shape, labels.shape) == ((8, 16, 16, 3), (8,))
    assert numbers_in(images) == plan(train, 0)[0]
    model.fit(data, epochs=2, verbose=0)
    assert model.trained == plan(train, 0, 1)


def test_the_bar_knows_the_steps(train, model, capsys):
    model.fit(shardkit.to_keras(train), epochs=1, verbose=2)
    assert f"{len(train)}/{len(train)}" in capsys.readouterr().out


def test_validation_is_whole_and_the_same_each_time(train, dataset, model):
    val = shardkit.Loader(dataset, "val", batch_size=8, image_size=SIZE)
    model.fit(shardkit.to_keras(train), validation_data=shardkit.to_keras(val), epochs=3, verbose=0)
    assert model.tested == plan(val, 0) * 3
    assert sum(map(len, plan(val, 0))) == val.num_samples
    assert model.trained == plan(train, 0, 1, 2)


def test_validation_steps_begin_at_the_front_each_time(train, dataset, model):
    val = shardkit.Loader(dataset, "val", batch_size=8, image_size=SIZE)
    model.fit(shardkit.to_keras(train), validation_data=shardkit.to_keras(val), validation_steps=2, epochs=3, verbose=0)
    assert model.tested == plan(val, 0)[:2] * 3


def test_steps_per_epoch_loses_nothing_over_endless_data(train, model):
    data = shardkit.to_keras(train, repeat=True)
    model.fit(data, steps_per_epoch=5, epochs=4, shuffle=False, verbose=0)
    assert model.trained == plan(train, 0, 1, 2)[:20]


@pytest.mark.parametrize("repeat", [True, False])
def test_what_tensorflow_fetches_ahead_between_epochs_is_real(train, model, monkeypatch, repeat):
    class Slow:
        """Batches that take a while, so that TensorFlow's own prefetching still waits when Keras ends an epoch."""

        def __init__(self, batches):
            self.batches = batches
            self.close = batches.close

        def __iter__(self):
            return self

        def __next__(self):
            time.sleep(0.05)
            return next(self.batches)

    class Pause(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            assert data.num_batches == (None if repeat else 8)
            time.sleep(0.3)

    expected = plan(train, 0, 1)
    real = train.batches
    monkeypatch.setattr(train, "batches", lambda *where: Slow(real(*where)))
    data = shardkit.to_keras(train, repeat=repeat)
    model.fit(data, steps_per_epoch=2, epochs=8, shuffle=False, verbose=0, callbacks=[Pause()])
    assert model.trained == expected


def test_steps_per_epoch_that_divides_the_epoch(train, model):
    assert len(train) == 8
    model.fit(shardkit.to_keras(train), steps_per_epoch=4, epochs=4, verbose=0)
    assert model.trained == plan(train, 0, 1)


def test_class_weight_reaches_the_model(train, model):
    model.fit(shardkit.to_keras(train), class_weight={0: 1.0, 1: 2.0, 2: 5.0}, epochs=1, verbose=0)
    labels = [(np.array(batch) % 3).tolist() for batch in plan(train, 0)]
    assert model.weights_seen == [[(1.0, 2.0, 5.0)[label] for label in batch] for batch in labels]


def test_steps_per_execution(train, model):
    model.compile(loss=model.loss, steps_per_execution=3, run_eagerly=True)
    model.fit(shardkit.to_keras(train), epochs=2, verbose=0)
    assert model.trained == plan(train, 0, 1)


def test_steps_that_do_not_divide_a_finite_epoch_are_warned_of_by_keras_and_lose_nothing(train, model):
    with pytest.warns(UserWarning, match="ran out of data"):
        model.fit(shardkit.to_keras(train), steps_per_epoch=5, epochs=4, verbose=0)
    assert model.trained == plan(train, 0, 1)


def test_evaluate_equals_the_plain_computation(dataset, model):
    val = shardkit.Loader(dataset, "val", batch_size=7, image_size=SIZE)
    images, labels = (np.concatenate(parts) for parts in zip(*val, strict=True))
    loss, accuracy = model.evaluate(shardkit.to_keras(val), verbose=0)
    logits = model(images).numpy().astype(np.float64)
    log_likelihood = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert loss == pytest.approx(-log_likelihood[np.arange(len(labels)), labels].mean(), rel=1e-5)
    assert accuracy == pytest.approx((logits.argmax(axis=1) == labels).mean(), rel=1e-6)


def test_predictions_line_up_with_keys(dataset, model):
    val = shardkit.Loader(dataset, "val", batch_size=7, image_size=SIZE, label_mode=None)
    predictions = model.predict(shardkit.to_keras(val), verbose=0)
    keys = val.keys(0)
    assert len(predictions) == len(keys) == val.num_samples
    images = {
        key: image for batch in val.batches(0) for key, image in zip(batch.keys, batch.arrays["image"], strict=True)
    }
    for key, prediction in zip(keys, predictions, strict=True):
        np.testing.assert_allclose(model(images[key][None]).numpy()[0], prediction, rtol=1e-4, atol=1e-5)


def test_an_exception_in_the_training_step_leaves_no_thread(train, model):
    class Boom(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise ValueError("boom")

    before = {thread for thread in threading.enumerate() if thread.name.startswith("shardkit")}
    data = shardkit.to_keras(train)
    with pytest.raises(ValueError, match="boom"):
        model.fit(data, epochs=1, verbose=0, callbacks=[Boom()])
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        left = {thread for thread in threading.enumerate() if thread.name.startswith("shardkit")} - before
        if not left:
            break
        time.sleep(0.05)
    assert not left
    gc.collect()
    model.trained.clear()
    model.fit(data, epochs=1, verbose=0)
    assert model.trained == plan(train, 0)


def test_tf_data_has_a_signature_a_length_and_the_same_batches(train):
    dataset = shardkit.to_tf(train)
    images, labels = dataset.element_spec
    assert images.shape == (8, 16, 16, 3)
    assert labels.dtype.name == "int64"
    assert int(dataset.cardinality()) == len(train)
    for epoch in (0, 1):
        assert [numbers_in(images.numpy()) for images, _ in dataset] == plan(train, epoch)

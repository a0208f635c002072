"""Whatever a model holds that training changes is saved and put back, also what is made in the first step only."""

import dataclasses
import random
from types import SimpleNamespace

import fits
import keras
import numpy as np
import pytest
from fits import Stop, fit, same_arrays, seed, stopped
from keras import layers, ops
from pictures import make_dataset

import shardkit
from shardkit.adapters.keras.variables import state_of

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="models are written for TensorFlow"),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("models"), 100, split="train=0.7,val=0.3", stratify=True)


class Pair(keras.Model):
    """Two networks with an optimizer each, and neither `call` nor inputs: all variables are made in the first step."""

    def __init__(self):
        super().__init__()
        self.parts = {"encoder": self.network(4), "decoder": [self.network(16 * 16 * 3)]}
        self.seed_generator = keras.random.SeedGenerator(5)
        self.seen = keras.metrics.AUC(multi_label=True, num_thresholds=5)
        self.steps = tf.Variable(0, dtype="int64")
        self.generator = tf.random.Generator.from_seed(3)
        self.noise = np.random.default_rng(3)
        self.dice = random.Random(3)

    @staticmethod
    def network(units):
        return keras.Sequential([layers.Flatten(), layers.Dense(8, "relu"), layers.Dropout(0.3), layers.Dense(units)])

    def compile(self, first, second, **options):
        super().compile(**options)
        self.first, self.second = first, {"of decoder": second}

    @property
    def metrics(self):
        return [self.seen]

    def train_step(self, data):
        images = ops.cast(data[0], "float32") / 255
        encoder, (decoder,) = self.parts["encoder"], self.parts["decoder"]
        noise = keras.random.normal((ops.shape(images)[0], 4), seed=self.seed_generator)
        noise += self.generator.normal((ops.shape(images)[0], 4)) + keras.random.normal((4,))
        drawn = tf.numpy_function(lambda: np.float32(self.noise.normal() + self.dice.random()), [], "float32")
        noise += tf.reshape(drawn, ())
        with tf.GradientTape(persistent=True) as tape:
            flat = ops.reshape(images, (-1, 16 * 16 * 3))
            loss = ops.mean(ops.square(decoder(encoder(images, training=True) + noise, training=True) - flat))
            scaled = self.first.scale_loss(loss)
        self.first.apply(tape.gradient(scaled, encoder.trainable_variables), encoder.trainable_variables)
        self.second["of decoder"].apply(tape.gradient(loss, decoder.trainable_variables), decoder.trainable_variables)
        self.seen.update_state(ops.one_hot(data[1], 3), ops.ones((ops.shape(images)[0], 3)) * loss)
        self.steps.assign_add(1)
        return {"loss": loss, "seen": self.seen.result()}


def make_pair():
    pair = Pair()
    pair.compile(
        keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), dynamic_growth_steps=5),
        keras.optimizers.SGD(0.01, momentum=0.9, use_ema=True, gradient_accumulation_steps=2),
    )
    return pair


def everything(model):
    found = [*model.variables, *model.seen.variables, *model.first.variables, *model.second["of decoder"].variables]
    numbers = [model.noise.normal(), model.dice.random(), random.random(), np.random.random()]  # noqa: NPY002
    return [*found, model.steps, model.generator.state, keras.random.normal((2,)), *numbers]


@pytest.mark.parametrize("at", [(0, 2), (1, 5), (2, 0)])
def test_all_that_a_first_step_makes_is_put_back(dataset, tmp_path, at):
    seed(1)
    whole, history = fit(dataset, tmp_path / "whole", model=make_pair(), validate=False)
    expected = everything(whole)
    assert int(whole.steps) == 24
    seed(1)
    stopped(dataset, tmp_path / "parts", at=at, model=make_pair(), validate=False)
    # Another process would not have the same seed either.
    seed(2)
    parts, resumed = fit(dataset, tmp_path / "parts", model=make_pair(), validate=False)
    assert resumed.history == history.history
    same_arrays(everything(parts), expected)


def test_what_only_an_evaluation_makes_is_put_back(dataset, tmp_path):
    class Judged(keras.Sequential):
        def __init__(self, layers):
            super().__init__(layers)
            # Keras does not find it there, and never resets it.
            self.judge = SimpleNamespace(auc=keras.metrics.AUC(multi_label=True, num_thresholds=5))

        def test_step(self, data):
            self.judge.auc.update_state(ops.one_hot(data[1], 3), ops.softmax(self(data[0])))
            return {**super().test_step(data), "auc": self.judge.auc.result()}

    def judged():
        model = Judged(fits.make_model().layers)
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    seed(1)
    whole = fit(dataset, tmp_path / "whole", model=judged())
    seed(1)
    stopped(dataset, tmp_path / "parts", at=(1, 3), model=judged())
    parts = fit(dataset, tmp_path / "parts", model=judged())
    assert parts[1].history == whole[1].history
    assert len(set(whole[1].history["val_auc"])) > 1
    same_arrays(parts[0].judge.auc.variables, whole[0].judge.auc.variables)


def test_each_optimizer_knows_its_variables(dataset, tmp_path):
    pair = fit(dataset, tmp_path, model=make_pair(), epochs=1, validate=False)[0]
    built = state_of(pair).variables_of_optimizers()
    assert set(built) == {"model.first", "model.first.inner_optimizer", "model.second['of decoder']"}
    assert built["model.first"] == built["model.first.inner_optimizer"]
    assert len(built["model.first"]) == len(built["model.second['of decoder']"]) == 4
    assert not {*built["model.first"]} & {*built["model.second['of decoder']"]}


def test_a_difference_is_named(dataset, tmp_path):
    fit(dataset, tmp_path, epochs=1)
    inputs = keras.Sequential([layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(3, use_bias=False)])
    inputs.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    with pytest.raises(
        shardkit.StateError, match=r"another model, which differs in model\._layers\[3\]\.bias"
    ) as caught:
        fit(dataset, tmp_path, model=inputs)
    assert (caught.value.expected, caught.value.found) == ("float32 of shape (3,)", "nothing")


def test_what_of_a_model_cannot_be_saved_is_named_once(dataset, tmp_path):
    model = fits.make_model()
    model.words = iter(["a", "b"])
    model.helper = type("Helper", (), {})()
    model.helper.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    with pytest.warns(shardkit.ShardkitWarning) as caught:
        fit(dataset, tmp_path, model=model)
    assert len(caught) == 1
    said = str(caught[0].message)
    assert "model.words (list_iterator), model.helper.table (MutableHashTable)" in said


def test_compiled_random_operations_are_named(dataset, tmp_path):
    class Noisy(keras.Sequential):
        def train_step(self, data):
            images = ops.cast(data[0], "float32")
            return super().train_step((images + tf.random.normal(tf.shape(images)), data[1]))

    model = Noisy(fits.make_model().layers)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.warns(shardkit.ShardkitWarning, match=r"does not save RandomStandardNormal of tf\.random"):
        fit(dataset, tmp_path, epochs=1, model=model)


def test_parameters_buffers_and_generators_of_torch_are_state():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model = fits.make_model()
    model.inner = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).to(torch.bfloat16)
    model.inner.register_buffer("cache", torch.zeros(3), persistent=False)
    model.generator = torch.Generator().manual_seed(3)
    model.optimizer_of_torch = torch.optim.Adam(model.inner.parameters())
    found = state_of(model)
    assert found.unsaved == ("model.optimizer_of_torch (Adam)",)
    names = {name for name in found.holders if name.startswith(("model.inner", "model.generator"))}
    norm = {
        f"model.inner.1.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    assert names == {"model.inner.0.weight", "model.inner.0.bias", "model.generator", *norm}
    before = {name: found.holders[name].read() for name in names}
    expected = [model.inner.state_dict(), model.generator.get_state()]
    expected = [{name: value.clone() for name, value in expected[0].items()}, expected[1].clone()]
    model.inner(torch.randn(4, 2, generator=model.generator, dtype=torch.bfloat16)).sum().backward()
    with torch.no_grad():
        for parameter in model.inner.parameters():
            parameter.add_(1)
    for name in names:
        found.holders[name].write(before[name])
    assert torch.equal(model.generator.get_state(), expected[1])
    for name, value in model.inner.state_dict().items():
        assert torch.equal(value, expected[0][name])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in Keras's own callback
def test_a_learning_rate_schedule_by_epochs_continues_in_a_run_with_more_epochs(dataset, tmp_path):
    def schedule():
        return keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)

    seed(1)
    whole, history = fit(dataset, tmp_path / "whole", schedule(), epochs=4)
    seed(1)
    fit(dataset, tmp_path / "parts", schedule(), epochs=2)
    parts, resumed = fit(dataset, tmp_path / "parts", schedule(), epochs=4)
    assert resumed.history == history.history
    same_arrays(parts.variables, whole.variables)


def test_a_run_of_another_backend_or_version_is_refused(dataset, tmp_path):
    from shardkit.adapters.keras.snapshot import read_snapshot, write_snapshot
    from shardkit.storage import open_store

    fit(dataset, tmp_path, epochs=1)
    store = open_store(tmp_path)
    saved = read_snapshot(store, "resume.npz")
    write_snapshot(store, "resume.npz", dataclasses.replace(saved, backend="jax"))
    with pytest.raises(shardkit.StateError, match="another Keras backend.*expected jax, found tensorflow"):
        fit(dataset, tmp_path)


def test_a_step_that_was_stepped_over_is_trained_by_a_later_fit(dataset, tmp_path):
    model = fits.make_model()
    stopped(dataset, tmp_path, at=(1, 5), model=model)
    # This one ends while it steps over what is done.
    stopped(dataset, tmp_path, at=(1, 2), model=model)
    before = int(model.optimizer.iterations.numpy())
    model.fit(shardkit.to_keras(fits.loaders(dataset)[0]), epochs=1, verbose=0)
    assert int(model.optimizer.iterations.numpy()) == before + 8


def test_training_that_a_callback_ended_stays_ended_when_its_validation_is_killed(dataset, tmp_path):
    class EndEarly(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = self.model.stop_training or (self.params["steps"] == 8 and batch == 4)

    class StopInValidation(keras.callbacks.Callback):
        def on_test_batch_begin(self, batch, logs=None):
            raise InterruptedError

    seed(1)
    whole, history = fit(dataset, tmp_path / "whole", EndEarly())
    seed(1)
    with pytest.raises(InterruptedError):
        fit(dataset, tmp_path / "parts", EndEarly(), StopInValidation())
    parts, resumed = fit(dataset, tmp_path / "parts", EndEarly())
    assert resumed.epoch == history.epoch == [0]
    assert resumed.history == history.history
    same_arrays(parts.variables, whole.variables)


def test_a_second_stop_before_a_real_step_loses_nothing(dataset, tmp_path):
    seed(1)
    whole = fit(dataset, tmp_path / "whole")[1]
    seed(1)
    stopped(dataset, tmp_path / "parts", at=(1, 6))
    stopped(dataset, tmp_path / "parts", at=(1, 3))
    assert fit(dataset, tmp_path / "parts", Stop(9, 9))[1].history == whole.history

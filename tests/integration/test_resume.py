"""A run that is killed and started again ends as if nothing had happened."""

import importlib.util
import os
import random

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
from fits import Stop, Watch, fit, loaders, make_model
from pictures import make_dataset, numbers_in
from stopping import kills_of_each_kind
from training_runs import Run, same

import shardkit


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("resume"), 100, split="train=0.7,val=0.3", stratify=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"steps_per_execution": 4},
        {"steps_per_execution": 3},
        {"steps_per_epoch": 5, "epochs": 6},
        {"backend": "jax"},
        {"backend": "jax", "steps_per_epoch": 5, "epochs": 6},
        {"backend": "torch"},
    ],
    ids=[
        "plain",
        "steps-per-execution",
        "execution-that-does-not-divide",
        "steps-per-epoch",
        "jax",
        "jax-steps-per-epoch",
        "torch",
    ],
)
def test_killed_at_random_moments_the_run_ends_bit_for_bit_the_same(tmp_path, dataset, settings):
    backend = settings.get("backend", "tensorflow")
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    whole = Run(tmp_path, dataset, "whole", **settings)
    whole.finish()
    expected = whole.result()
    assert len(expected[0]["epochs"]) == settings.get("epochs", 4)
    kills, rng = kills_of_each_kind(), random.Random(1)
    done, chain = 0, 0
    while done < kills:
        run = Run(tmp_path, dataset, f"killed{chain}", slow=0.08, **settings)
        chain += 1
        for _ in range(8):
            if done == kills or not run.kill_after_a_save(rng.uniform(0, 1.5), threads=rng.randint(1, 4)):
                break
            done += 1
        run.finish(slow=0, threads=rng.randint(1, 4))
        same(run.result(), expected)


def test_a_finished_run_started_again_trains_nothing_and_keeps_its_history(dataset, tmp_path):
    keras.utils.set_random_seed(1)
    model, history = fit(dataset, tmp_path)
    watch = Watch()
    again, told = fit(dataset, tmp_path, watch)
    assert watch.epochs == watch.batches == []
    assert told.history == history.history
    assert told.epoch == history.epoch
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_finished_run_goes_on_with_more_epochs(dataset, tmp_path):
    keras.utils.set_random_seed(1)
    whole = fit(dataset, tmp_path / "whole", epochs=5)
    keras.utils.set_random_seed(1)
    fit(dataset, tmp_path / "parts", epochs=2)
    watch = Watch()
    parts = fit(dataset, tmp_path / "parts", watch, epochs=5)
    assert watch.epochs == [2, 3, 4]
    assert len(watch.batches) == 3 * 8
    assert parts[1].history == whole[1].history
    for one, other in zip(whole[0].get_weights(), parts[0].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "where", [(0, 3), (1, 7), *(pytest.param(where, marks=pytest.mark.slow) for where in ((0, 0), (1, 0), (2, 4)))]
)
def test_after_an_exception_it_goes_on_at_the_very_next_batch(dataset, tmp_path, where):
    keras.utils.set_random_seed(2)
    whole = fit(dataset, tmp_path / "whole")
    keras.utils.set_random_seed(2)
    first = make_model()
    with pytest.raises(InterruptedError):
        fit(dataset, tmp_path / "parts", Stop(*where), model=first)
    keras.utils.set_random_seed(2)
    parts = fit(dataset, tmp_path / "parts")
    assert parts[1].history == whole[1].history
    for one, other in zip(whole[0].get_weights(), parts[0].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_stop_during_validation_loses_nothing(dataset, tmp_path):
    class StopInValidation(keras.callbacks.Callback):
        def on_test_batch_begin(self, batch, logs=None):
            raise InterruptedError

    keras.utils.set_random_seed(3)
    whole = fit(dataset, tmp_path / "whole")
    keras.utils.set_random_seed(3)
    with pytest.raises(InterruptedError):
        fit(dataset, tmp_path / "parts", StopInValidation(), every=None)
    trained = []

    class Count(keras.callbacks.Callback):
        resume_attributes = ()

        def on_epoch_begin(self, epoch, logs=None):
            self.iterations = int(self.model.optimizer.iterations.numpy())

        def on_epoch_end(self, epoch, logs=None):
            trained.append(int(self.model.optimizer.iterations.numpy()) - self.iterations)

    parts = fit(dataset, tmp_path / "parts", Count(), every=None)
    assert trained == [0, 8, 8]
    assert parts[1].history == whole[1].history


def test_the_model_sees_exactly_the_batches_that_are_left(dataset, tmp_path):
    class Recorder(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.flat, self.seen = keras.layers.Dense(3), keras.layers.Flatten(), []

        def call(self, images):
            return self.dense(self.flat(keras.ops.cast(images, "float32")))

        def train_step(self, data):
            self.seen.append(numbers_in(data[0]))
            return super().train_step(data)

    def recorder():
        made = Recorder()
        made.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
        return made

    first, second = recorder(), recorder()
    with pytest.raises(InterruptedError):
        fit(dataset, tmp_path, Stop(1, 5), model=first)
    fit(dataset, tmp_path, model=second)
    train = loaders(dataset)[0]
    plan = [numbers_in(batch.arrays["image"]) for epoch in range(3) for batch in train.batches(epoch)]
    assert first.seen == plan[:13]
    # The last save was taken before the step that came before the exception.
    assert second.seen == plan[12:]


def test_early_stopping_counts_on(dataset, tmp_path):
    class Never(keras.callbacks.EarlyStopping):
        """Sees no improvement after the first epoch."""

        def get_monitor_value(self, logs):
            return 1.0

    def patience():
        return Never("val_loss", patience=3)

    keras.utils.set_random_seed(4)
    whole = fit(dataset, tmp_path / "whole", patience(), epochs=10)
    keras.utils.set_random_seed(4)
    with pytest.raises(InterruptedError):
        fit(dataset, tmp_path / "parts", patience(), Stop(2, 3), epochs=10)
    parts = fit(dataset, tmp_path / "parts", patience(), epochs=10)
    assert len(whole[1].epoch) == 4
    assert parts[1].epoch == whole[1].epoch
    watch = Watch()
    fit(dataset, tmp_path / "parts", watch, epochs=10)
    assert watch.epochs == [], "a run that was stopped early is finished"


# Keras saves models and writes summaries in ways that numpy 2 warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_checkpoints_and_logs_of_other_callbacks_go_on(dataset, tmp_path):
    def callbacks(name):
        checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / f"{name}.keras", "val_loss", save_best_only=True)
        return [checkpoint, keras.callbacks.TensorBoard(tmp_path / f"{name}-logs")]

    keras.utils.set_random_seed(6)
    whole = callbacks("whole")
    fit(dataset, tmp_path / "whole", *whole, epochs=4)
    keras.utils.set_random_seed(6)
    with pytest.raises(InterruptedError):
        fit(dataset, tmp_path / "parts", *callbacks("parts"), Stop(2, 3), epochs=4)
    parts = callbacks("parts")
    fit(dataset, tmp_path / "parts", *parts, epochs=4)
    assert parts[0].best == whole[0].best
    assert parts[1]._global_train_batch == whole[1]._global_train_batch == 32
    best = [keras.models.load_model(tmp_path / f"{name}.keras").get_weights() for name in ("whole", "parts")]
    for one, other in zip(*best, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_data_set_seed_or_model_is_refused_by_name(dataset, tmp_path):
    fit(dataset, tmp_path / "run", epochs=1)
    with pytest.raises(shardkit.StateError, match="another seed") as caught:
        fit(dataset, tmp_path / "run", seed=5)
    assert (caught.value.expected, caught.value.found) == (0, 5)
    with pytest.raises(shardkit.StateError, match="another batch_size"):
        fit(dataset, tmp_path / "run", batch_size=7)
    other = make_dataset(tmp_path, 50, split="train=0.7,val=0.3")
    with pytest.raises(shardkit.StateError, match="another data set"):
        fit(other, tmp_path / "run")
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(8), keras.layers.Dense(3)])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(shardkit.StateError, match="another model"):
        fit(dataset, tmp_path / "run", model=model)


def test_what_of_a_callback_cannot_be_saved_is_named(dataset, tmp_path):
    class Keeper(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.file, self.count = object(), 3

    with pytest.warns(shardkit.ShardkitWarning, match="does not save file of Keeper"):
        fit(dataset, tmp_path, Keeper(), epochs=1)


def test_a_damaged_save_is_an_error_that_says_what_to_do(dataset, tmp_path):
    fit(dataset, tmp_path, epochs=1)
    save = tmp_path / "resume.npz"
    save.write_bytes(save.read_bytes()[:-50])
    with pytest.raises(shardkit.StateError, match="Delete it to begin from the start"):
        fit(dataset, tmp_path)

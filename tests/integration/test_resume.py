"""A run that is killed and started again ends as if nothing had happened."""

import dataclasses
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
from shardkit.adapters.keras.snapshot import CallbackState, read_snapshot, write_snapshot
from shardkit.storage import open_store


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


class Tally(keras.callbacks.Callback):
    """Counts batches by the epoch that it was told when the epoch began."""

    resume_attributes = ("epoch", "batches", "total", "place")

    def __init__(self):
        super().__init__()
        self.epoch, self.batches, self.total, self.place = None, {}, np.zeros(2, np.float32), (0, 0)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.batches[self.epoch] = self.batches.get(self.epoch, 0) + 1
        self.total += np.float32(logs["loss"])
        self.place = (self.epoch, batch)


PROGRESS = {
    "Tally": ("epoch", "batches", "place"),
    "EarlyStopping": ("wait", "best", "best_epoch", "stopped_epoch"),
    "ModelCheckpoint": ("best", "_batches_seen_since_last_saving", "_last_batch_seen", "_current_epoch"),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
    "BackupAndRestore": ("_batches_seen_since_last_saving", "_last_batch_seen", "_current_epoch"),
    "TensorBoard": ("_global_train_batch", "_global_test_batch"),
    "SwapEMAWeights": ("_ema_weights_in_model",),
    "CSVLogger": ("keys",),
    "History": ("epoch", "history"),
}


# Keras saves models and writes summaries in ways that numpy 2 warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_every_callback_counts_on_whatever_its_place(dataset, tmp_path):
    def run(name, *more, epochs=3):
        folder, (train, val) = tmp_path / name, loaders(dataset)
        model = keras.Sequential([keras.Input((16, 16, 3)), *make_model().layers])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01, use_ema=True), loss)
        folder.mkdir(exist_ok=True)
        callbacks = [
            Tally(),
            keras.callbacks.EarlyStopping("loss", patience=5, restore_best_weights=True),
            keras.callbacks.ModelCheckpoint(folder / "all.weights.h5", save_weights_only=True, save_freq=7),
            keras.callbacks.CSVLogger(folder / "log.csv", append=True),
            keras.callbacks.ModelCheckpoint(folder / "best.keras", "loss", save_best_only=True),
            keras.callbacks.SwapEMAWeights(),
            shardkit.Resume(train, folder, every=0),
            keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=100.0),
            keras.callbacks.BackupAndRestore(folder / "backup", save_freq=1000),
            keras.callbacks.TensorBoard(folder / "logs"),
            Tally(),
            *more,
        ]
        try:
            history = model.fit(
                shardkit.to_keras(train), validation_data=shardkit.to_keras(val), validation_freq=2, epochs=epochs,
                verbose=0, callbacks=callbacks,
            )  # fmt: skip
        finally:
            callbacks[3].csv_file.close()
        return [*callbacks, history], model.get_weights()

    keras.utils.set_random_seed(7)
    expected, weights = run("whole")
    keras.utils.set_random_seed(7)
    with pytest.raises(InterruptedError):
        run("parts", Stop(1, 4))
    found, resumed = run("parts")
    for one, other in zip(expected, found, strict=True):
        for name in PROGRESS.get(type(one).__name__, ()):
            assert getattr(one, name) == getattr(other, name), (one, name)
        if isinstance(one, Tally):
            np.testing.assert_array_equal(one.total, other.total)
    best = [keras.models.load_model(tmp_path / name / "best.keras").get_weights() for name in ("whole", "parts")]
    for one, other in zip([*weights, *best[0]], [*resumed, *best[1]], strict=True):
        np.testing.assert_array_equal(one, other)
    assert (tmp_path / "parts" / "log.csv").read_text() == (tmp_path / "whole" / "log.csv").read_text()
    # A finished run that continues: each callback gets its state back before its next epoch begins.
    tallies = [each for each in run("parts", epochs=4)[0] if isinstance(each, Tally)]
    assert [(each.epoch, each.batches) for each in tallies] == [(3, {0: 8, 1: 8, 2: 8, 3: 8})] * 2


def test_what_of_a_callback_cannot_be_saved_is_named(dataset, tmp_path):
    class Keeper(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.file, self.count = object(), 3

    with pytest.warns(shardkit.ShardkitWarning, match="does not save file of Keeper, count of Keeper") as caught:
        fit(dataset, tmp_path / "run", Keeper(), epochs=1)
    assert len(caught) == 1
    Keeper.resume_attributes = ("count", "file")
    with pytest.raises(shardkit.ConfigError, match="cannot save file of Keeper: file is a object"):
        fit(dataset, tmp_path / "other", Keeper(), epochs=1)
    assert not (tmp_path / "other" / "resume.npz").exists()
    Keeper.resume_attributes = ()
    fit(dataset, tmp_path / "other", Keeper(), epochs=1)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_foreign_save_changes_nothing(dataset, tmp_path):
    def checkpoint():
        return keras.callbacks.ModelCheckpoint(tmp_path / "a.weights.h5", save_weights_only=True)

    def callback(name, **values):
        return {"callbacks": (CallbackState(name, values),)}

    fit(dataset, tmp_path, checkpoint(), epochs=1, validate=False)
    store = open_store(tmp_path)
    saved = read_snapshot(store, "resume.npz")
    python = saved.random["python"]
    loader = dict(saved.loader)
    weights = [np.zeros(3, np.float32)]
    kernel = next(name for name in saved.variables.kinds if name.endswith("kernel"))
    values = {**saved.variables.values, kernel: np.zeros(3, np.uint8)}
    foreign = {
        "sets filepath of ModelCheckpoint, which is not declared": callback("ModelCheckpoint", filepath="/elsewhere"),
        "sets history of History to something else than a dict": callback("History", history=[1]),
        "sets best_weights of EarlyStopping to something else": callback("EarlyStopping", best_weights=weights),
        "another value for .*kernel": {"variables": dataclasses.replace(saved.variables, values=values)},
        "states that the random generators": {"random": {**saved.random, "python": {**python, "version": 2}}},
        "random generators .*numpy": {"random": {**saved.random, "numpy": None}},
        "not a saved position": {"loader": {**loader, "step": -1}},
        "behind the end of the epoch": {"loader": {**loader, "step": 9}},
        "saved step is behind the end": {"step": 9, "finished": False},
        "at another step than its data": {"step": 3, "finished": False},
        "another Keras backend": {"backend": "numpy"},
        "another model": {"variables": dataclasses.replace(saved.variables, kinds={}, values={})},
    }
    model = make_model()
    model.build((None, 16, 16, 3))
    before, next_number = model.get_weights(), random.Random()
    next_number.setstate(random.getstate())
    expected = next_number.random()
    for message, changes in foreign.items():
        write_snapshot(store, "resume.npz", dataclasses.replace(saved, **changes))
        callbacks = [checkpoint(), keras.callbacks.EarlyStopping("loss")]
        with pytest.raises(shardkit.StateError, match=message):
            fit(dataset, tmp_path, *callbacks, model=model, validate=False)
        for one, other in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
        assert callbacks[0].filepath == str(tmp_path / "a.weights.h5")
    assert random.random() == expected


def test_a_damaged_save_is_an_error_that_says_what_to_do(dataset, tmp_path):
    fit(dataset, tmp_path, epochs=1)
    save = tmp_path / "resume.npz"
    save.write_bytes(save.read_bytes()[:-50])
    with pytest.raises(shardkit.StateError, match="Delete it to begin from the start"):
        fit(dataset, tmp_path)

"""Epochs of the samples that the workers of a PyTorch `DataLoader` share: run by `test_webdataset_workers.py`."""

import copy
import itertools
import pickle

import pytest
from pictures import make_dataset

import shardkit

data = pytest.importorskip("torch.utils.data", reason="PyTorch is not installed")
wds = pytest.importorskip("webdataset")

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # more workers than cores
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("workers"), 53)


@pytest.fixture
def loader(dataset):
    """53 samples in 6 batches of 8: each epoch drops 5, which are others each time."""
    return shardkit.Loader(dataset, batch_size=8, shuffle=True, chunk_size=3)


def key_of(sample):
    return sample["__key__"]


class Samples(data.IterableDataset):
    """As a user's own data set wraps them."""

    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        return map(key_of, self.samples)


def make(loader, num_workers, **options):
    return data.DataLoader(Samples(shardkit.to_webdataset(loader)), batch_size=None, num_workers=num_workers, **options)


def epochs_of(keys, loader, among=range(12)):
    """The epochs whose samples these are, each once."""
    return [epoch for epoch in among if sorted(keys) == sorted(loader.keys(epoch))]


def test_sets_of_keys_tell_epochs_apart(loader):
    assert all(epochs_of(loader.keys(epoch), loader) == [epoch] for epoch in range(12))


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_each_iteration_is_the_next_epoch(loader, num_workers, persistent):
    torch_loader = make(loader, num_workers, multiprocessing_context="fork", persistent_workers=persistent)
    found = [list(torch_loader) for _ in range(4)]
    assert [epochs_of(keys, loader) for keys in found] == [[0], [1], [2], [3]]


def test_without_workers_each_iteration_is_the_next_epoch(loader):
    torch_loader = make(loader, 0)
    assert [list(torch_loader) for _ in range(3)] == [loader.keys(epoch) for epoch in range(3)]


@pytest.mark.parametrize("persistent", [False, True])
def test_an_iteration_that_is_left_early_is_an_epoch_too(loader, persistent):
    torch_loader = make(loader, 2, multiprocessing_context="fork", persistent_workers=persistent)
    for _ in range(2):
        assert len(list(itertools.islice(torch_loader, 3))) == 3
    assert epochs_of(list(torch_loader), loader) == [2]
    next(iter(torch_loader))
    assert epochs_of(list(torch_loader), loader) == [4]


@pytest.mark.parametrize(("method", "persistent"), [("spawn", False), ("spawn", True), ("forkserver", False)])
def test_workers_that_are_no_forks_share_the_epochs(loader, method, persistent):
    torch_loader = make(loader, 2, multiprocessing_context=method, persistent_workers=persistent)
    assert epochs_of(list(torch_loader), loader) == [0]
    next(iter(torch_loader))
    assert epochs_of(list(torch_loader), loader) == [2]


def test_iterations_at_the_same_time_are_different_epochs(loader):
    torch_loader = make(loader, 2)
    pairs = list(zip(torch_loader, torch_loader, strict=True))
    assert sorted(epochs_of(keys, loader)[0] for keys in zip(*pairs, strict=True)) == [0, 1]


def test_kept_and_new_workers_take_turns(loader):
    samples = Samples(shardkit.to_webdataset(loader))
    kept = data.DataLoader(samples, batch_size=None, num_workers=2, persistent_workers=True)
    new = data.DataLoader(samples, batch_size=None, num_workers=3)
    none = data.DataLoader(samples, batch_size=None)
    found = [list(torch_loader) for torch_loader in (kept, new, none, kept, kept, none, new)]
    assert [epochs_of(keys, loader) for keys in found] == [[epoch] for epoch in range(7)]


def test_workers_with_the_same_base_seed_as_before_take_the_same_epoch(loader):
    torch = pytest.importorskip("torch")
    generator = torch.Generator()
    torch_loader = make(loader, 2, generator=generator)
    found = []
    for seed in (1, 1, 2):
        generator.manual_seed(seed)
        found.append(list(torch_loader))
    assert [epochs_of(keys, loader) for keys in found] == [[0], [0], [1]]


@pytest.mark.parametrize("persistent", [False, True])
def test_a_worker_may_be_passes_ahead_of_another(loader, persistent):
    """In a repeated pipeline, each worker begins its next pass when it is ready."""
    pipeline = wds.DataPipeline(shardkit.to_webdataset(loader), wds.map(key_of)).repeat(3)
    torch_loader = wds.WebLoader(pipeline, batch_size=None, num_workers=3, persistent_workers=persistent)
    for first in (0, 3):
        expected = [key for epoch in range(first, first + 3) for key in loader.keys(epoch)]
        assert sorted(torch_loader) == sorted(expected)


def test_the_stages_of_webdataset_give_the_same_samples(loader):
    pipeline = wds.DataPipeline(shardkit.to_webdataset(loader), wds.decode("rgb8"), wds.to_tuple("__key__", "cls"))
    torch_loader = wds.WebLoader(pipeline, batch_size=4, num_workers=2)
    for epoch in range(2):
        labels = dict(pair for keys, numbers in torch_loader for pair in zip(keys, numbers.tolist(), strict=True))
        assert sorted(labels) == sorted(loader.keys(epoch))
        assert all(key.startswith(f"class-{label}/") for key, label in labels.items())


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda samples: pickle.loads(pickle.dumps(samples))])
def test_a_copy_counts_its_own_epochs_from_the_next_one(loader, make_copy):
    samples = shardkit.to_webdataset(loader)
    list(samples)
    copied = make_copy(samples)
    found = [[sample["__key__"] for sample in taken] for taken in (samples, copied, copied, samples)]
    assert found == [loader.keys(epoch) for epoch in (1, 1, 2, 2)]


def test_a_copy_works_in_workers_of_its_own(loader):
    samples = shardkit.to_webdataset(loader)
    list(data.DataLoader(Samples(samples), batch_size=None, num_workers=2))
    torch_loader = data.DataLoader(Samples(copy.deepcopy(samples)), batch_size=None, num_workers=2)
    assert [epochs_of(list(torch_loader), loader) for _ in range(2)] == [[1], [2]]
    assert [sample["__key__"] for sample in samples] == loader.keys(1)

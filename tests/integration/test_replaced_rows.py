"""Keys of batches some of whose rows are padding or hold another sample: right, and looked up once."""

import pytest
from pictures import make_dataset, numbers_in

import shardkit
from shardkit.loader.tables import TableCache
from shardkit.manifest import open_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """40 images in 2 shards, every fourth of which is damaged."""
    folder = make_dataset(tmp_path_factory.mktemp("replaced"), 40)
    found = open_dataset(folder)
    for row in found.shards:
        data = bytearray((folder / row.name).read_bytes())
        for offset in found.sample_table(row).fields["image"].offset[::4]:
            data[offset + 60] ^= 1
        (folder / row.name).write_bytes(data)
    return folder


@pytest.fixture
def looked_up(monkeypatch):
    """The number of keys that each look-up in the tables was for."""
    found = []
    original = TableCache.keys

    def counted(self, samples):
        found.append(len(samples))
        return original(self, samples)

    monkeypatch.setattr(TableCache, "keys", counted)
    return found


def load(dataset, **options):
    return shardkit.Loader(dataset, **{"batch_size": 8, "image_size": (16, 16), "shuffle": True, **options})


def test_keys_of_replaced_rows_are_looked_up_once_a_batch(dataset, looked_up):
    batches = list(load(dataset, on_error="skip").batches())
    assert sum(len(batch.replaced) for batch in batches) == 11
    for batch in batches:
        numbers = numbers_in(batch.arrays["image"])
        for _ in range(2):
            assert [int(key[-5:]) for key in batch.keys] == numbers
        assert batch.labels.tolist() == [number % 3 for number in numbers]
    assert looked_up == [8] * 5


def test_keys_of_padded_rows_are_looked_up_once_a_batch(dataset, looked_up):
    options = {"on_error": "skip", "world_size": 3, "batch_size": 13, "drop_remainder": False, "shuffle": False}
    padding = 0
    for rank in range(3):
        batches = list(load(dataset, rank=rank, **options).batches())
        for batch in batches:
            numbers = numbers_in(batch.arrays["image"])
            own = numbers[: len(batch) - batch.num_padding]
            assert [int(key[-5:]) for key in batch.keys] == own
            # Rows that a rank fills up are its other samples, or zeros where it has none.
            assert set(numbers[len(own) :]) <= set(own or [0])
            padding += batch.num_padding
        assert len(looked_up) <= len(batches)
        looked_up.clear()
    assert padding

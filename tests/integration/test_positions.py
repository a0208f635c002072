"""Stopping anywhere, going on there, and asking which samples a step holds."""

import json
import shutil

import pytest
from pictures import make_dataset, numbers_in

import shardkit


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("positions"), 103, split="train=0.8,val=0.2", stratify=True)


def load(dataset, **options):
    return shardkit.Loader(
        dataset, **{"batch_size": 8, "image_size": (16, 16), "shuffle": True, "chunk_size": 3, "seed": 4, **options}
    )


def batches_of(loader, *epochs):
    return [numbers_in(batch.arrays["image"]) for epoch in epochs for batch in loader.batches(epoch)]


def test_every_stop_goes_on_at_the_very_next_batch(dataset):
    expected = batches_of(load(dataset), 0, 1, 2)
    for stop in range(len(expected) - 1):
        first = load(dataset)
        seen = []
        while len(seen) < stop:
            for images, _ in first:
                seen.append(numbers_in(images))
                if len(seen) == stop:
                    break
        second = load(dataset, threads=1 + stop % 3, prefetch=1 + stop % 2, state=json.dumps(first.state()))
        rest = [numbers_in(images) for _ in range(3) for images, _ in second]
        assert seen + rest[: len(expected) - stop] == expected


def test_a_state_is_the_same_on_every_rank_and_good_for_any_other_number(dataset):
    states = []
    for rank in range(4):
        loader = load(dataset, rank=rank, world_size=4)
        iterator = iter(loader)
        for _ in range(3):
            next(iterator)
        states.append(loader.state())
        assert loader.state() == load(dataset).state(0, 3)
    assert all(state == states[0] for state in states)
    expected = [sorted(batch.keys) for batch in load(dataset).batches(0, 3)]
    for world_size in (1, 2, 4):
        ranks = [load(dataset, rank=rank, world_size=world_size, state=states[0]) for rank in range(world_size)]
        parts = [[batch.keys for batch in loader.batches(*_where(loader))] for loader in ranks]
        assert [sorted(sum(step, [])) for step in zip(*parts, strict=True)] == expected


def _where(loader):
    return loader.position.epoch, loader.position.step


def test_a_copied_data_set_is_the_same_data_set(dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "elsewhere")
    state = load(dataset).state(2, 5)
    moved = load(tmp_path / "elsewhere", state=state)
    assert [numbers_in(images) for images, _ in moved] == batches_of(load(dataset), 2)[5:]


def test_another_seed_or_batch_size_is_refused_by_name(dataset):
    state = load(dataset).state(1, 2)
    for changes, setting in (({"seed": 5}, "seed"), ({"batch_size": 9}, "batch_size"), ({"lanes": 8}, "lanes")):
        with pytest.raises(shardkit.StateError, match=f"another {setting}"):
            load(dataset, state=state, **changes)
    loader = load(dataset)
    before = loader.position
    with pytest.raises(shardkit.StateError):
        loader.resume(load(dataset, seed=5).state())
    assert loader.position == before


def test_explain_names_the_samples_of_any_batch_and_find_the_batches_of_any_sample(dataset):
    loader = load(dataset, rank=1, world_size=2)
    alone = load(dataset)
    for epoch, step in ((0, 0), (0, 9), (7, 4), (10**6, 3)):
        refs = loader.explain(epoch, step)
        batch = next(iter(alone.batches(epoch, step)))
        mine = next(iter(loader.batches(epoch, step)))
        assert [ref.key for ref in refs] == batch.keys
        assert [ref.label for ref in refs] == batch.labels.tolist()
        assert [ref.key for ref in refs if ref.rank == 1] == mine.keys
        for place, ref in enumerate(refs):
            data = (dataset / ref.shard).read_bytes()[ref.offset : ref.offset + ref.size]
            assert data == (dataset.parent / "pictures" / f"{ref.key}.png").read_bytes()
            (found,) = loader.find(ref.key, [epoch])
            assert (found.epoch, found.step, found.place, found.rank) == (epoch, step, place, ref.rank)


def test_a_sample_in_the_dropped_remainder_comes_up_nowhere(dataset):
    loader = load(dataset)
    kept = set(loader.keys(0))
    dropped = set(load(dataset, drop_remainder=False).keys(0)) - kept
    assert len(dropped) == 82 % 8
    for key in dropped:
        assert loader.find(key) == []
    with pytest.raises(shardkit.ConfigError, match="no sample with this key"):
        loader.find("class-0/99999")
    with pytest.raises(shardkit.ConfigError, match="step must be from 0 to 9"):
        loader.explain(0, 10)


def test_quality_of_a_data_set_packed_in_order_of_its_classes(tmp_path):
    dataset = make_dataset(tmp_path, 240, classes=12, shuffle=False)
    poor = load(dataset, shuffle=False, batch_size=12).shuffle_quality()
    good = load(dataset, shuffle="global", batch_size=12).shuffle_quality()
    assert poor.label_mix < 0.2 < 0.9 < good.label_mix
    assert poor.advice
    assert not good.advice


CHANGES = {
    "seed": [-1, "x", 1 << 64], "chunk_samples": [0, 1e300, 1 << 70], "lanes": [True, 1 << 40], "span": [-1, None],
    "first_span": ["x"], "drop_remainder": ["x", None], "shuffled": [1], "fingerprint": [3, None],
}  # fmt: skip


def test_a_position_that_somebody_changed_is_refused(dataset, tmp_path, capsys, monkeypatch):
    from shardkit.cli.main import main

    state = shardkit.Loader(dataset, batch_size=8, image_size=(8, 8), shuffle=True).state(0, 1)
    orders = [{**state["order"], name: value} for name in CHANGES for value in CHANGES[name]]
    for text in ["[" * 100_000, "{}", "7", *(json.dumps({**state, "order": order}) for order in orders)]:
        (tmp_path / "state.json").write_text(text)
        monkeypatch.setattr("sys.argv", ["shardkit", "explain", str(dataset), "--state", str(tmp_path / "state.json")])
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 1
        said = capsys.readouterr().err
        assert said.startswith("shardkit: ")
        assert "Traceback" not in said

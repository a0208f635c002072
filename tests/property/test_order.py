"""The order, over thousands of settings: nothing lost, nothing twice, the same from wherever it is asked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.keyed import KeyedBijection, derive_key, random_words
from shardkit.loader.order import EpochOrder, OrderNumbers, Share

FINGERPRINT = "00112233445566778899aabbccddeeff"


@st.composite
def orders(draw, most=600, drop=st.booleans()):
    num_samples = draw(st.integers(1, most))
    drop_remainder = draw(drop)
    return OrderNumbers(
        fingerprint=FINGERPRINT,
        num_samples=num_samples,
        batch_size=draw(st.integers(1, num_samples if drop_remainder else num_samples + 20)),
        drop_remainder=drop_remainder,
        seed=draw(st.integers(0, 2**64 - 1)),
        shuffled=draw(st.booleans()),
        chunk_samples=draw(st.integers(1, 50)),
        lanes=draw(st.integers(1, 40)),
        span=draw(st.integers(0, 80)),
        first_span=draw(st.integers(0, 20)),
    )


def whole(order, share=None, epoch=0):
    return [samples.tolist() for _, samples in EpochOrder(order, epoch).batches(share or Share())]


@given(st.integers(0, 500), st.integers(0, 2**64 - 1))
def test_the_bijection_is_one_and_has_an_inverse(size, seed):
    bijection = KeyedBijection(size, derive_key("test", seed=seed))
    numbers = np.arange(size)
    images = bijection.forward(numbers)
    assert sorted(images.tolist()) == numbers.tolist()
    assert bijection.inverse(images).tolist() == numbers.tolist()


@pytest.mark.slow
def test_the_bijection_is_fair_on_four_numbers():
    counts = {}
    for seed in range(24_000):
        images = tuple(KeyedBijection(4, derive_key("fair", seed=seed)).forward(np.arange(4)).tolist())
        counts[images] = counts.get(images, 0) + 1
    assert len(counts) == 24
    # 1,000 expected each; chi-square with 23 degrees of freedom is over 60 once in 30,000 honest tries.
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 60


def test_random_words_do_not_depend_on_their_neighbours():
    key = derive_key("words", seed=5)
    words = random_words(key, np.arange(1000))
    assert [int(random_words(key, np.array([i]))[0]) for i in (0, 17, 999)] == [int(words[i]) for i in (0, 17, 999)]
    assert len(set(words.tolist())) == 1000
    assert abs(float((words >> np.uint64(63)).mean()) - 0.5) < 0.06


@settings(max_examples=300)
@given(orders(drop=st.just(False)), st.integers(0, 5))
def test_every_sample_comes_exactly_once(order, epoch):
    samples = [sample for batch in whole(order, epoch=epoch) for sample in batch]
    assert sorted(samples) == list(range(order.num_samples))


@settings(max_examples=300)
@given(orders(), st.integers(1, 9))
def test_the_ranks_together_are_the_batch(order, world_size):
    alone = whole(order)
    ranks = [whole(order, Share(rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert {len(batches) for batches in ranks} == {order.num_steps} == {len(alone)}
    for step, batch in enumerate(alone):
        parts = [batches[step] for batches in ranks]
        assert sorted(sum(parts, [])) == sorted(batch)
        longest = Share(world_size=world_size).length(order, step)
        assert max(map(len, parts)) == longest
        assert min(map(len, parts)) >= longest - 1


@settings(max_examples=200)
@given(orders(most=300), st.integers(1, 4), st.data())
def test_a_batch_asked_for_alone_is_the_one_reached_by_iterating(order, world_size, data):
    share = Share(rank=data.draw(st.integers(0, world_size - 1)), world_size=world_size)
    batches = whole(order, share, epoch=3)
    epoch = EpochOrder(order, 3)
    for step, batch in enumerate(batches):
        assert epoch.samples_at(share.positions(order, step)).tolist() == batch


@settings(max_examples=60)
@given(orders(most=120), st.integers(1, 9), st.data())
def test_going_on_at_every_step_equals_the_tail(order, world_size, data):
    share = Share(rank=data.draw(st.integers(0, world_size - 1)), world_size=world_size)
    batches = whole(order, share, epoch=2)
    epoch = EpochOrder(order, 2)
    for start in range(order.num_steps + 1):
        assert [samples.tolist() for _, samples in epoch.batches(share, start)] == batches[start:]


@settings(max_examples=150)
@given(orders(most=300), st.integers(0, 3), st.data())
def test_where_a_sample_comes_is_the_inverse_of_what_comes_there(order, number, data):
    epoch = EpochOrder(order, number)
    sample = data.draw(st.integers(0, order.num_samples - 1))
    position = epoch.position_of(sample)
    assert 0 <= position < order.num_samples
    assert epoch.samples_at(np.array([position])).tolist() == [sample]


@settings(max_examples=150)
@given(orders(drop=st.just(False)), st.integers(1, 9), st.integers(1, 5))
def test_workers_of_a_rank_share_its_samples(order, world_size, num_workers):
    rank = Share(rank=world_size - 1, world_size=world_size)
    parts = [rank.part(worker, num_workers, shuffled=order.shuffled) for worker in range(num_workers)]
    for step in range(order.num_steps):
        together = np.concatenate([part.positions(order, step) for part in parts])
        assert sorted(together.tolist()) == rank.positions(order, step).tolist()


@settings(max_examples=100)
@given(orders(most=600), st.integers(1, 9))
def test_ranks_read_disjoint_chunks_where_they_divide_the_lanes(order, world_size):
    if not order.shuffled or order.lanes % world_size:
        return
    read = [
        {
            sample // order.chunk_samples
            for batch in whole(order, Share(rank=rank, world_size=world_size))
            for sample in batch
        }
        for rank in range(world_size)
    ]
    chunks = -(-order.num_samples // order.chunk_samples)
    # A chunk across the cut between two lanes belongs to both.
    assert sum(map(len, read)) <= chunks + order.lanes - 1


@settings(max_examples=200)
@given(orders(drop=st.just(False)))
def test_no_sample_moves_further_than_the_span_in_its_lane(order):
    if not order.shuffled:
        return
    epoch = EpochOrder(order, 0)
    tape = epoch.samples_on_tape(np.arange(order.num_samples)).tolist()
    place = {sample: at for at, sample in enumerate(tape)}
    share, longer = divmod(order.num_samples, order.lanes)
    drawn = epoch.samples_at(np.arange(order.num_samples)).tolist()
    for position, sample in enumerate(drawn):
        offset, lane = divmod(position, order.lanes)
        begin = lane * share + min(lane, longer)
        assert abs(place[sample] - begin - offset) <= order.span


@settings(max_examples=100)
@given(orders(), st.integers(1, 9))
def test_weights_make_the_mean_over_ranks_exact(order, world_size):
    weight = Share(world_size=world_size).sample_weight(order)
    rng = np.random.default_rng(0)
    losses = rng.random(order.num_samples)
    used, total, rows = [], 0.0, 0
    for rank in range(world_size):
        share = Share(rank=rank, world_size=world_size)
        for step, samples in EpochOrder(order, 0).batches(share):
            length = share.length(order, step)
            assert weight is not None or len(samples) == length
            # What Keras does: the mean over rows, padding included, then the mean over steps weighted by rows.
            total += (1.0 if weight is None else weight) * losses[samples].sum() / length * length
            rows += length
            used.extend(samples.tolist())
    assert total / rows == pytest.approx(losses[used].mean(), rel=1e-12)


@settings(max_examples=60)
@given(orders(most=300, drop=st.just(False)))
def test_epochs_and_seeds_differ(order):
    if not order.shuffled or order.num_samples < 60 or order.num_samples // order.chunk_samples < 20:
        return
    other = {field: getattr(order, field) for field in order.__slots__} | {"seed": (order.seed + 1) % 2**64}
    seen = [str(whole(order, epoch=epoch)) for epoch in range(4)]
    seen += [str(whole(OrderNumbers(**other), epoch=epoch)) for epoch in range(4)]
    assert len(set(seen)) == 8

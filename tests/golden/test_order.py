"""The order is frozen: a change in these numbers would break every saved run, so it is a breaking change."""

import numpy as np

from shardkit.keyed import KeyedBijection, derive_key, random_words
from shardkit.loader.order import EpochOrder, OrderNumbers, Share

FINGERPRINT = "0123456789abcdef0123456789abcdef"

KEY_FIRST, KEY_SECOND = 1927807376539747767, 16625019815020912727
WORDS = [10679217750967422000, 11092016766783132755, 1045686317583875378, 5762453920459537748]
BIJECTION = [7, 4, 2, 9, 10, 5, 3, 0, 1, 8, 6, 11]
EPOCH_0 = [
    [4, 38, 27, 5, 39, 20, 7, 0, 21, 6],
    [2, 23, 9, 1, 22, 8, 3, 28, 10, 34],
    [29, 17, 33, 31, 19, 32, 30, 11, 24, 12],
    [16, 40, 14, 37, 35, 13, 18, 25, 15, 36],
    [26],
]
EPOCH_1 = [
    [0, 14, 7, 1, 15, 16, 2, 36, 32, 3],
    [38, 17, 28, 37, 18, 31, 39, 34, 29, 8],
    [19, 30, 40, 33, 24, 9, 21, 27, 10, 35],
    [25, 4, 20, 26, 11, 22, 13, 5, 23, 12],
    [6],
]
SEED_8 = [12, 26, 7, 13, 25, 8, 14, 20, 9, 40]
RANK_1_OF_3 = [[38, 39, 0], [2, 1, 3, 34], [33, 32, 24], [40, 35, 25], [26]]
GLOBAL = [30, 35, 13, 1, 4, 17, 37, 10, 34, 39]


def order(**changes):
    return OrderNumbers(
        **{
            "fingerprint": FINGERPRINT,
            "num_samples": 41,
            "batch_size": 10,
            "drop_remainder": False,
            "seed": 7,
            "shuffled": True,
            "chunk_samples": 4,
            "lanes": 3,
            "span": 5,
            "first_span": 2,
            **changes,
        }
    )


def batches(numbers, epoch, **share):
    return [samples.tolist() for _, samples in EpochOrder(numbers, epoch).batches(Share(**share))]


def test_keys():
    key = derive_key("chunks", fingerprint=FINGERPRINT, seed=7, epoch=1)
    assert (key.first, key.second) == (KEY_FIRST, KEY_SECOND)


def test_words():
    key = derive_key("words")
    assert random_words(key, np.array([0, 1, 2, 2**40])).tolist() == WORDS


def test_bijection():
    assert KeyedBijection(12, derive_key("bijection")).forward(np.arange(12)).tolist() == BIJECTION


def test_epochs():
    assert batches(order(), 0) == EPOCH_0
    assert batches(order(), 1) == EPOCH_1


def test_seed():
    assert batches(order(seed=8), 0)[0] == SEED_8


def test_rank():
    assert batches(order(), 0, rank=1, world_size=3) == RANK_1_OF_3


def test_global():
    assert batches(order(chunk_samples=1, span=0), 0)[0] == GLOBAL

"""A good sample for a batch whose own samples are all bad, as where a shard was cut and the order is as packed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shardkit.errors import FormatError
from shardkit.loader.decoding import DecodeWork
from shardkit.loader.rows import Rows
from shardkit.loader.tables import KeyLookup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from shardkit.loader.decoding import Decoding
    from shardkit.loader.order import EpochOrder, Share
    from shardkit.loader.tables import TableCache
    from shardkit.manifest import Split

__all__ = ["Spares"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spares:
    """Finds good samples in other steps of the epoch: always the same ones, wherever an iteration began.

    Attributes:
        epoch: The order.
        share: The rank.
        split: The split.
        tables: Its sample tables.
        how: How samples become arrays; bad ones are counted there.
    """

    epoch: EpochOrder
    share: Share
    split: Split
    tables: TableCache
    how: Decoding

    def bring(self, step: int, out: NDArray[Any]) -> tuple[int, str]:
        """Bring in the good sample that is nearest to a step: before it, or else behind it.

        Args:
            step: The step.
            out: ``(1, ...)``, where its image goes.

        Returns:
            Its label and key.

        Raises:
            FormatError: There is none.
            ShardkitError: More samples are bad than may be left out.
        """
        for sample in self._nearest(step):
            rows = self._rows(sample)
            keys = KeyLookup(self.tables, sample)
            work = DecodeWork(self.how, rows, sample, out, keys)
            work.do([0])
            if not work.bad:
                return int(rows.label[0]), keys()[0]
        raise FormatError("no sample of the epoch can be read", advice="Copy the data set again")

    def _nearest(self, step: int) -> Iterator[NDArray[np.int64]]:
        numbers = self.epoch.numbers
        for other in (*reversed(range(step)), *range(step + 1, numbers.num_steps)):
            for sample in self.epoch.samples_at(self.share.positions(numbers, other)):
                yield np.array([sample], dtype=np.int64)

    def _rows(self, sample: NDArray[np.int64]) -> Rows:
        shard = int(np.searchsorted(self.split.starts, sample[0], side="right")) - 1
        row = int(sample[0] - self.split.starts[shard])
        return Rows(self.tables.numbers(shard)[row : row + 1], np.zeros(1, dtype=np.int64))

"""Pictures read, verified and decoded one by one, into the batch's own memory."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from xxhash import xxh3_64_intdigest

from shardkit.errors import CodecError, FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from shardkit.codecs.geometry import Box
    from shardkit.codecs.image import ImageDecoder
    from shardkit.loader.augment import Augmenter
    from shardkit.loader.read import Reader
    from shardkit.loader.recorder import Recorder
    from shardkit.loader.rows import Rows
    from shardkit.loader.skips import Skips

__all__ = ["DecodeWork", "Decoding"]

# Large enough that claiming a part costs nothing, small enough that the last parts of a batch end together.
_PART_SAMPLES = 8
_READ_PART_SAMPLES = 64  # where reading is all
_READ_AGAIN = 2  # where a server sent something wrong
_MASK = (1 << 64) - 1  # digests lie among signed numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How the pictures of an epoch become arrays.

    Attributes:
        reader: Gives bytes.
        decoder: Makes pixels of them; ``None`` hands the bytes out.
        augmenter: Changes the pixels at random, or ``None``.
        skips: Takes bad samples.
        recorder: Takes what time it took.
        threads: Holds what each thread has for itself.
    """

    reader: Reader
    decoder: ImageDecoder | None
    augmenter: Augmenter | None
    skips: Skips
    recorder: Recorder
    threads: threading.local = field(default_factory=threading.local)

    def decode_into(
        self,
        data: bytes,
        out: NDArray[Any],
        choose_box: Callable[[int, int], Box] | None = None,
        change: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
    ) -> None:
        """As `ImageDecoder.decode_into`, in memory that the calling thread uses again and again."""
        assert self.decoder is not None
        if not hasattr(self.threads, "scratch"):
            from shardkit.codecs.scratch import Scratch

            self.threads.scratch = Scratch()
        self.decoder.decode_into(data, out, choose_box, change, self.threads.scratch)


class DecodeWork:
    """The pictures of one batch, in parts of a few samples.

    Args:
        how: How they become arrays.
        rows: Where they lie.
        samples: ``(n,)`` int64, their numbers in the split.
        images: ``(num_rows, ...)``, where they go.
        keys: Looks up their keys.

    Attributes:
        images: The same.
        bad: The places of bad samples, once all parts have run.
        num_parts: How many parts there are.
    """

    def __init__(
        self,
        how: Decoding,
        rows: Rows,
        samples: NDArray[np.int64],
        images: NDArray[Any],
        keys: Callable[[], list[str]],
    ) -> None:
        self.images = images
        self.bad: list[int] = []
        self._part_samples = _PART_SAMPLES if how.decoder is not None else _READ_PART_SAMPLES
        self.num_parts = max(1, -(-len(rows) // self._part_samples))
        self._how = how
        self._rows = rows
        self._keys = keys
        self._words = None if how.augmenter is None else how.augmenter.draw(samples)

    def run(self, part: int) -> None:
        """Do one part."""
        start = part * self._part_samples
        self.do(range(start, min(start + self._part_samples, len(self._rows))))

    def do(self, places: Sequence[int]) -> None:
        """Bring in the samples at some places of the batch."""
        clock = _Clock()
        data = None
        numbers = self._rows.numbers[list(places)]
        here = clock.take(self._how.reader, numbers)
        if self._how.decoder is None and None not in here:
            self.images[list(places)] = here
            clock.report(self._how.recorder, None)
            return
        for place, found, (_, offset, size, digest, _, shard) in zip(places, here, numbers.tolist(), strict=True):
            try:
                data = found
                if data is None:
                    data = clock.read(self._how.reader, shard, offset, size, digest & _MASK)
                if self._how.decoder is None:
                    self.images[place] = data
                else:
                    self._decode(data, place, clock)
            except (CodecError, FormatError) as exc:
                exc.locate(
                    shard=self._how.reader.shard_name(shard), key=self._keys()[place], field="image", offset=offset
                )
                self._how.skips.add((shard, int(self._rows.row[place])), exc)
                self.bad.append(place)
            except Exception as exc:
                exc.add_note(f"at sample {self._keys()[place]} of {self._how.reader.shard_name(shard)}")
                raise
        clock.report(self._how.recorder, data)

    def _decode(self, data: bytes, place: int, clock: _Clock) -> None:
        augmenter = self._how.augmenter
        started = perf_counter()
        if augmenter is None or self._words is None:
            self._how.decode_into(data, self.images[place])
        else:
            chance = augmenter.chance(self._words, place)
            change = None if chance.change is None else clock.timed(chance.change)
            self._how.decode_into(data, self.images[place], chance.choose_box, change)
        clock.decode += perf_counter() - started


def _read_again(reader: Reader, shard: int, offset: int, size: int, digest: int) -> bytes:
    """Bytes that came out wrong, if another way gives them right."""
    for _ in range(_READ_AGAIN):
        data = reader.read_again(shard, offset, size)
        if data is None:
            break
        if len(data) == size and xxh3_64_intdigest(data) == digest:
            return data
    raise reader.damaged(shard, offset)


class _Clock:
    """Seconds of one thread by stage, while it works on one part."""

    __slots__ = ("augment", "decode", "num_bytes", "reading", "verify")

    def __init__(self) -> None:
        self.reading = self.verify = self.decode = self.augment = 0.0
        self.num_bytes = 0

    def take(self, reader: Reader, rows: NDArray[np.int64]) -> list[bytes | None]:
        """Samples that are there already."""
        started = perf_counter()
        found = reader.taken(rows)
        self.reading += perf_counter() - started
        self.num_bytes += sum(len(data) for data in found if data is not None)
        return found

    def read(self, reader: Reader, shard: int, offset: int, size: int, digest: int) -> bytes:
        """Bytes that have their digest."""
        started = perf_counter()
        if reader.fetches and (found := reader.awaited(shard, offset, size)) is not None:
            self.reading += perf_counter() - started
            self.num_bytes += size
            return found
        data = reader.read(shard, offset, size)
        read = perf_counter()
        if len(data) != size or xxh3_64_intdigest(data) != digest:
            data = _read_again(reader, shard, offset, size, digest)
        self.reading += read - started
        self.verify += perf_counter() - read
        self.num_bytes += size
        return data

    def timed(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """The same function, its time counted."""

        def change_and_count(pixels: NDArray[Any]) -> NDArray[Any]:
            started = perf_counter()
            changed = change(pixels)
            self.augment += perf_counter() - started
            return changed

        return change_and_count

    def report(self, recorder: Recorder, picture: bytes | None) -> None:
        """Hand the figures in, and one of the pictures."""
        recorder.work(
            self.num_bytes,
            read=self.reading,
            verify=self.verify,
            decode=self.decode - self.augment,
            augment=self.augment,
        )
        if picture is not None:
            recorder.pictures.append(picture)

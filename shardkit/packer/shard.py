"""Packing one shard: the only unit of work. Doing it twice gives the same bytes."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from shardkit.codecs.label import encode_class
from shardkit.errors import CodecError, PackError, StorageError
from shardkit.formats.tar import END_OF_ARCHIVE, member_header, padding
from shardkit.manifest.blocks import BlockHasher
from shardkit.manifest.limits import MAX_IMAGE_BYTES
from shardkit.manifest.samples import FieldColumns, SampleTable
from shardkit.manifest.shards import ShardRow, table_name
from shardkit.packer.pictures import stored_picture

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardkit.codecs.header import ImageHeader
    from shardkit.packer.pictures import PictureOptions, StoredPicture
    from shardkit.packer.plan import ShardTask, TaskItem
    from shardkit.storage import Place, Store, Writer

__all__ = ["FIELDS", "pack_shard"]

FIELDS = ("image", "label")
# Small enough that what was read is still in the processor's own cache when it is written.
_BLOCK_BYTES = 256 * 2**10
_PROGRESS_BYTES = 8 * 2**20
_SMALL_BYTES = 4096


def pack_shard(
    task: ShardTask, dest: Place, pictures: PictureOptions, on_progress: Callable[[int, int], None] | None = None
) -> ShardRow:
    """Pack one shard and its table.

    Every picture of the shard is looked at even when one is bad, so that one run names all that are.

    Args:
        task: What to pack.
        dest: Where the data set goes.
        pictures: What becomes of each picture.
        on_progress: Called now and then with the pictures and bytes done since the last call.

    Returns:
        The shard's row in the root table.

    Raises:
        PackError: Pictures of this shard cannot be packed; nothing is written under the shard's name.
        StorageError: The shard cannot be written.
    """
    with contextlib.closing(dest.open()) as store:
        return _pack_into(store, task, pictures, on_progress or (lambda _pictures, _bytes: None))


def _pack_into(
    store: Store, task: ShardTask, pictures: PictureOptions, on_progress: Callable[[int, int], None]
) -> ShardRow:
    with store.write(task.name) as writer:
        blocks = BlockHasher() if pictures.store == "raw" else None
        shard = _ShardWriter(writer, blocks, on_progress)
        failures = []
        for item in task.items:
            try:
                shard.add(item, stored_picture(_read(item), pictures))
            except StorageError:
                # The shard's own, not the picture's.
                raise
            except (CodecError, OSError) as exc:
                what = exc.what if isinstance(exc, CodecError) else exc.strerror or str(exc)
                failures.append(f"{item.where}: {what}")
        if failures:
            raise PackError(f"shard {task.name} cannot be packed", tuple(failures))
        shard.finish()
    table = shard.table()
    row = ShardRow(
        name=task.name,
        split=task.split,
        num_samples=len(table),
        num_bytes=shard.num_bytes,
        digest=shard.digest.hexdigest(),
        content=table.content_digest(),
        table=table.table_digest(),
        table_bytes=table.table_bytes(shard.num_bytes),
    )
    with store.write(table_name(task.name)) as writer:
        writer.write(table.to_parquet(row))
    return row


def _read(item: TaskItem) -> bytes:
    """A picture's bytes, of exactly the length that the plan knows."""
    descriptor = os.open(item.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{item.where} is no longer a regular file")
        # One byte more than planned, so that a file that grew is seen too.
        data = os.read(descriptor, item.size + 1)
        # The kernel gives at most 2 GiB at a time.
        while len(data) < item.size and (more := os.read(descriptor, item.size + 1 - len(data))):
            data += more
    finally:
        os.close(descriptor)
    if len(data) != item.size or status.st_size != item.size:
        raise OSError(
            f"changed while it was packed: {item.size} bytes when listed, now {max(len(data), status.st_size)}"
        )
    return data


class _ShardWriter:
    """A shard being written, and what its table will say."""

    def __init__(self, writer: Writer, blocks: BlockHasher | None, on_progress: Callable[[int, int], None]) -> None:
        self._writer = writer
        self._blocks = blocks
        self._on_progress = on_progress
        self._block: list[bytes] = []
        self._small: list[bytes] = []
        self._block_bytes = 0
        self._pictures = self._unreported = 0
        self._rows: list[tuple[TaskItem, ImageHeader]] = []
        self._places: dict[str, list[tuple[int, int, int]]] = {name: [] for name in FIELDS}
        self.num_bytes = 0
        self.digest = xxhash.xxh3_128()

    def add(self, item: TaskItem, picture: StoredPicture) -> None:
        """Append one sample.

        Raises:
            CodecError: Its image is too long.
        """
        if self._blocks is None and len(picture.data) > MAX_IMAGE_BYTES:
            raise CodecError(f"the image has {len(picture.data)} bytes: over the limit of {MAX_IMAGE_BYTES} bytes")
        self._member("image", f"{item.key}.{picture.extension}", picture.data)
        self._member("label", f"{item.key}.cls", encode_class(item.label))
        self._rows.append((item, picture.header))
        self._pictures += 1
        if self._block_bytes >= _BLOCK_BYTES:
            self._flush()

    def finish(self) -> None:
        """Append the end of the archive."""
        self._append(END_OF_ARCHIVE)
        self._flush(last=True)

    def table(self) -> SampleTable:
        """The shard's sample table."""
        columns = {name: np.array(places, dtype=np.uint64).reshape(-1, 3) for name, places in self._places.items()}
        pictures: dict[str, list[Any]] = {
            name: [getattr(header, name) for _, header in self._rows]
            for name in ("width", "height", "mode", "format", "orientation")
        }
        return SampleTable(
            keys=[item.key for item, _ in self._rows],
            sources=[item.source for item, _ in self._rows],
            labels=np.array([item.label for item, _ in self._rows], dtype=np.int64),
            fields={
                name: FieldColumns(
                    offset=places[:, 0].astype(np.int64),
                    size=places[:, 1].astype(np.int64),
                    xxh3_64=places[:, 2],
                )
                for name, places in columns.items()
            },
            pictures=pictures,
            **({} if self._blocks is None else {"blocks": self._blocks.digests()}),
        )

    def _member(self, field: str, name: str, data: bytes) -> None:
        header = member_header(name.encode(), len(data))
        self._append(header)
        self._places[field].append((self.num_bytes, len(data), xxhash.xxh3_64_intdigest(data)))
        self._append(data, bytes(padding(len(data))))

    def _append(self, data: bytes, fill: bytes = b"") -> None:
        size = len(data) + len(fill)
        self._block_bytes += size
        self.num_bytes += size
        if len(data) > _SMALL_BYTES:
            # Headers, labels and padding are joined, pictures are not copied once more.
            self._join_small(data)
            self._small.append(fill)
        else:
            self._small += (data, fill)

    def _join_small(self, *large: bytes) -> None:
        self._block += (b"".join(self._small), *large)
        self._small = []

    def _flush(self, *, last: bool = False) -> None:
        self._join_small()
        for piece in self._block:
            self.digest.update(piece)
        if self._blocks is not None:
            self._blocks.update(b"".join(self._block))
        self._writer.write_all(self._block)
        self._unreported += self._block_bytes
        self._block, self._block_bytes = [], 0
        if self._unreported >= _PROGRESS_BYTES or last:
            self._on_progress(self._pictures, self._unreported)
            self._pictures = self._unreported = 0

"""ArrayRecord files and Grain: a global shuffle by index, read in threads or in worker processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grain
from array_record.python.array_record_module import ArrayRecordWriter

from benchmarks.settings import BATCH_SIZE, shard_samples

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from benchmarks.photos import Data
    from benchmarks.settings import Settings

RESUMES = True

_LABEL_BYTES = 4


def prepare(data: Data, folder: Path) -> Path:
    """Files of records, label first, one record a group as Grain advises."""
    files = data.files()
    length = shard_samples(len(files), sum(path.stat().st_size for path, _ in files))
    for start in range(0, len(files), length):
        writer = ArrayRecordWriter(str(folder / f"{start // length:05d}.array_record"), "group_size:1")
        for path, label in files[start : start + length]:
            writer.write(label.to_bytes(_LABEL_BYTES, "little") + path.read_bytes())
        writer.close()
    return folder


def batches(folder: Path, settings: Settings) -> Any:
    """The data set; ``variant`` is ``threads`` or ``processes``."""
    source = grain.sources.ArrayRecordDataSource(sorted(map(str, folder.glob("*.array_record"))))

    def example(record: bytes) -> tuple[np.ndarray[Any, Any], int]:
        return settings.decode(record[_LABEL_BYTES:]), int.from_bytes(record[:_LABEL_BYTES], "little")

    found = grain.MapDataset.source(source).seed(0).shuffle()
    if settings.start:
        found = found[settings.start * BATCH_SIZE :]
    found = found.map(example)
    if settings.variant == "processes":
        # Whole batches cross between processes, in shared memory; threads inside the workers were slower.
        none = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        options = grain.MultiprocessingOptions(num_workers=settings.workers, per_worker_buffer_size=2)
        return found.to_iter_dataset(none).batch(BATCH_SIZE, drop_remainder=True).mp_prefetch(options)
    # As many threads as cores: Grain's default of 16 was half as fast on two, and so was batching before reading.
    options = grain.ReadOptions(num_threads=settings.workers, prefetch_buffer_size=BATCH_SIZE)
    return found.to_iter_dataset(options).batch(BATCH_SIZE, drop_remainder=True)

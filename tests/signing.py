"""Data sets that somebody changed, as an attacker would who computes every digest anew, and as damage would."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shardkit.manifest import FieldColumns, Manifest, SampleTable, ShardTable
from shardkit.manifest.shards import table_name

__all__ = ["change_columns", "sign"]

_FIELDS = ("image", "label")
_PICTURE_COLUMNS = ("width", "height", "mode", "format", "orientation")


def change_columns(path, **columns):
    """Give a Parquet file other columns, and leave its metadata as they are.

    Args:
        path: The file.
        columns: A column, or a function of the old one.
    """
    table = pq.read_table(path)
    for name, new in columns.items():
        column = new(table.column(name)) if callable(new) else new
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, path)


def sign(folder, *, change_row=None, repeat=1, **changed):
    """Compute all digests and counts anew, from what the sample tables say.

    Args:
        folder: The data set.
        change_row: From each shard's row and number to the one that it gets.
        repeat: How many times each shard is listed.
        changed: What the manifest says instead.
    """
    folder = Path(folder)
    rows = []
    for number, row in enumerate(ShardTable.from_parquet((folder / "shards.parquet").read_bytes())):
        path = folder / table_name(row.name)
        samples = _samples(path)
        row = dataclasses.replace(
            row,
            num_samples=len(samples),
            content=samples.content_digest(),
            table=samples.table_digest(),
            table_bytes=samples.table_bytes(row.num_bytes),
        )
        row = row if change_row is None else change_row(row, number)
        path.write_bytes(samples.to_parquet(row))
        rows += [row] * repeat
    table = ShardTable.of(rows)
    (folder / "shards.parquet").write_bytes(table.to_parquet())
    manifest = Manifest.from_json((folder / "manifest.json").read_bytes())
    splits = {
        name: dataclasses.replace(
            split,
            num_samples=sum(row.num_samples for row in rows if row.split == name),
            num_bytes=sum(row.num_bytes for row in rows if row.split == name),
            num_shards=sum(row.split == name for row in rows),
        )
        for name, split in manifest.splits.items()
    }
    given = {"splits": splits, "fingerprint": table.fingerprint(), "shards": table.digest(), **changed}
    (folder / "manifest.json").write_bytes(dataclasses.replace(manifest, **given).to_json())


def _samples(path):
    table = pq.read_table(io.BytesIO(path.read_bytes()))
    columns = {name: table.column(name) for name in table.column_names}
    blocks = (table.schema.metadata or {}).get(b"shardkit.blocks", b"").decode()
    return SampleTable(
        keys=columns["key"].to_pylist(),
        sources=columns["source"].to_pylist(),
        labels=columns["label"].to_numpy().astype(np.int64),
        fields={
            name: FieldColumns(
                offset=columns[f"{name}_offset"].to_numpy().astype(np.int64),
                size=columns[f"{name}_size"].to_numpy().astype(np.int64),
                xxh3_64=columns[f"{name}_xxh3_64"].cast(pa.uint64()).to_numpy(),
            )
            for name in _FIELDS
        },
        pictures={name: columns[name].to_pylist() for name in _PICTURE_COLUMNS},
        blocks=np.frombuffer(bytes.fromhex(blocks), dtype="<u8"),
    )

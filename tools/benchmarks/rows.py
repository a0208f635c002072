"""The rows of the tables: which peer, in which way, in which environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from benchmarks.photos import Kind
    from benchmarks.settings import Content, Functions

__all__ = ["ROWS", "Environment", "Resize", "Row"]

Environment = Literal["here", "bench-torch", "bench-s3fs", "bench-grain"]
Resize = Literal["antialiased", "aliasing", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row.

    Attributes:
        name: For the command line.
        title: For readers.
        peer: The module in this package.
        environment: Whose Python runs it: ``here`` is the one that runs the tool.
        content: The table it belongs to.
        resize: How the pictures are made smaller.
        functions: Who decodes and resizes.
        variant: The peer's own choice.
    """

    name: str
    title: str
    peer: str
    environment: Environment = "here"
    content: Content = "decoded"
    resize: Resize = "antialiased"
    functions: Functions = "own"
    variant: str = ""

    @property
    def kind(self) -> Kind:
        """The pictures it loads."""
        return "digits" if self.content == "raw" else "photos"

    @property
    def is_peer(self) -> bool:
        """Whether it is what others offer."""
        return self.peer not in ("bare", "shardkit_")


def _decoded() -> list[Row]:
    rows = []
    for resize, suffix in (("antialiased", ""), ("aliasing", "-aliasing")):
        kind: Resize = "antialiased" if resize == "antialiased" else "aliasing"
        rows += [
            Row(name=f"bare{suffix}", title="the bare loop", peer="bare", resize=kind, functions="shardkit"),
            Row(name=f"shardkit{suffix}", title="**shardkit**", peer="shardkit_", resize=kind, functions="shardkit"),
        ]
        rows += [
            Row(
                name=f"{name}-same{suffix}", title=title, peer=peer, environment=environment, resize=kind,
                functions="shardkit", variant=variant,
            )
            for name, title, peer, environment, variant in _TAKE_FUNCTIONS
        ]  # fmt: skip
    rows += [
        Row(name="shardkit-keras", title="**shardkit**, to_keras in fit", peer="shardkit_", functions="shardkit",
            variant="keras"),
        Row(name="shardkit-tf", title="**shardkit**, to_tf", peer="shardkit_", functions="shardkit", variant="tf"),
    ]  # fmt: skip
    rows += [
        Row(name=f"{name}-pillow", title=title, peer=peer, environment=environment, variant=variant)
        for name, title, peer, environment, variant in _TAKE_FUNCTIONS
    ]
    return [
        *rows,
        Row(
            name="grain-processes-pillow",
            title="Grain, ArrayRecord, processes",
            peer="grain_array_record",
            environment="bench-grain",
            variant="processes",
        ),
        Row(name="pillow", title="Python generator over files", peer="pillow_generator"),
        Row(name="keras", title="image_dataset_from_directory", peer="keras_directory", resize="aliasing"),
        Row(name="tfrecord", title="TFRecord, tf.data AUTOTUNE", peer="tfrecord"),
        Row(name="tfrecord-aliasing", title="TFRecord, tf.data AUTOTUNE", peer="tfrecord", resize="aliasing"),
    ]


_TAKE_FUNCTIONS: tuple[tuple[str, str, str, Environment, str], ...] = (
    ("webdataset", "webdataset, torch workers", "webdataset_torch", "bench-torch", ""),
    ("grain", "Grain, ArrayRecord, threads", "grain_array_record", "bench-grain", "threads"),
    ("mosaic", "MosaicML Streaming, torch workers", "mosaic", "bench-torch", ""),
    ("litdata", "LitData, torch workers", "litdata_", "bench-torch", ""),
)

ROWS: tuple[Row, ...] = (
    *_decoded(),
    Row(name="shardkit-raw", title='**shardkit**, store="raw"', peer="shardkit_", content="raw", resize="none"),
    Row(name="tfrecord-raw", title="TFRecord, tf.data, parsed one by one", peer="tfrecord", content="raw",
        resize="none"),
    Row(name="tfrecord-raw-batched", title="TFRecord, tf.data, parsed by the batch", peer="tfrecord", content="raw",
        resize="none", variant="batched"),
    Row(name="webdataset-raw", title="webdataset, torch workers", peer="webdataset_torch", environment="bench-torch",
        content="raw", resize="none"),
    Row(name="webdataset-raw-plain", title="webdataset, plain iteration", peer="webdataset_torch", content="raw",
        resize="none", variant="plain"),
    Row(name="shardkit-encoded", title="**shardkit**, decode=False", peer="shardkit_", content="encoded",
        resize="none"),
    Row(name="webdataset-encoded", title="webdataset, plain iteration", peer="webdataset_torch", content="encoded",
        resize="none", variant="plain"),
    Row(name="webdataset-encoded-workers", title="webdataset, torch workers", peer="webdataset_torch",
        environment="bench-torch", content="encoded", resize="none"),
    Row(name="tfrecord-encoded", title="TFRecord, tf.data", peer="tfrecord", content="encoded", resize="none"),
)  # fmt: skip

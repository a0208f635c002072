"""The loader's settings, sorted by what they decide.

`OrderConfig` decides the order and is saved with a position; `DecodeConfig` decides what a sample becomes;
`RuntimeConfig` decides neither.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from shardkit.codecs.header import MAX_PIXELS
from shardkit.codecs.limits import DEFAULT_LIMITS, ImageLimits, checked_limits
from shardkit.errors import ConfigError
from shardkit.loader.augment import Augmenter, RandomResizedCrop, as_transforms
from shardkit.loader.order import MOST_LANES, OrderNumbers
from shardkit.storage import StoreKeywords
from shardkit.units import MOST_WORKERS, one_of, parse_bytes, whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shardkit.codecs.image import ImageDecoder
    from shardkit.loader.augment import AugmentFunction, Transform
    from shardkit.manifest import FieldInfo, Split
    from shardkit.storage import StoreOptions
    from shardkit.storage.cache import Cache

__all__ = [
    "ColorMode",
    "DataFormat",
    "DecodeConfig",
    "Dtype",
    "LabelMode",
    "LoaderOptions",
    "OnError",
    "OrderConfig",
    "RuntimeConfig",
    "sorted_in",
]

ColorMode = Literal["rgb", "grayscale", "rgba"]
DataFormat = Literal["channels_last", "channels_first"]
Dtype = Literal["uint8", "float32", "float16"]
LabelMode = Literal["int", "categorical", "binary"]
OnError = Literal["raise", "skip"]

Config = TypeVar("Config", "OrderConfig", "DecodeConfig", "RuntimeConfig", "StoreOptions")

# The first samples of a lane may move only this far, so that the first batch of an epoch needs few reads.
FIRST_SPAN = 16

# Of ``chunk_size="auto"``. Where samples lie as they were found, in classes, small chunks mix them. Where packing has
# shuffled them, chunks need not: in large ones a server has a quarter of the requests and half of the work for a byte.
# But each lane has two at least, so that small data sets are mixed anew in each epoch.
_CHUNK_BYTES = 2_000_000
_SHUFFLED_CHUNK_BYTES = 8_000_000

_MOST_BYTES = 1 << 62
_USUAL_SIZE = (256, 256)


class LoaderOptions(StoreKeywords, total=False):
    """The keywords of `Loader`, flat, as a user gives them."""

    batch_size: int
    image_size: tuple[int, int] | None
    color_mode: ColorMode | None
    label_mode: LabelMode | None
    crop_to_aspect_ratio: bool
    pad_to_aspect_ratio: bool
    antialias: bool
    dtype: Dtype
    data_format: DataFormat
    augment: Sequence[Transform | AugmentFunction]
    decode: bool
    image_limits: ImageLimits
    shuffle: bool | Literal["global"]
    seed: int
    shuffle_buffer: int | str
    chunk_size: int | str
    lanes: int
    drop_remainder: bool | None
    rank: int | Literal["auto"]
    world_size: int | None
    state: Mapping[str, Any] | str | bytes | None
    on_error: OnError
    max_skipped: int
    threads: int | None
    prefetch: int
    cache: str | os.PathLike[str] | bool | None
    cache_limit: str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderConfig:
    """What decides the order.

    Attributes:
        batch_size: Samples in a global batch.
        shuffle: False for the order of the shards, True for a shuffle within the buffer, ``"global"`` for one over the
            whole split, which reads each sample on its own.
        seed: Of the shuffle, 0 to 2**64 - 1.
        shuffle_buffer: How much is held to draw from, over all ranks: text for bytes, a number for samples.
        chunk_size: What is read in one go: text for bytes, a number for samples; ``"auto"`` for 2 MB, and up to 8 MB
            where samples were shuffled when they were packed.
        lanes: Parts of the order that take turns; ranks read disjoint chunks where their number divides it.
        drop_remainder: Whether a short last batch is left out; exactly when shuffling without it.
    """

    batch_size: int = 32
    shuffle: bool | Literal["global"] = False
    seed: int = 0
    shuffle_buffer: int | str = "256MB"
    chunk_size: int | str = "auto"
    lanes: int = 16
    drop_remainder: bool | None = None

    def __post_init__(self) -> None:
        whole_number("batch_size", self.batch_size, 1)
        whole_number("lanes", self.lanes, 1, MOST_LANES)
        whole_number("seed", self.seed, 0, (1 << 64) - 1)
        one_of("shuffle", self.shuffle, True, False, "global")
        one_of("drop_remainder", self.drop_remainder, True, False, None)
        for name in ("shuffle_buffer", "chunk_size"):
            if not isinstance(getattr(self, name), str):
                whole_number(name, getattr(self, name), 1)

    def numbers(self, split: Split, fingerprint: str, *, packed_shuffled: bool = False) -> OrderNumbers:
        """The order of one split as numbers, in integer arithmetic, so that they are the same on any machine.

        Args:
            split: The split.
            fingerprint: The data set's fingerprint.
            packed_shuffled: Whether samples were shuffled when they were packed.

        Returns:
            The numbers.

        Raises:
            ConfigError: The split is empty, or smaller than one batch while the remainder is dropped.
        """
        samples, size = split.num_samples, split.num_bytes
        if samples == 0:
            raise ConfigError(f"split {split.name} has no samples", setting="split", value=split.name)
        if self.chunk_size == "auto":
            largest = _SHUFFLED_CHUNK_BYTES if packed_shuffled else _CHUNK_BYTES
            chunk = max(_CHUNK_BYTES, min(size // (2 * self.lanes), largest))
        else:
            chunk = _in_bytes(self.chunk_size, "chunk_size", samples, size)
        buffer = _in_bytes(self.shuffle_buffer, "shuffle_buffer", samples, size)
        # What is not needed to hold one chunk a lane is free to move samples in; at least half of it is.
        free = max(buffer, 2 * (buffer - self.lanes * chunk))
        everywhere = self.shuffle == "global"
        return OrderNumbers(
            fingerprint=fingerprint,
            num_samples=samples,
            batch_size=self.batch_size,
            drop_remainder=bool(self.shuffle) if self.drop_remainder is None else self.drop_remainder,
            seed=self.seed,
            shuffled=bool(self.shuffle),
            chunk_samples=1 if everywhere else max(1, (2 * chunk * samples + size) // (2 * size)),
            lanes=self.lanes if self.shuffle else 1,
            span=0 if everywhere or not self.shuffle else free * samples // (2 * size * self.lanes),
            first_span=FIRST_SPAN,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeConfig:
    """What a sample becomes.

    Attributes:
        image_size: Height and width in pixels; without it 256 x 256, or the size that arrays are kept in.
        color_mode: The channels; without it ``"rgb"``, or those that arrays are kept with.
        label_mode: ``"int"`` (B,) int64, ``"categorical"`` (B, classes) float32, ``"binary"`` (B, 1) float32, or
            ``None`` for images alone.
        crop_to_aspect_ratio: Cut the picture to the target's shape before it is resized, instead of distorting it.
        pad_to_aspect_ratio: Fill up with black instead of distorting.
        antialias: Whether shrinking filters out what the smaller size cannot show.
        dtype: ``"uint8"``, or ``"float32"`` or ``"float16"`` for the same values, 0 to 255.
        data_format: ``"channels_last"`` for (B, H, W, C), ``"channels_first"`` for (B, C, H, W).
        augment: What changes each picture at random, in turn: `random_resized_crop`, `random_flip`, and functions
            ``(array, rng) -> array``.
        decode: Whether pictures are decoded; else their bytes are handed out as they are.
        image_limits: How much one image may take; one that takes more is a bad sample.
    """

    image_size: tuple[int, int] | None = None
    color_mode: ColorMode | None = None
    label_mode: LabelMode | None = "int"
    crop_to_aspect_ratio: bool = False
    pad_to_aspect_ratio: bool = False
    antialias: bool = True
    dtype: Dtype = "uint8"
    data_format: DataFormat = "channels_last"
    augment: Sequence[Transform | AugmentFunction] = ()
    decode: bool = True
    image_limits: ImageLimits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, "uint8", "float32", "float16")
        one_of("data_format", self.data_format, "channels_last", "channels_first")
        one_of("color_mode", self.color_mode, "rgb", "grayscale", "rgba", None)
        one_of("label_mode", self.label_mode, "int", "categorical", "binary", None)
        for name in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias", "decode"):
            one_of(name, getattr(self, name), True, False)
        checked_limits(self.image_limits)
        size: object = (1, 1) if self.image_size is None else self.image_size
        if not isinstance(size, (tuple, list)) or len(size) != 2:
            raise ConfigError("image_size must be (height, width)", setting="image_size", value=size)
        for side in size:
            whole_number("image_size", side, 1)
        if size[0] * size[1] > MAX_PIXELS:
            raise ConfigError(f"image_size has over {MAX_PIXELS} pixels", setting="image_size", value=size)
        object.__setattr__(self, "augment", as_transforms(self.augment, self.dtype))
        self._check_augment()

    def _check_augment(self) -> None:
        if self.augment and not self.decode:
            raise ConfigError("augment changes decoded pictures, and decode=False hands out bytes", setting="augment")
        for name in ("crop_to_aspect_ratio", "pad_to_aspect_ratio"):
            if getattr(self, name) and any(isinstance(item, RandomResizedCrop) for item in self.augment):
                raise ConfigError(
                    f"random_resized_crop and {name} both choose what is used of a picture",
                    setting=name,
                    value=True,
                    advice="Leave one of them out",
                )

    def check_classes(self, num_classes: int) -> None:
        """Refuse a form of labels that this many classes do not have."""
        if self.label_mode == "binary" and num_classes != 2:
            raise ConfigError(
                f"label_mode='binary' needs two classes; there are {num_classes}", setting="label_mode", value="binary"
            )

    def load(self) -> None:
        """Import what decodes, which takes a tenth of a second, before it is needed."""
        if self.decode:
            import shardkit.codecs.image  # noqa: F401

    def decoder(self, field: FieldInfo) -> ImageDecoder | None:
        """What makes pixels of pictures; ``None`` where their bytes are handed out.

        Args:
            field: How the pictures are kept.

        Raises:
            ConfigError: They are kept with other channels.
        """
        if not self.decode:
            return None
        from shardkit.codecs.colors import COLOR_MODES
        from shardkit.codecs.image import ImageDecoder

        height, width, channels = field.shape or (*_USUAL_SIZE, 3)
        size = self.image_size or (height, width)
        return ImageDecoder(
            image_size=(size[0], size[1]),
            color_mode=self.color_mode or COLOR_MODES[channels],
            stored=None if field.shape is None else (height, width, channels),
            crop_to_aspect_ratio=self.crop_to_aspect_ratio,
            pad_to_aspect_ratio=self.pad_to_aspect_ratio,
            antialias=self.antialias,
            dtype=self.dtype,
            data_format=self.data_format,
            limits=self.image_limits,
        )

    def augmenter(self, order: OrderNumbers, epoch: int) -> Augmenter | None:
        """What changes the pictures of an epoch; ``None`` where they stay as they are."""
        if not self.augment:
            return None
        transforms = as_transforms(self.augment, self.dtype)
        return Augmenter(transforms, fingerprint=order.fingerprint, seed=order.seed, epoch=epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeConfig:
    """What changes neither order nor content.

    Attributes:
        threads: Working threads; without it as many as there are usable cores, and one where nothing is decoded.
        prefetch: Batches made ahead of the one being used.
        on_error: ``"raise"``, or ``"skip"``: a bad sample's place is taken by another of the same batch.
        max_skipped: Bad samples after which skipping stops with an error.
        cache: A folder of this machine that keeps what is fetched from a server, for all processes and runs; ``True``
            for the usual one, see `shardkit cache path`.
        cache_limit: The most bytes in that folder, of all data sets.
    """

    threads: int | None = None
    prefetch: int = 2
    on_error: OnError = "raise"
    max_skipped: int = 100
    cache: str | os.PathLike[str] | bool | None = None
    cache_limit: str | int = "50GB"

    def __post_init__(self) -> None:
        if self.threads is not None:
            whole_number("threads", self.threads, 1, MOST_WORKERS)
        whole_number("prefetch", self.prefetch, 1)
        whole_number("max_skipped", self.max_skipped, 0)
        one_of("on_error", self.on_error, "raise", "skip")
        if isinstance(self.cache_limit, str):
            parse_bytes(self.cache_limit, setting="cache_limit")
        else:
            whole_number("cache_limit", self.cache_limit, 1)
        if self.cache is not None and not isinstance(self.cache, (str, os.PathLike, bool)):
            raise ConfigError("cache must be a folder, True or False", setting="cache", value=self.cache)

    def open_cache(self, fingerprint: str) -> Cache | None:
        """What keeps what is fetched of a data set; ``None`` where nothing does.

        Raises:
            ConfigError: The folder is not the user's alone.
        """
        if self.cache is None or self.cache is False:
            return None
        from shardkit.storage.cache import Cache, default_cache

        return Cache(default_cache() if self.cache is True else self.cache, self.cache_limit, fingerprint)


def sorted_in(kind: type[Config], options: Any) -> Config:
    """A config from those of the user's keywords that are its fields, which are taken out of them."""
    names = [field.name for field in fields(kind) if field.name in options]
    return kind(**{name: options.pop(name) for name in names})


def _in_bytes(value: int | str, name: str, num_samples: int, num_bytes: int) -> int:
    """Bytes, from a size in words or a number of samples; more than there can be are as good as `_MOST_BYTES`."""
    size = parse_bytes(value, setting=name) if isinstance(value, str) else max(1, value * num_bytes // num_samples)
    return min(size, _MOST_BYTES)

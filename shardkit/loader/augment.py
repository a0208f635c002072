"""Random changes of pictures while they are decoded.

What is drawn for a picture is a pure function of the data set's fingerprint, the seed, the epoch, the sample's number
in the split and the transform's place in the list: the same after a resume, with any number of threads and ranks and
any batch size. Places do not share random words, so a transform that is added last changes nothing before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from shardkit.codecs.geometry import Box
from shardkit.errors import ConfigError
from shardkit.keyed import derive_key, random_words
from shardkit.loader.rounding import RoundingCheck
from shardkit.units import float_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "AugmentFunction",
    "Augmenter",
    "Chance",
    "FunctionTransform",
    "RandomFlip",
    "RandomResizedCrop",
    "Transform",
    "as_transforms",
    "random_flip",
    "random_resized_crop",
]

AugmentFunction = Callable[[np.ndarray[Any, Any], np.random.Generator], Any]
"""A user's own transform: ``(H, W, C)`` uint8 and a generator in, an array of the same shape out."""

_ATTEMPTS = 10
# A word's number holds the sample's, the transform's place and the number of the draw, in this many bits each.
_PLACE_BITS = _DRAW_BITS = 8


@dataclass(frozen=True, slots=True)
class RandomFlip:
    """Turns pictures over, see `random_flip`.

    Attributes:
        horizontal: Whether left and right may change places.
        vertical: Whether top and bottom may.
        p: How likely each of them is.
    """

    horizontal: bool = True
    vertical: bool = False
    p: float = 0.5
    num_words: ClassVar[int] = 2

    def __post_init__(self) -> None:
        for name in ("horizontal", "vertical"):
            if type(getattr(self, name)) is not bool:
                raise ConfigError(f"random_flip: {name} must be True or False", setting=name, value=getattr(self, name))
        if not 0 <= float_of(self.p) <= 1:
            raise ConfigError("random_flip: p must be a number from 0 to 1", setting="p", value=self.p)

    def change(self, pixels: NDArray[Any], words: list[int]) -> NDArray[Any]:
        """Turn a picture over, in place where it is uint8."""
        from shardkit.codecs.arrays import flip

        horizontal = self.horizontal and _fraction(words[0]) < self.p
        vertical = self.vertical and _fraction(words[1]) < self.p
        return flip(pixels, horizontal=horizontal, vertical=vertical)


@dataclass(frozen=True, slots=True)
class RandomResizedCrop:
    """Chooses the part of a picture that is used, see `random_resized_crop`.

    Attributes:
        scale: Between which parts of the picture's area the part's area lies.
        ratio: Between which ratios of width to height the part's lies.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    num_words: ClassVar[int] = 4 * _ATTEMPTS

    def __post_init__(self) -> None:
        for name, most, rule in (("scale", 1.0, "greater than 0, at most 1"), ("ratio", math.inf, "greater than 0")):
            pair: Any = getattr(self, name)
            low, high = map(float_of, pair) if isinstance(pair, (tuple, list)) and len(pair) == 2 else (math.nan,) * 2
            if not 0 < low <= high <= most or math.isinf(high):
                raise ConfigError(
                    f"random_resized_crop: {name} must be two numbers, {rule}, the smaller first",
                    setting=name,
                    value=pair,
                )
            object.__setattr__(self, name, (low, high))

    def choose(self, height: int, width: int, *, words: list[int]) -> Box:
        """The part of a picture, in whole pixels, as ``torchvision.transforms.RandomResizedCrop.get_params`` does it.

        Ten attempts at an area, uniform in ``scale``, and a ratio, uniform in the logarithm of ``ratio``, of which the
        first that fits goes to a uniform place; then the largest part in the middle whose ratio is allowed.
        """
        low, high = map(math.log, self.ratio)
        for at in range(0, 4 * _ATTEMPTS, 4):
            area = height * width * _between(*self.scale, words[at])
            ratio = math.exp(_between(low, high, words[at + 1]))
            across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < across <= width and 0 < down <= height:
                top = words[at + 2] * (height - down + 1) >> 64
                return Box(top, words[at + 3] * (width - across + 1) >> 64, down, across)
        across, down = width, height
        if width < height * self.ratio[0]:
            down = max(round(width / self.ratio[0]), 1)
        elif width > height * self.ratio[1]:
            across = max(round(height * self.ratio[1]), 1)
        return Box((height - down) // 2, (width - across) // 2, down, across)


@dataclass(frozen=True, slots=True)
class FunctionTransform:
    """A user's function.

    Attributes:
        function: The function.
        place: Its place in the list, for messages.
        check: Looks at what it returned, where that becomes uint8 next.
    """

    function: AugmentFunction
    place: int
    check: RoundingCheck | None = field(default=None, compare=False, repr=False)
    num_words: ClassVar[int] = 2  # the 128 bits of a Philox key

    def change(self, pixels: NDArray[Any], words: list[int]) -> NDArray[Any]:
        """Call it.

        Raises:
            ConfigError: It returned something else than numbers of the same shape.
            Exception: Whatever it raised, with a note.
        """
        from shardkit.codecs.arrays import as_bytes

        given = as_bytes(pixels)
        generator = np.random.Generator(np.random.Philox(key=np.array(words, dtype=np.uint64)))
        try:
            found = np.asarray(self.function(given, generator))
        except Exception as exc:
            exc.add_note(f"raised in {self.name}")
            raise
        if found.shape != given.shape or found.dtype.kind not in "buif":
            raise ConfigError(
                f"{self.name} returned an array of shape {found.shape} and type {found.dtype}",
                setting="augment",
                advice=f"It must return numbers of the shape it was given, {given.shape}",
            )
        if self.check is not None:
            self.check.look(given, found, words[0])
        if found.dtype == np.uint8 and found is not given:
            # What comes next writes in place, and this memory may be the function's own.
            np.copyto(given, found)
        return given if found.dtype == np.uint8 else found

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"augment[{self.place}], {getattr(self.function, '__qualname__', repr(self.function))}"


Transform = RandomFlip | RandomResizedCrop | FunctionTransform


def random_flip(horizontal: bool = True, vertical: bool = False, p: float = 0.5) -> RandomFlip:
    """A transform for ``Loader(augment=[...])`` that turns pictures over.

    Args:
        horizontal: Whether left and right change places with probability ``p``.
        vertical: Whether top and bottom do, independently.
        p: The probability, 0 to 1.

    Returns:
        The transform.

    Raises:
        ConfigError: A value is not possible.
    """
    return RandomFlip(horizontal, vertical, p)


def random_resized_crop(
    scale: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)
) -> RandomResizedCrop:
    """A transform for ``Loader(augment=[...])`` that uses a random part of each picture, resized to ``image_size``.

    The algorithm is that of ``torchvision.transforms.RandomResizedCrop`` (Szegedy et al. 2015): an area uniform in
    ``scale`` and a ratio uniform in the logarithm of ``ratio``, at a uniform place. It must be the first of the list:
    the part is chosen before decoding, so that only that part is resized.

    Args:
        scale: The part's area as a fraction of the picture's: least and most, greater than 0, at most 1.
        ratio: The part's width divided by its height, in the picture's pixels before resizing: least and most.

    Returns:
        The transform.

    Raises:
        ConfigError: A value is not possible.
    """
    return RandomResizedCrop(scale, ratio)


def as_transforms(augment: object, dtype: str = "uint8") -> tuple[Transform, ...]:
    """The transforms in a user's list.

    Args:
        augment: A list or tuple of what `random_flip` and `random_resized_crop` give, and of functions.
        dtype: The type of the batches that they are for.

    Returns:
        The transforms.

    Raises:
        ConfigError: It is no such list, or the crop is not the first.
    """
    if not isinstance(augment, (list, tuple)):
        raise ConfigError(
            "augment must be a list or a tuple of transforms",
            setting="augment",
            value=augment,
            advice="Put a single one in brackets",
        )
    if len(augment) >> _PLACE_BITS:
        raise ConfigError(f"augment holds {len(augment)} transforms; 255 are the most", setting="augment")
    return _checked([_as_transform(place, item) for place, item in enumerate(augment)], dtype)


def _checked(transforms: list[Transform], dtype: str) -> tuple[Transform, ...]:
    """The same; functions whose results become uint8 next have what warns of values that it cannot hold."""
    checked = list(transforms)
    taker = "batches of dtype='uint8' hold" if dtype == "uint8" else ""
    advice = 'Set dtype="float32" in the Loader, or scale in the model instead'
    for at in reversed(range(len(checked))):
        transform = checked[at]
        if not isinstance(transform, FunctionTransform):
            continue
        if taker and transform.check is None:
            checked[at] = replace(transform, check=RoundingCheck(transform.name, taker, advice))
        taker = f"augment[{at}] is given"
        advice = 'Put it last, with dtype="float32" in the Loader, or scale in the model instead'
    return tuple(checked)


def _as_transform(place: int, item: Any) -> Transform:
    if isinstance(item, RandomResizedCrop) and place > 0:
        raise ConfigError(
            f"random_resized_crop is augment[{place}], and chooses a part before the picture is decoded",
            setting="augment",
            advice="Put it first",
        )
    if isinstance(item, Transform):
        return item
    if not callable(item) or any(item is maker for maker in (random_flip, random_resized_crop)):
        raise ConfigError(
            f"augment[{place}] must be a function (array, rng) -> array, shardkit.random_flip() or "
            "shardkit.random_resized_crop()",
            setting="augment",
            value=item,
            advice="Call it: with ()" if callable(item) else "",
        )
    return FunctionTransform(item, place)


class Chance(NamedTuple):
    """What is drawn for one picture.

    Attributes:
        choose_box: The part to use of a shown picture of some height and width, or ``None`` for all of it.
        change: Changes the decoded ``(H, W, C)`` uint8 array, in place or not, or ``None``.
    """

    choose_box: Callable[[int, int], Box] | None = None
    change: Callable[[NDArray[Any]], NDArray[Any]] | None = None


class Augmenter:
    """The transforms of one epoch.

    Args:
        transforms: The transforms.
        fingerprint: The data set's fingerprint.
        seed: The user's seed.
        epoch: The epoch.
    """

    def __init__(self, transforms: Sequence[Transform], *, fingerprint: str, seed: int, epoch: int) -> None:
        self._key = derive_key("augment", fingerprint=fingerprint, seed=seed, epoch=epoch)
        self._transforms = transforms
        self._crop = next((item for item in transforms if isinstance(item, RandomResizedCrop)), None)
        self._changes = [item for item in transforms if not isinstance(item, RandomResizedCrop)]

    def draw(self, samples: NDArray[np.int64]) -> list[NDArray[np.uint64]]:
        """The random words of some samples.

        Args:
            samples: ``(n,)`` sample numbers in the split, below 2**47.

        Returns:
            ``(n, num_words)`` for each transform.
        """
        firsts = samples[:, None] << (_PLACE_BITS + _DRAW_BITS)
        return [
            random_words(self._key, firsts + ((place << _DRAW_BITS) + np.arange(transform.num_words)))
            for place, transform in enumerate(self._transforms)
        ]

    def chance(self, words: list[NDArray[np.uint64]], row: int) -> Chance:
        """What the words say for one sample.

        Args:
            words: What `draw` gave.
            row: Which of its samples.

        Returns:
            What the decoder is told.
        """
        drawn = [values[row].tolist() for values in words]
        choose_box = None if self._crop is None else partial(self._crop.choose, words=drawn.pop(0))
        return Chance(choose_box, partial(_change, self._changes, drawn) if drawn else None)


def _change(
    changes: list[RandomFlip | FunctionTransform], drawn: list[list[int]], pixels: NDArray[Any]
) -> NDArray[Any]:
    for transform, words in zip(changes, drawn, strict=True):
        pixels = transform.change(pixels, words)
    return pixels


def _fraction(word: int) -> float:
    """A number in [0, 1), of the 53 bits that a float holds exactly."""
    return (word >> 11) * 2.0**-53


def _between(low: float, high: float, word: int) -> float:
    return low + (high - low) * _fraction(word)

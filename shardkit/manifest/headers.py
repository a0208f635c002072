"""What the sample tables say of images, compared with the images themselves."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from shardkit.codecs.colors import COLOR_MODES, PILLOW_MODES
from shardkit.codecs.header import ImageHeader, read_header
from shardkit.errors import CodecError, FormatError

if TYPE_CHECKING:
    from shardkit.manifest.manifest import FieldInfo
    from shardkit.manifest.samples import SampleTable

__all__ = ["compare_header"]


def compare_header(data: bytes, info: FieldInfo, table: SampleTable, place: int, where: dict[str, Any]) -> None:
    """Compare what an image's header says with the columns of its table.

    Args:
        data: The image's bytes.
        info: What the field is: an encoded image or an array.
        table: The sample table, read whole.
        place: The sample's place in it.
        where: What to call it in messages.

    Raises:
        FormatError: They differ.
        CodecError: It is no image.
    """
    try:
        header = read_header(data) if info.shape is None else _of_array(*info.shape)
    except CodecError as error:
        error.locate(**where)
        raise
    for name, found in asdict(header).items():
        said = table.pictures[name][place]
        if said != found:
            raise FormatError(f"the {name} of the image is {found} in the shard and {said} in its table", **where)


def _of_array(height: int, width: int, channels: int) -> ImageHeader:
    return ImageHeader("raw", width, height, PILLOW_MODES[COLOR_MODES[channels]], 1)

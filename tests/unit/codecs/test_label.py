"""Class labels as decimal digits."""

import pytest

from shardkit.codecs.label import decode_class, encode_class
from shardkit.errors import CodecError


@pytest.mark.parametrize("label", [0, 1, 9, 10, 999, -1, 2**63 - 1, -(2**63)])
def test_round_trip(label: int) -> None:
    assert encode_class(label) == str(label).encode()
    assert decode_class(encode_class(label)) == label
    assert decode_class(memoryview(encode_class(label))) == label


@pytest.mark.parametrize("data", [b"7\n", b"7\r\n"])
def test_a_line_end_is_allowed(data: bytes) -> None:
    assert decode_class(data) == 7


@pytest.mark.parametrize(
    "data",
    [
        *[b"", b"\n", b"cat", b"1.0", b"+1", b" 1", b"1 ", b"01", b"-0", b"1_0", b"\xd9\xa3", b"1\n\n", b"1\0"],
        *[b"9" * 5000, b"9223372036854775808"],
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError, match="not a class label"):
        decode_class(data)


@pytest.mark.parametrize("label", [2**63, -(2**63) - 1])
def test_labels_fit_int64(label: int) -> None:
    with pytest.raises(CodecError, match="int64"):
        encode_class(label)

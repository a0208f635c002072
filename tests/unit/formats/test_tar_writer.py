"""What a header that shardkit writes says, byte by byte, and which names it refuses."""

import pytest
from tar_bytes import pax_record

from shardkit.errors import FormatError
from shardkit.formats.tar import END_OF_ARCHIVE, member_header, member_length, padding


def test_a_header_is_ustar_with_nothing_of_the_machine_in_it():
    block = member_header(b"cat/1.jpg", 0o1234)
    assert len(block) == 512
    assert block[:100] == b"cat/1.jpg".ljust(100, b"\0")
    assert block[100:124] == b"0000644\x000000000\x000000000\0"
    assert block[124:136] == b"00000001234\0"
    assert block[136:148] == b"00000000000\0"
    assert block[148:156] == b"%06o\0 " % sum(block[:148] + b" " * 8 + block[156:])
    assert block[156:157] == b"0"
    assert block[157:257] == bytes(100)
    assert block[257:265] == b"ustar\x0000"
    assert block[265:329] == bytes(64)
    assert block[329:345] == b"0000000\x000000000\0"
    assert block[345:] == bytes(167)


@pytest.mark.parametrize(
    ("name", "prefix", "short"),
    [
        (b"a" * 100, b"", b"a" * 100),
        (b"d/" + b"a" * 99, b"d", b"a" * 99),
        (b"d" * 155 + b"/" + b"a" * 100, b"d" * 155, b"a" * 100),
        (b"d" * 60 + b"/" + b"e" * 60 + b"/a", b"d" * 60 + b"/" + b"e" * 60, b"a"),
    ],
)
def test_a_long_name_is_split_at_a_slash(name, prefix, short):
    block = member_header(name, 1)
    assert len(block) == 512
    assert block[:100].rstrip(b"\0") == short
    assert block[345:500].rstrip(b"\0") == prefix


@pytest.mark.parametrize(
    "name",
    [b"a" * 101, b"d" * 156 + b"/a", b"d/" + b"a" * 101, b"d" * 155 + b"/" + b"a" * 101, b"d/" * 400 + b"a"],
)
def test_only_a_name_that_ustar_cannot_hold_gets_a_pax_header(name):
    header = member_header(name, 5)
    assert header[156:157] == b"x"
    assert header[:14] == b"././@PaxHeader"
    assert header[136:148] == b"00000000000\0"
    assert header[512:-512].rstrip(b"\0") == pax_record(b"path", name)
    assert header[-512:][156:157] == b"0"
    assert header[-512:][124:136] == b"00000000005\0"
    assert not header[-512:][:100].rstrip(b"\0").endswith(b"/")


def test_a_long_name_that_is_not_utf8_says_so():
    name = b"\xff" * 101
    expected = pax_record(b"hdrcharset", b"BINARY") + pax_record(b"path", name)
    assert member_header(name, 0)[512:-512].rstrip(b"\0") == expected


def test_a_size_of_8_gib_goes_into_a_pax_header():
    assert len(member_header(b"a", 8**11 - 1)) == 512
    header = member_header(b"a", 8**11)
    assert header[512:1024].rstrip(b"\0") == pax_record(b"size", b"8589934592")
    assert header[1024:1124].rstrip(b"\0") == b"a"


@pytest.mark.parametrize("length", [*range(85, 110), *range(980, 1010)])
def test_a_pax_record_counts_its_own_digits(length):
    name = b"n" * length + b"x" * 100
    assert pax_record(b"path", name) in member_header(name, 0)


@pytest.mark.parametrize(("size", "rest"), [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511), (2**40 + 1, 511)])
def test_padding_goes_to_the_next_block(size, rest):
    assert padding(size) == rest


@pytest.mark.parametrize(("size", "length"), [(0, 512), (1, 1024), (512, 1024), (513, 1536)])
def test_the_length_of_a_member_is_header_data_and_padding(size, length):
    assert member_length(b"a", size) == length
    assert member_length(b"a" * 101, size) == length + 1024


def test_the_end_of_an_archive_is_two_zero_blocks():
    assert bytes(1024) == END_OF_ARCHIVE


@pytest.mark.parametrize(
    "name",
    [b"", b"/", b"/etc/passwd", b"a/", b"a\0b", b"..", b"../a", b"a/../b", b"a/.."],
)
def test_names_that_could_leave_their_folder_or_be_read_as_others_are_refused(name):
    with pytest.raises(FormatError, match="cannot be a member's name"):
        member_header(name, 1)
    with pytest.raises(FormatError, match="cannot be a member's name"):
        member_length(name, 1)


@pytest.mark.parametrize("name", [b"a..b", b"..a", b"a/...", b".a", b"./a", b"-rf", b" a ", b"a\nb", b"\xff"])
def test_names_that_only_look_odd_are_kept(name):
    assert member_header(name, 0)[:100].rstrip(b"\0") == name


@pytest.mark.parametrize("size", [-1, 2**63])
def test_sizes_that_no_file_has_are_refused(size):
    with pytest.raises(FormatError, match="size"):
        member_header(b"a", size)


def test_a_name_longer_than_any_reader_would_take_is_refused():
    with pytest.raises(FormatError, match="2000000 bytes"):
        member_header(b"a" * 2_000_000, 0)

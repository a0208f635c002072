"""What holds for every archive: what is written is read back, and what is read is what other readers read."""

import io
import os
import re
import shutil
import subprocess
import tarfile

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tar_bytes import Stream, archive, entry, padded, pax_record, raw_header

from shardkit.errors import FormatError
from shardkit.formats.tar import END_OF_ARCHIVE, iter_members, member_length, read_members

EDGES = [1, 2, 99, 100, 101, 102, 154, 155, 156, 157, 254, 255, 256, 257, 258, 300, 1000]
LISTED = re.compile(rb"[-C]\S+ +\S+ +(\d+) \S+ \S+ (.*)")
needs_gnu_tar = pytest.mark.skipif(shutil.which("tar") is None, reason="there is no GNU tar here")


def is_writable(name: bytes) -> bool:
    return not name.startswith(b"/") and not name.endswith(b"/") and b".." not in name.split(b"/")


@st.composite
def member_names(draw, forbidden: bytes = b"\0"):
    """Names of any bytes, of lengths around the limits of ustar, with slashes in any place."""
    length = draw(st.sampled_from(EDGES) | st.integers(1, 320))
    common = draw(st.sampled_from([b"a", b"\xff", "é".encode(), b"a/", b"."]))
    name = bytearray((common * length)[:length])
    for place in draw(st.lists(st.integers(0, length - 1), max_size=8)):
        name[place] = draw(st.sampled_from(b"/") | st.integers(1, 255))
    name = bytes(byte for byte in name if byte not in forbidden)
    assume(name)
    assume(is_writable(name))
    return name


sizes = st.sampled_from([0, 1, 511, 512, 513, 1024]) | st.integers(0, 2000)
data = st.builds(lambda size, seed: bytes((seed + n * n) % 251 for n in range(size)), sizes, st.integers(0, 250))
member_lists = st.lists(st.tuples(member_names(), data), min_size=1, max_size=6)


def by_tarfile(shard: bytes) -> list[tuple[bytes, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(shard), mode="r:", encoding="utf-8") as opened:
        return [(m.name.encode("utf-8", "surrogateescape"), opened.extractfile(m).read()) for m in opened]


def listed_by_gnu_tar(shard: bytes) -> list[tuple[bytes, int]]:
    command = ["tar", "--list", "--verbose", "--numeric-owner", "--quoting-style=literal", "--file=-"]
    done = subprocess.run(command, input=shard, capture_output=True, check=True, env=os.environ | {"LC_ALL": "C"})
    found = [LISTED.fullmatch(line) for line in done.stdout.splitlines() if line[:1] in b"-C"]
    return [(match[2], int(match[1])) for match in found]


@given(member_lists)
def test_what_is_written_is_read_back(members):
    shard = archive(members)
    for kind in (io.BytesIO, Stream):
        found = list(read_members(kind(shard)))
        assert [(m.name.encode("utf-8", "surrogateescape"), content) for m, content in found] == members
        assert list(iter_members(kind(shard))) == [member for member, _ in found]
    ends = [m.header_offset + member_length(name, m.size) for (m, _), (name, _) in zip(found, members, strict=True)]
    assert ends == [m.header_offset for m, _ in found[1:]] + [len(shard) - 1024]


@given(member_lists)
def test_tarfile_reads_what_is_written(members):
    assert by_tarfile(archive(members)) == members


@needs_gnu_tar
@settings(max_examples=40)
@given(st.lists(st.tuples(member_names(forbidden=b"\0\n\r"), data), min_size=1, max_size=6))
def test_gnu_tar_reads_what_is_written(members):
    shard = archive(members)
    assert listed_by_gnu_tar(shard) == [(name, len(content)) for name, content in members]
    unpacked = subprocess.run(["tar", "-xOf", "-"], input=shard, capture_output=True, check=True)
    assert unpacked.stdout == b"".join(content for _, content in members)


@given(member_lists, st.data())
def test_a_shard_cut_anywhere_is_refused(members, pick):
    shard = archive(members)
    cut = shard[: pick.draw(st.integers(0, len(shard) - 1))]
    for kind in (io.BytesIO, Stream):
        for size in (None, len(shard)):
            with pytest.raises(FormatError) as caught:
                list(iter_members(kind(cut), size=size, shard="cut.tar"))
            assert caught.value.shard == "cut.tar"
            assert caught.value.offset is not None
            assert caught.value.offset <= len(cut)


@given(member_lists, st.data())
def test_a_bit_flipped_in_a_header_is_refused_or_changes_nothing(members, pick):
    shard = bytearray(archive(members))
    whole = list(iter_members(io.BytesIO(shard)))
    member = pick.draw(st.sampled_from(whole))
    start = pick.draw(st.sampled_from([member.header_offset, member.offset - 512]))
    bit = pick.draw(st.integers(start * 8, start * 8 + 4095))
    shard[bit // 8] ^= 1 << bit % 8
    try:
        assert list(iter_members(io.BytesIO(shard))) == whole
    except FormatError as error:
        assert error.offset is not None


@given(member_lists, st.lists(st.tuples(st.integers(0), st.binary(min_size=1, max_size=20)), min_size=1, max_size=4))
def test_whatever_bytes_it_is_given_the_reader_ends_with_members_or_its_own_error(members, splices):
    shard = archive(members)
    for place, piece in splices:
        place %= len(shard)
        shard = shard[:place] + piece + shard[place + len(piece) :]
    try:
        found = list(iter_members(io.BytesIO(shard)))
    except FormatError:
        return
    assert all(0 < m.offset <= m.offset + m.size <= len(shard) - 1024 for m in found)


short_names = st.sampled_from([b"a", b"b/c", b"d/", b"\xff", b"", b"n" * 99 + b"/"])
records = st.sampled_from(
    [
        pax_record(b"path", b"pax"),
        pax_record(b"path", b"b/c"),
        pax_record(b"path", b"slash/"),
        pax_record(b"size", b"0"),
        pax_record(b"size", b"512"),
        pax_record(b"size", b"600"),
        pax_record(b"linkpath", b"l"),
        pax_record(b"comment", b"c"),
        pax_record(b"hdrcharset", b"BINARY"),
    ]
)


def is_harmless(record: bytes) -> bool:
    return b" path=" not in record and b" size=" not in record


long_names = st.sampled_from([b"long\0", b"b/c\0", b"b/c", b"x" * 512, b"long/\0", b"a\0b\0", b"\0"])
extensions = (
    st.builds(lambda found: entry(b"x", b"".join(found)), st.lists(records, max_size=2))
    | st.builds(lambda found: entry(b"g", b"".join(found)), st.lists(records.filter(is_harmless), max_size=1))
    | st.builds(lambda name: entry(b"L", name, magic=b"ustar  \0"), long_names)
    | st.builds(lambda name: entry(b"K", name, magic=b"ustar  \0"), long_names)
)


@st.composite
def odd_entries(draw):
    """An entry as no writer makes it: its true data are a block long, or none, and what it says of them may not be."""
    inner = raw_header(b"smuggled")
    body = draw(st.sampled_from([b"", b"", inner, inner + inner]))
    said = draw(st.sampled_from([len(body), len(body), len(body), 0, 512, 600, 1]))
    kind = draw(st.sampled_from([b"0", b"0", b"0", b"\0", b"\0", b"7", b"1", b"2", b"5", b"V"]))
    magic = draw(st.sampled_from([b"ustar\x0000", b"ustar\x0000", b"ustar  \0", b""]))
    prefix = draw(st.sampled_from([b"", b"", b"p", b"p/q"]))
    before = draw(st.just([]) | st.lists(extensions, max_size=3))
    return b"".join(before) + raw_header(draw(short_names), said, kind, magic, prefix) + padded(body)


odd_archives = st.lists(odd_entries(), min_size=1, max_size=3).map(lambda found: b"".join(found) + END_OF_ARCHIVE)


@settings(max_examples=500)
@given(odd_archives)
@example(entry(b"x", pax_record(b"size", b"1024")) + raw_header(b"a") + raw_header(b"b") * 2 + END_OF_ARCHIVE)
def test_what_is_read_at_all_is_read_as_tarfile_reads_it(shard):
    try:
        found = [(m.name, m.size, m.offset) for m in iter_members(io.BytesIO(shard))]
    except FormatError:
        return
    try:
        with tarfile.open(fileobj=io.BytesIO(shard), mode="r:", encoding="utf-8") as opened:
            assert found == [(m.name, m.size, m.offset_data) for m in opened if m.isreg()]
    except tarfile.ReadError:
        assert found == []  # tarfile takes an archive for broken that holds but a global header


@needs_gnu_tar
@settings(max_examples=150)
@given(odd_archives)
def test_what_is_read_at_all_is_read_as_gnu_tar_reads_it(shard):
    try:
        found = [(m.name.encode("utf-8", "surrogateescape"), m.size) for m in iter_members(io.BytesIO(shard))]
    except FormatError:
        return
    assert listed_by_gnu_tar(shard) == found

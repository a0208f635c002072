"""Which archives are read, which are refused, and what the errors say."""

import dataclasses
import io
import itertools
import os
import random
import subprocess
import time

import pytest
from tar_bytes import Stream, archive, entry, padded, pax_record, raw_header, refused

from shardkit.errors import FormatError
from shardkit.formats.tar import END_OF_ARCHIVE, Member, iter_members, member_header, read_members

MEMBERS = [
    (b"cat/1.cls", b"7"),
    (b"cat/1.jpg", bytes(range(256)) * 5),
    (b"dog/2.cls", b""),
    (b"d" * 101 + b"/2.jpg", b"x" * 512),
    (b"n" * 130, b"long name" * 57),
    (b"dog/3.jpg", b"y" * 700),
]
SHARD = archive(MEMBERS)
GNU = b"ustar  \0"


def names(data: bytes, **options) -> list[str]:
    """The members' names, the same whether the file can seek or not."""
    found = [member.name for member in iter_members(io.BytesIO(data), **options)]
    assert [member.name for member in iter_members(Stream(data), **options)] == found
    return found


# What is read


def test_members_say_where_their_bytes_are(tmp_path):
    path = tmp_path / "shard.tar"
    path.write_bytes(SHARD)
    found = list(iter_members(path))
    assert [member.name.encode() for member in found] == [name for name, _ in MEMBERS]
    assert [SHARD[m.offset : m.offset + m.size] for m in found] == [data for _, data in MEMBERS]
    assert [m.header_offset for m in found] == [0, 1024, 3072, 3584, 4608, 7168]
    assert found == list(iter_members(str(path)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        found[0].size = 1


def test_data_can_be_read_from_the_file_between_two_members(tmp_path):
    path = tmp_path / "shard.tar"
    path.write_bytes(SHARD)
    with path.open("rb") as file:
        for member, (_, data) in zip(iter_members(file), MEMBERS, strict=True):
            file.seek(member.offset)
            assert file.read(member.size) == data


def test_a_pipe_is_read_through(tmp_path):
    path = tmp_path / "shard.tar"
    path.write_bytes(SHARD)
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as process:
        assert list(iter_members(process.stdout)) == list(iter_members(path))
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE, bufsize=0) as process:
        found = [(member.name.encode(), data) for member, data in read_members(process.stdout)]
    assert found == MEMBERS


@pytest.mark.parametrize("kind", [io.BytesIO, Stream])
def test_members_come_with_their_bytes(kind):
    assert [(m.name.encode(), data) for m, data in read_members(kind(SHARD))] == MEMBERS


def test_an_archive_begins_where_the_file_stands():
    file = io.BytesIO(b"12345" + SHARD)
    file.seek(5)
    assert list(iter_members(file)) == list(iter_members(io.BytesIO(SHARD)))


def test_only_regular_files_are_members():
    data = b"".join(
        [
            entry(b"5", name=b"dir/"),
            raw_header(b"dir2", 99, b"5"),
            raw_header(b"hard link", 0, b"1"),
            entry(b"2", name=b"symlink"),
            entry(b"3", name=b"character device"),
            entry(b"4", name=b"block device"),
            entry(b"6", name=b"fifo"),
            entry(b"V", name=b"label", magic=GNU),
            entry(b"\0", name=b"old dir/", magic=b""),
            entry(b"\0", b"1", b"old file", magic=b""),
            entry(b"0", b"2", b"file"),
            entry(b"7", b"3", b"contiguous file"),
        ]
    )
    assert names(data + END_OF_ARCHIVE) == ["old file", "file", "contiguous file"]


@pytest.mark.parametrize(
    "size",
    [b"00000000005\0", b"          5\0", b"         5 \0", b"5           ", b"\x80" + bytes(10) + b"\5"],
)
def test_sizes_as_writers_write_them(size):
    data = raw_header(size=size) + padded(b"12345") + END_OF_ARCHIVE
    assert [member.size for member in iter_members(io.BytesIO(data))] == [5]


def test_a_size_of_zeros_only_is_zero():
    assert names(raw_header(size=bytes(12)) + END_OF_ARCHIVE) == ["a.jpg"]


def test_checksums_over_signed_bytes_are_taken():
    assert names(raw_header("é.jpg".encode(), signed=True) + END_OF_ARCHIVE) == ["é.jpg"]


def test_names_that_are_not_utf8_keep_their_bytes():
    (name,) = names(archive([(b"\xff\xfe.jpg", b"")]))
    assert name.encode("utf-8", "surrogateescape") == b"\xff\xfe.jpg"


def test_long_names_of_gnu_and_pax():
    data = (
        entry(b"K", b"target" * 40 + b"\0", magic=GNU)
        + entry(b"L", b"n" * 300 + b"\0", magic=GNU)
        + entry(b"0", b"1", b"n" * 100, magic=GNU)
        + entry(b"x", pax_record(b"comment", b"hi") + pax_record(b"path", "ü/1.jpg".encode()))
        + entry(b"0", b"2", b"short")
        + entry(b"X", pax_record(b"path", b"solaris"))
        + entry(b"0", b"3", b"short")
        + END_OF_ARCHIVE
    )
    found = list(iter_members(io.BytesIO(data)))
    assert [m.name for m in found] == ["n" * 300, "ü/1.jpg", "solaris"]
    assert [m.header_offset for m in found] == [0, 3072, 5120]
    assert [data[m.offset : m.offset + m.size] for m in found] == [b"1", b"2", b"3"]


def test_the_size_of_pax_goes_before_that_of_the_header():
    # CVE-2025-62518: a reader that takes the header's size here finds the inner archive's members.
    inner = archive([(b"smuggled.jpg", b"!")])
    data = (
        entry(b"x", pax_record(b"size", b"%d" % len(inner)))
        + raw_header(b"outer.tar", 0)
        + padded(inner)
        + entry(b"0", b"2", b"last")
        + END_OF_ARCHIVE
    )
    assert names(data) == ["outer.tar", "last"]


def test_the_size_of_pax_is_not_that_of_a_long_name_between():
    data = (
        entry(b"x", pax_record(b"size", b"600"))
        + entry(b"L", b"long\0", magic=GNU)
        + raw_header(b"short", 0)
        + padded(bytes(600))
        + END_OF_ARCHIVE
    )
    assert [(m.name, m.size) for m in iter_members(io.BytesIO(data))] == [("long", 600)]


def test_a_global_header_that_only_comments_is_passed():
    data = entry(b"g", pax_record(b"comment", b"0" * 40)) + archive([(b"a", b"1")])
    assert names(data) == ["a"]
    assert next(iter_members(io.BytesIO(data))).header_offset == 1024


def test_zeros_may_follow_the_end():
    assert names(archive([(b"a", b"1")]) + bytes(9216)) == ["a"]
    assert names(END_OF_ARCHIVE) == []


def test_a_pax_header_of_170_000_records_is_read_in_under_a_second():
    start = time.monotonic()
    assert names(entry(b"x", b"6 a=b\n" * 170_000) + archive([(b"a", b"1")])) == ["a"]
    assert time.monotonic() - start < 2  # two readings


@pytest.mark.parametrize("end", [0, 512, 1024, 10_240])
def test_with_its_length_known_an_archive_needs_no_end(end):
    data = SHARD[:-1024] + bytes(end)
    assert len(names(data, size=len(data))) == len(MEMBERS)


# What is refused: cut


@pytest.mark.parametrize("known", [False, True])
def test_a_shard_cut_at_any_block_is_refused(known):
    for cut in range(0, len(SHARD), 512):
        refused(SHARD[:cut], **({"size": len(SHARD)} if known else {}))


def test_a_shard_cut_at_any_byte_is_refused():
    cuts = random.Random(0).sample(range(1, len(SHARD)), 200)
    for cut in cuts:
        error = refused(SHARD[:cut])
        assert error.offset is not None
        assert error.offset <= cut
        refused(SHARD[:cut], size=len(SHARD))


def test_with_the_length_of_a_cut_shard_known_it_is_read_only_if_whole_members_are_left():
    starts = [member.header_offset for member in iter_members(io.BytesIO(SHARD))]
    whole = {start: number for number, start in enumerate(starts) if number}
    whole |= {len(SHARD) - 1024: len(MEMBERS), len(SHARD) - 512: len(MEMBERS)}
    for cut in range(0, len(SHARD), 256):
        if cut in whole:
            assert len(names(SHARD[:cut], size=cut)) == whole[cut]
        else:
            refused(SHARD[:cut], size=cut)


def test_the_members_before_the_cut_are_handed_on_and_counted():
    walk = iter_members(io.BytesIO(SHARD[:4200]), shard="train-000000.tar")
    assert [m.name for m in itertools.islice(walk, 3)] == ["cat/1.cls", "cat/1.jpg", "dog/2.cls"]
    with pytest.raises(FormatError) as caught:
        next(walk)
    assert caught.value.offset == 3584
    assert "512 bytes goes past the end of the file at 4200 (members read before: 3)" in str(caught.value)
    assert "shard train-000000.tar, offset 3584" in str(caught.value)


def test_a_file_cut_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "shard.tar"
    for read in (iter_members, read_members):
        path.write_bytes(archive([(b"%d.jpg" % n, bytes(300_000)) for n in range(3)]))
        walk = read(path)
        next(walk)
        os.truncate(path, 400_000)
        with pytest.raises(FormatError, match=r"ends|past the end"):
            list(walk)


@pytest.mark.parametrize("difference", [-1024, -512, -1, 1, 512])
def test_another_length_than_the_known_one_is_refused(difference):
    assert str(len(SHARD) + difference) in str(refused(SHARD, size=len(SHARD) + difference))


def test_an_empty_file_is_refused():
    assert "empty" in str(refused(b""))
    assert "empty" in str(refused(b"", size=0))


@pytest.mark.parametrize("zeros", [1, 511, 512, 1023])
def test_fewer_zeros_than_an_end_are_refused(zeros):
    refused(SHARD[:-1024] + bytes(zeros))
    refused(bytes(zeros))


# What is refused: damaged or not tar


def test_data_after_the_end_is_refused():
    error = refused(SHARD + bytes(700) + SHARD)
    assert "data after the end of the archive" in str(error)
    assert error.offset == (len(SHARD) + 700) // 512 * 512
    assert "data after" in str(refused(SHARD[:-512] + archive([(b"a", b"")])))


def test_a_header_of_zeros_in_the_middle_is_refused():
    assert "data after the end" in str(refused(SHARD[:1024] + bytes(512) + SHARD[1536:]))


def test_200_flipped_bits_in_headers_are_refused_or_change_nothing():
    # Only in headers: a flip in data, or in the name or size that pax records hold, is for digests to find.
    members = [(b"class/%04d.jpg" % n, bytes(n)) for n in range(40)]
    shard = archive(members)
    whole = list(iter_members(io.BytesIO(shard)))
    dice = random.Random(0)
    errors = []
    for _ in range(200):
        bit = dice.choice(whole).header_offset * 8 + dice.randrange(4096)
        flipped = bytearray(shard)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            assert list(iter_members(io.BytesIO(flipped))) == whole
        except FormatError as error:
            errors.append((error.offset, bit // 4096 * 512))
    assert len(errors) > 190
    assert [found for found, _ in errors] == [flipped for _, flipped in errors]


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"<!DOCTYPE html><html><body>503 Service Unavailable</body></html>", "<!DOCTYPE html><', as HTML"),
        (b'\n {"error": "not found"}', "as JSON"),
        (b"\x1f\x8b\x08\0", "as gzip"),
        (b"\x28\xb5\x2f\xfd\x04", "as zstd"),
        (b"\xfd7zXZ\0", "as xz"),
        (b"PK\x03\x04", "as zip"),
        (b"\xff\xd8\xff\xe0", r"begins with b'\xff\xd8\xff\xe0"),
    ],
)
@pytest.mark.parametrize("length", [100, 5000])
def test_a_file_that_is_not_tar_is_named_by_its_first_bytes(start, said, length):
    error = refused(start.ljust(length, b"."))
    assert said in str(error)
    assert error.offset == 0


def test_an_error_names_the_file_when_it_is_given_no_name(tmp_path):
    path = tmp_path / "broken.tar"
    path.write_bytes(SHARD[:-1])
    for file in (path, str(path)):
        with pytest.raises(FormatError, match=r"broken\.tar"):
            list(iter_members(file))
    with path.open("rb") as file, pytest.raises(FormatError, match=r"broken\.tar"):
        list(iter_members(file))


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        next(iter_members(tmp_path / "none.tar"))


# Large


@pytest.mark.parametrize("size", [8**11 - 1, 8**11, 9 << 30, 1 << 40])
def test_a_member_of_8_gib_and_more(tmp_path, size):
    path = tmp_path / "large.tar"
    header = member_header(b"large.bin", size)
    last = archive([(b"last.jpg", b"end")])
    with path.open("wb") as file:
        file.write(header)
    end = len(header) + size + -size % 512
    os.truncate(path, end)
    with path.open("ab") as file:
        file.write(last)
    assert list(iter_members(path)) == [
        Member("large.bin", size, len(header), 0),
        Member("last.jpg", 3, end + 512, end),
    ]
    assert len(list(iter_members(path, size=end + len(last)))) == 2
    os.truncate(path, end - 1)
    with pytest.raises(FormatError, match="past the end"):
        list(iter_members(path))

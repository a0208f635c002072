"""Archives made to mislead a reader, to fill its memory or to keep it busy."""

import time
import tracemalloc

import pytest
from tar_bytes import archive, entry, padded, pax_record, raw_header, refused

from shardkit.formats.tar import END_OF_ARCHIVE

GNU = b"ustar  \0"
ONE = entry(b"0", b"1", b"one")
SIZE_1_TIB = b"\x80" + (2**40).to_bytes(11, "big")

HOSTILE = {
    "size of 1 TiB in 1.5 kB": (raw_header(size=SIZE_1_TIB), "past the end"),
    "size beyond 2**63": (raw_header(size=b"\x80" + (2**63).to_bytes(11, "big")), "2**63"),
    "data would end beyond 2**63": (raw_header(size=b"\x80" + (2**63 - 1).to_bytes(11, "big")), "2**63"),
    "negative size": (raw_header(size=b"\xff" * 12), "not a number"),
    "negative size that leads back to itself": (raw_header(size=b"\xff" * 10 + b"\xfe\0"), "not a number"),
    "size in an unknown base": (raw_header(size=b"\x81" + bytes(11)), "not a number"),
    "size with a sign": (raw_header(size=b"+0000000001\0"), "not a number"),
    "size with an underscore": (raw_header(size=b"0000000_001\0"), "not a number"),
    "size with two numbers": (raw_header(size=b"00001 00001\0"), "not a number"),
    "size of spaces": (raw_header(size=b" " * 12), "not a number"),
    "size behind zeros, which two readers read as two": (
        raw_header(size=b"\0" * 6 + b"00016\0"),
        "not a number",
    ),
    "pax size not a number": (entry(b"x", pax_record(b"size", b"abc")) + ONE, "not a number"),
    "pax size negative": (entry(b"x", pax_record(b"size", b"-1")) + ONE, "not a number"),
    "pax size empty": (entry(b"x", pax_record(b"size", b"")) + ONE, "not a number"),
    "pax size beyond 2**63": (entry(b"x", pax_record(b"size", b"9223372036854775808")) + ONE, "2**63"),
    "pax size of 5,000 digits": (entry(b"x", pax_record(b"size", b"9" * 5000)) + ONE, "not a number"),
    "pax size of 1 TiB": (entry(b"x", pax_record(b"size", b"%d" % 2**40)) + ONE, "past the end"),
    "pax header of 1 TiB": (raw_header(size=SIZE_1_TIB, kind=b"x"), "1048576"),
    "long name of 1 TiB": (raw_header(size=SIZE_1_TIB, kind=b"L"), "1048576"),
    "pax header of 2 MiB": (entry(b"x", bytes(2 << 20)), "1048576"),
    "pax record of length 0 (CVE-2019-20907)": (entry(b"x", b"0 path=a\n") + ONE, "damaged"),
    "pax record longer than the header": (entry(b"x", b"99 path=a\n") + ONE, "damaged"),
    "pax record that ends before its value": (entry(b"x", b"5 path=a\n") + ONE, "damaged"),
    "pax record without a line feed": (entry(b"x", b"9 path=abc") + ONE, "damaged"),
    "pax record without a keyword": (entry(b"x", b"5 =ab\n") + ONE, "damaged"),
    "pax record of 4,301 digits": (entry(b"x", b"9" * 4301 + b" path=a\n") + ONE, "damaged"),
    "pax name empty": (entry(b"x", pax_record(b"path", b"")) + ONE, "name that is empty"),
    "pax name with NUL": (entry(b"x", pax_record(b"path", b"a\0b")) + ONE, "NUL"),
    "two pax headers": (entry(b"x", pax_record(b"path", b"a")) * 2 + ONE, "two pax headers"),
    "two long names": (entry(b"L", b"a\0") + entry(b"L", b"b\0") + ONE, "different names"),
    "long name and pax name": (
        entry(b"L", b"a\0") + entry(b"x", pax_record(b"path", b"b")) + ONE,
        "different",
    ),
    "long name empty": (entry(b"L", b"\0a") + ONE, "name that is empty"),
    "name that goes on in the padding": (
        raw_header(size=5, kind=b"L") + padded(b"aaaaabbbbb\0") + ONE,
        "padded",
    ),
    "global name": (entry(b"g", pax_record(b"path", b"a")) + ONE, "every member's path"),
    "global size": (entry(b"g", pax_record(b"size", b"0")) + ONE, "every member's size"),
    "global header inside a member's": (
        entry(b"x", pax_record(b"path", b"a")) + entry(b"g", pax_record(b"comment", b"a")) + ONE,
        "between another header and its member",
    ),
    "100,000 long names": (entry(b"L", b"a\0") * 100_000 + ONE, "more than 8"),
    "100,000 long links": (entry(b"K") * 100_000 + ONE, "more than 8"),
    "blank before a keyword": (entry(b"x", pax_record(b" path", b"cat.jpg")) + ONE, "a blank before a keyword"),
    "tab before a keyword": (entry(b"x", pax_record(b"\tsize", b"1024")) + ONE, "a blank before a keyword"),
    "blank before a keyword of all members": (
        entry(b"g", pax_record(b" path", b"a")) + ONE,
        "a blank before a keyword",
    ),
    "pax header without a member": (entry(b"x", pax_record(b"path", b"a")), "its member does not follow"),
    "sparse member": (entry(b"S", b"1"), "sparse"),
    "sparse member by pax": (entry(b"x", pax_record(b"GNU.sparse.major", b"1")) + ONE, "sparse"),
    "sparse members by global pax": (entry(b"g", pax_record(b"GNU.sparse.realsize", b"9")) + ONE, "sparse"),
    "sparse member of Solaris": (entry(b"x", pax_record(b"SUN.holesdata", b" 0 1")) + ONE, "sparse"),
    "multi-volume": (entry(b"M", b"1"), "multi-volume"),
    "volume label with data": (entry(b"V", b"1"), "has a size"),
    "symlink with data": (entry(b"2", b"1"), "has a size"),
    "hard link with data": (entry(b"1", b"1"), "has a size"),
    "fifo with data": (entry(b"6", b"1"), "has a size"),
    "hard link with a pax size": (entry(b"x", pax_record(b"size", b"9")) + entry(b"1"), "has a size"),
    "unknown type": (entry(b"Q"), "unknown type b'Q'"),
    "name empty": (entry(b"0", name=b""), "no name"),
    "file named like a directory": (entry(b"0", name=b"a/"), "named like a directory"),
    "old directory with data": (entry(b"\0", b"1", name=b"a/", magic=b""), "directory has data"),
    "old directory with a long name": (
        entry(b"L", b"b\0") + entry(b"\0", name=b"a/"),
        "named like a directory",
    ),
    "prefix that is not ustar's": (entry(b"0", magic=GNU, prefix=b"dir"), "readers disagree"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives_are_refused_at_once_and_cheaply(case):
    data, said = HOSTILE[case]
    tracemalloc.start()
    start = time.monotonic()
    error = refused(archive([(b"zero", b"0")])[:-1024] + data + END_OF_ARCHIVE)
    elapsed_s = time.monotonic() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert said in error.what
    assert "members read before: 1" in error.what
    assert error.offset is not None
    assert error.offset >= 1024
    assert elapsed_s < 2  # two readings
    assert peak < 50_000_000 + 3 * len(data)

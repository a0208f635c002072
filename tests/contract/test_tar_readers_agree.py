"""shardkit, Python's tarfile, GNU tar and webdataset find the same members in the same files."""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import webdataset
from material import material_dir
from tar_bytes import archive
from webdataset.tariterators import tar_file_iterator

from shardkit.errors import FormatError
from shardkit.formats.tar import iter_members, read_members

needs_gnu_tar = pytest.mark.skipif(shutil.which("tar") is None, reason="there is no GNU tar here")

PICTURES = [
    (b"cat/0001.jpg", bytes(range(256)) * 10),
    (b"cat/0001.cls", b"3"),
    (b"dog/%2E0002.jpg", b"j" * 511),
    (b"dog/%2E0002.cls", b""),
    (b"d" * 90 + b"/" + b"e" * 60 + b"/0003.jpg", b"j" * 512),
    (b"d" * 90 + b"/" + b"e" * 60 + b"/0003.cls", b"5"),
    (b"n" * 200 + b".jpg", b"j" * 513),
    (b"n" * 200 + b".cls", b"12"),
    ("ключ/фото.jpg".encode(), b"j"),
    ("ключ/фото.cls".encode(), b"0"),
]


def by_tarfile(path: Path) -> list[tuple[str, int, int, int]]:
    with tarfile.open(path, "r:", encoding="utf-8") as opened:
        return [(m.name, m.size, m.offset_data, m.offset) for m in opened if m.isreg()]


def by_shardkit(path: Path) -> list[tuple[str, int, int, int]]:
    return [(m.name, m.size, m.offset, m.header_offset) for m in iter_members(path)]


@pytest.fixture
def shard(tmp_path) -> Path:
    path = tmp_path / "train-000000.tar"
    path.write_bytes(archive(PICTURES))
    return path


# What shardkit writes


def test_tarfile_reads_what_shardkit_writes(shard):
    with tarfile.open(shard) as opened:
        assert [(m.name.encode(), opened.extractfile(m).read()) for m in opened] == PICTURES
        assert all((m.mode, m.uid, m.gid, m.mtime, m.uname, m.gname) == (0o644, 0, 0, 0, "", "") for m in opened)
    assert by_shardkit(shard) == by_tarfile(shard)


@needs_gnu_tar
def test_gnu_tar_reads_what_shardkit_writes(shard, tmp_path):
    listed = subprocess.run(["tar", "--quoting-style=literal", "-tf", shard], capture_output=True, check=True)
    assert listed.stderr == b""
    assert listed.stdout.splitlines() == [name for name, _ in PICTURES]
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-xf", shard, "-C", out], check=True)
    files = {str(path.relative_to(out)).encode(): path for path in out.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in files.items()} == dict(PICTURES)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves its file to be closed by chance
def test_webdataset_reads_what_shardkit_writes(shard):
    with shard.open("rb") as file:
        found = [(item["fname"].encode(), item["data"]) for item in tar_file_iterator(file)]
    assert found == PICTURES
    samples = list(webdataset.WebDataset(str(shard), shardshuffle=False))
    assert [sample["__key__"].encode() + b".jpg" for sample in samples] == [name for name, _ in PICTURES[::2]]
    assert [sample["jpg"] for sample in samples] == [data for _, data in PICTURES[::2]]
    assert [sample["cls"] for sample in samples] == [data for _, data in PICTURES[1::2]]


# What others write


@pytest.fixture
def tree(tmp_path) -> Path:
    """A folder with files of all sizes that matter, and with what is not a regular file."""
    root = tmp_path / "tree"
    folder = root / "a folder"
    folder.mkdir(parents=True)
    for size in (0, 1, 511, 512, 513, 20_000):
        (folder / f"{size}.bin").write_bytes(bytes(n % 251 for n in range(size)))
    (folder / "ключ.jpg").write_bytes(b"utf-8")
    Path(os.fsdecode(bytes(folder) + b"/\xff.jpg")).write_bytes(b"not utf-8")
    (folder / "link").symlink_to("1.bin")
    (folder / "hard").hardlink_to(folder / "20000.bin")
    os.mkfifo(folder / "fifo")
    return root


def add_long_names(tree: Path, *, for_ustar: bool) -> None:
    deep = tree / ("d" * 80) / ("e" * 60)
    deep.mkdir(parents=True)
    (deep / ("f" * 90)).write_bytes(b"ustar can hold this in two parts")
    if not for_ustar:
        (deep / ("g" * 200)).write_bytes(b"and this not at all")
        (deep / "long link").symlink_to("t" * 150)


@needs_gnu_tar
@pytest.mark.parametrize("variant", ["v7", "oldgnu", "gnu", "ustar", "pax", "posix"])
@pytest.mark.parametrize("blocking", [1, 20])
def test_shardkit_reads_what_gnu_tar_writes(tree, tmp_path, variant, blocking):
    if variant == "v7":
        (tree / "a folder" / "fifo").unlink()
    else:
        add_long_names(tree, for_ustar=variant == "ustar")
    path = tmp_path / "gnu.tar"
    options = [f"--format={variant}", f"--blocking-factor={blocking}", "--sort=name", "-C", tree]
    subprocess.run(["tar", *options, "-cf", path, "."], check=True)
    found = by_shardkit(path)
    assert found == by_tarfile(path)
    regular = [str(p.relative_to(tree)) for p in tree.rglob("*") if p.is_file() and not p.is_symlink()]
    assert sorted(name.removeprefix("./") for name, *_ in found) == sorted(set(regular) - {"a folder/hard"})


@pytest.mark.parametrize("variant", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_shardkit_reads_what_tarfile_writes(tree, tmp_path, variant):
    add_long_names(tree, for_ustar=variant == tarfile.USTAR_FORMAT)
    path = tmp_path / "python.tar"
    with tarfile.open(path, "w", format=variant, encoding="utf-8") as opened:
        opened.add(tree, arcname=".")
    assert by_shardkit(path) == by_tarfile(path)
    assert len(by_shardkit(path)) >= 9


def test_shardkit_reads_what_webdataset_writes(tmp_path):
    path = tmp_path / "webdataset.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for n in range(20):
            writer.write({"__key__": f"{n:06d}", "jpg": b"j" * n * 100, "cls": n})
    assert by_shardkit(path) == by_tarfile(path)
    data = {member.name: data for member, data in read_members(path)}
    assert len(data) == 40
    assert data["000007.jpg"] == b"j" * 700


@needs_gnu_tar
@pytest.mark.parametrize("variant", ["oldgnu", "gnu", "pax"])
def test_shardkit_reads_9_gib_as_gnu_tar_writes_them(tmp_path, variant):
    large = tmp_path / "large.bin"
    large.touch()
    os.truncate(large, 9 << 30)
    # GNU tar's headers are taken from the front of its output; the zeros that follow are a hole in our file.
    command = ["tar", f"--format={variant}", "-cf", "-", "-C", tmp_path, "large.bin"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        front = process.stdout.read(4096)
        process.stdout.close()
    header = front.rstrip(b"\0")
    header += bytes(-len(header) % 512)
    path = tmp_path / "large.tar"
    path.write_bytes(header)
    os.truncate(path, len(header) + (9 << 30))
    with path.open("ab") as file:
        file.write(archive([(b"last.jpg", b"end")]))
    assert by_shardkit(path) == by_tarfile(path)
    assert [size for _, size, _, _ in by_shardkit(path)] == [9 << 30, 3]
    listed = subprocess.run(["tar", "-tf", path], capture_output=True, check=True)
    assert listed.stdout.split() == [b"large.bin", b"last.jpg"]


# The corpus of libarchive

SPARSE = "its members are sparse: their length is not that of their data, and 5 kB may stand for 60 GB"
PADDING = "its pax header is padded with more than zeros: tarfile reads on there, GNU tar does not"

REFUSED = {
    "test_compat_plexus_archiver_tar.tar": "a line feed follows the end: every byte there must be zero",
    "test_compat_tar_directory_1.tar": "a directory has a size: GNU tar skips data behind it, tarfile does not",
    "test_compat_tar_hardlink_1.tar": "it has no end, so that it may be cut",
    "test_read_format_gtar_redundant_L.tar.Z": "different long names for one member: the first or the last may hold",
    "test_read_format_gtar_sparse_1_13.tar": SPARSE,
    "test_read_format_gtar_sparse_1_17.tar": SPARSE,
    "test_read_format_gtar_sparse_1_17_posix00.tar": SPARSE,
    "test_read_format_gtar_sparse_1_17_posix01.tar": SPARSE,
    "test_read_format_gtar_sparse_1_17_posix10.tar": SPARSE,
    "test_read_format_gtar_sparse_1_17_posix10_modified.tar": SPARSE + "; tarfile fails with a bare ValueError",
    "test_read_format_gtar_sparse_length.tar.Z": SPARSE,
    "test_read_format_gtar_sparse_reuse.tar": SPARSE,
    "test_read_format_gtar_sparse_skip_entry.tar.Z": SPARSE,
    "test_read_format_tar_V_negative_size.tar": "its volume label has a negative size",
    "test_read_format_tar_concatenated.tar": "a second archive follows the end: tarfile does not see it",
    "test_read_format_tar_invalid_pax_size.tar": "its pax records are damaged, with a negative size",
    "test_read_format_tar_pax_g_large.tar": "its global header claims 4 GiB",
    "test_read_format_tar_pax_large_attr.tar.Z": "its pax header is of 8 MB; 1 MiB is allowed",
    "test_read_format_tar_pax_sun_holesdata.tar": SPARSE,
    "test_read_format_tar_pax_timestamps.tar": PADDING,
    "test_read_format_tar_timestamp_overflow.tar": "its size is damaged: digits behind zero bytes",
    "test_read_pax_empty_val_no_nl.tar": PADDING,
}
# A global header and nothing else, as git makes of an empty tree: tarfile takes it for damage.
READ_BY_SHARDKIT_ONLY = {"test_read_format_tar_empty_pax.tar.Z"}


def corpus() -> list[Path]:
    folder = material_dir("libarchive")
    return [path for path in sorted(folder.iterdir()) if path.name.endswith((".tar", ".tar.Z", ".tgz"))]


def unpacked(path: Path) -> bytes:
    if path.suffix == ".tar":
        return path.read_bytes()
    if shutil.which("gzip") is None:
        pytest.skip("there is no gzip here to undo compress")
    done = subprocess.run(["gzip", "-dc"], input=path.read_bytes(), capture_output=True, check=False)
    assert done.returncode in (0, 2)  # 2: garbage after the compressed data, on purpose
    return done.stdout


def test_each_archive_of_libarchive_is_read_as_by_tarfile_or_refused_for_a_reason(tmp_path):
    num_members = 0
    refused = set()
    for source in corpus():
        path = tmp_path / source.name
        path.write_bytes(unpacked(source))
        try:
            found = by_shardkit(path)
        except FormatError:
            refused.add(source.name)
            continue
        num_members += len(found)
        if source.name in READ_BY_SHARDKIT_ONLY:
            assert found == []
        else:
            assert found == by_tarfile(path), source.name
    assert refused == set(REFUSED)
    assert num_members > 30


def test_a_compressed_archive_of_libarchive_is_named_so():
    folder = material_dir("libarchive")
    for name, said in (
        ("test_compat_gzip_1.tgz", "gzip"),
        ("test_compat_zstd_1.tar.zst", "zstd"),
        ("test_compat_mac-1.tar.Z", "compress"),
    ):
        with pytest.raises(FormatError, match=f"as {said} does"):
            list(iter_members(folder / name))


def test_archives_of_an_attack_are_refused():
    archives = sorted(material_dir("hostile").glob("tar-*.tar"))
    assert len(archives) >= 3
    for path in archives:
        with pytest.raises(FormatError, match="readers disagree|has a size"):
            list(iter_members(path))

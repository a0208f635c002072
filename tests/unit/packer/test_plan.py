"""The plan on paper."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkit.errors import ConfigError
from shardkit.manifest.limits import MAX_MANIFEST_BYTES
from shardkit.packer.options import PackOptions, parse_split
from shardkit.packer.pictures import PictureOptions
from shardkit.packer.plan import make_plan
from shardkit.packer.source import Source, SourceItem, class_name, encode_key, shown_path


def source(count, classes=3):
    return Source(
        items=[
            SourceItem(b"/x/%d.jpg" % n, b"c%d/%d.jpg" % (n % classes, n), 100 + n, f"c{n % classes}", f"{n}")
            for n in range(count)
        ]
    )


def placed(plan):
    return [item.source for task in plan.tasks for item in task.items]


@given(st.binary(min_size=1).filter(lambda b: b"\0" not in b))
def test_a_key_is_printable_has_no_dot_and_tells_paths_apart(path):
    key = encode_key(path)
    assert "." not in key
    assert not any(ord(char) < 32 or ord(char) == 127 for char in key)
    key.encode("utf-8")
    assert encode_key(b"x" + path) != key


@given(
    st.lists(st.binary(min_size=1, max_size=4).filter(lambda b: b"\0" not in b), min_size=2, max_size=2, unique=True)
)
def test_two_paths_with_one_suffix_have_two_keys(paths):
    left, right = (encode_key(path + b".jpg") for path in paths)
    assert left != right


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (b"a/b.jpg", "a/b"),
        (b"a/b.JPEG", "a/b"),
        (b"v1.0/a.b.jpg", "v1%2E0/a%2Eb"),
        (b"a/no-suffix", "a/no-suffix"),
        (b"a/frame.0001", "a/frame%2E0001"),
        (b"a/.jpg", "a/%2Ejpg"),
        (b"100%/x.png", "100%25/x"),
        (b"a/new\nline.png", "a/new%0Aline"),
        (b"a/\xff.png", "a/%FF"),
        ("a/\u00e9.png".encode(), "a/\u00e9"),
    ],
)
def test_keys(path, key):
    assert encode_key(path) == key


def test_a_path_on_a_terminal_is_only_text():
    assert shown_path(b"a\x1b[2J\xff") == "a\\x1b[2J\\udcff"
    assert shown_path("caf\u00e9") == "caf\u00e9"


@given(st.integers(1, 200), st.integers(1, 60), st.booleans(), st.booleans())
def test_every_picture_is_in_exactly_one_shard(count, shard_samples, stratify, shuffle):
    options = PackOptions(shard_samples=shard_samples, stratify=stratify, shuffle=shuffle)
    plan = make_plan(source(count), options)
    assert sorted(placed(plan)) == sorted(item.source for item in source(count).items)
    assert all(len(task.items) <= shard_samples for task in plan.tasks)
    assert len({task.name for task in plan.tasks}) == len(plan.tasks)


def test_the_order_of_the_source_plays_no_part():
    listed = source(100)
    turned = Source(items=listed.items[::-1])
    options = PackOptions(split=(("train", 0.7), ("val", 0.3)))
    assert make_plan(listed, options) == make_plan(turned, options)


def test_the_digest_sees_every_option_path_size_and_label():
    def digest(change=lambda item: item, **options):
        listed = source(40)
        listed.items = [change(item) for item in listed.items]
        return make_plan(listed, PackOptions(**options)).digest

    def altered(number, **changes):
        return lambda item: item._replace(**changes) if item.where == number else item

    digests = [
        digest(),
        digest(seed=1),
        digest(shard_samples=7),
        digest(shuffle=False),
        digest(pictures=PictureOptions(check="decode")),
        digest(pictures=PictureOptions(resize=64)),
        digest(pictures=PictureOptions(resize=65)),
        digest(pictures=PictureOptions(resize=64, quality=80)),
        digest(pictures=PictureOptions(store="raw", image_size=(8, 8))),
        digest(pictures=PictureOptions(store="raw", image_size=(8, 9))),
        digest(pictures=PictureOptions(store="raw", image_size=(8, 8), color_mode="grayscale")),
        digest(pictures=PictureOptions(store="raw", image_size=(8, 8), crop_to_aspect_ratio=True)),
        digest(pictures=PictureOptions(store="raw", image_size=(8, 8), pad_to_aspect_ratio=True)),
        digest(split=(("train", 0.5), ("val", 0.5))),
        digest(split=(("other", 1.0),)),
        digest(altered("3", size=1)),
        digest(altered("3", label="c1")),
        digest(altered("3", source=b"c0/other.jpg")),
    ]
    assert len(set(digests)) == len(digests)
    assert digest(altered("3", path=b"/elsewhere/3.jpg")) == digests[0]


def test_shuffling_mixes_and_not_shuffling_sorts():
    plain = placed(make_plan(source(100), PackOptions(shuffle=False)))
    assert plain == sorted(plain)
    mixed = placed(make_plan(source(100), PackOptions()))
    assert mixed != plain
    assert mixed != placed(make_plan(source(100), PackOptions(seed=1)))


def test_a_split_that_would_be_empty_is_an_error():
    with pytest.raises(ConfigError, match="split val would be empty"):
        make_plan(source(2), PackOptions(split=(("train", 0.999), ("val", 0.001))))


def test_numbers_as_labels_have_a_limit():
    listed = Source(items=[SourceItem(b"/x", b"x.jpg", 1, "123456789012", "x")])
    with pytest.raises(ConfigError, match="too large"):
        make_plan(listed, PackOptions(labels_from="table"))


def test_folders_are_names_even_where_they_are_numbers():
    listed = Source(items=[SourceItem(b"/%d" % n, b"%d/a.jpg" % n, 1, str(n), "x") for n in (100, 9)])
    assert make_plan(listed, PackOptions(class_from="path")).classes == ("100", "9")
    assert len(make_plan(listed, PackOptions(labels_from="table")).classes) == 101


@given(st.lists(st.binary(min_size=1, max_size=6), min_size=2, max_size=2, unique=True))
def test_two_folders_are_two_classes(folders):
    left, right = map(class_name, folders)
    assert left != right
    left.encode()


@given(st.lists(st.sampled_from([b"%", b"2", b"5", b"F", b"8", b"0", b"\xff", b"\x80"]), max_size=8))
def test_a_class_name_leads_back_to_the_folder(parts):
    back = re.sub(
        rb"%(25|[89A-F][0-9A-F])", lambda found: bytes.fromhex(found[1].decode()), class_name(b"".join(parts)).encode()
    )
    assert back == b"".join(parts)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        (b"100%", "100%"), (b"\xff", "%FF"), (b"%FF", "%25FF"), (b"%20", "%20"), (b"\\udcff", "\\udcff"),
        ("d\u00f6g".encode(), "d\u00f6g"),
    ],
)  # fmt: skip
def test_class_names(folder, name):
    assert class_name(folder) == name


@pytest.mark.parametrize("text", ["", "train", "train=x", "train=0.5,train=0.5", "=1", "train=0.5;val=0.5"])
def test_a_split_that_is_no_split(text):
    with pytest.raises(ConfigError):
        PackOptions.of(split=parse_split(text), shard_size="1MB")


@pytest.mark.parametrize(
    "split", [{"train": 0.5}, {"train": 0.9, "val": 0.2}, {"a/b": 1.0}, {"train": -1, "val": 2}, {"t": 0}]
)
def test_fractions_that_do_not_add_up(split):
    with pytest.raises(ConfigError):
        PackOptions.of(split=split, shard_size="1MB")


def test_split_as_text():
    assert parse_split("train=0.8, val=0.1,test=0.1") == {"train": 0.8, "val": 0.1, "test": 0.1}


def test_classes_that_no_manifest_has_room_for_are_refused():
    listed = source(3)
    listed.classes.update(f"{number}{'x' * 4000}" for number in range(MAX_MANIFEST_BYTES // 4000))
    with pytest.raises(ConfigError, match="do not fit the manifest"):
        make_plan(listed, PackOptions.of(split=None, shard_size="1MB"))

"""Loading when the network or the server misbehaves: every sample right, or a clear error; never a short count."""

import shutil
import threading
import time
from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np
import pytest
from pictures import make_dataset
from remote import OPTIONS, batches_of, same_batches, served
from servers import modes
from servers.fault import Mix, Rule

import shardkit
from shardkit.errors import FormatError, ManifestError, ShardkitError, StorageError
from shardkit.loader import flight
from shardkit.storage import io_thread

SHARDS = "/*.tar"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """240 pictures in 10 shards."""
    return make_dataset(tmp_path_factory.mktemp("network"), 240)


@pytest.fixture(scope="module")
def expected(dataset):
    return batches_of(dataset)


@pytest.mark.parametrize(
    "options", [{}, {"shuffle": False}, {"shuffle": "global"}, {"shuffle_buffer": 20, "chunk_size": 5}]
)
def test_the_same_batches_as_from_the_disk_in_ranges_alone(dataset, options):
    with served(dataset) as server:
        assert same_batches(batches_of(server.url, epoch=3, **options), batches_of(dataset, epoch=3, **options))
        shards = [request for request in server.requests if request.path.endswith(".tar")]
    assert shards
    assert all(request.status == 206 for request in shards)


def test_any_batch_is_where_an_epoch_goes_on(dataset, expected):
    with served(dataset) as server:
        loader = shardkit.Loader(server.url, batch_size=8, image_size=(16, 16), shuffle=True)
        for start in (1, 17, len(expected) - 1):
            first = next(loader.batches(0, start))
            assert first.keys == expected[start][0]
            assert np.array_equal(first.arrays["image"], expected[start][1])


def test_each_rank_reads_the_tables_of_its_own_chunks_alone(dataset):
    with served(dataset) as server:
        options = {"chunk_size": 25, "lanes": 2, "shuffle_buffer": 25, "world_size": 2}
        keys = []
        for rank in range(2):
            server.forget()
            keys += [key for batch in batches_of(server.url, rank=rank, **options) for key in batch[0]]
            tables = {request.path for request in server.requests if request.path.endswith(".parquet")}
            assert len(tables - {"/shards.parquet"}) <= 7
    assert len(set(keys)) == 240


def test_of_many_tables_so_many_are_asked_for_at_once_as_there_may_be_connections(tmp_path):
    def is_table(request):
        return request.path.endswith(".parquet")

    many = make_dataset(tmp_path, 304, shard_samples=1)
    at_once = []
    with served(many) as server:
        server.latency = 0.2
        server.use(lambda _: at_once.append(sum(not request.end for request in server.requests if is_table(request))))
        assert same_batches(batches_of(server.url, shuffle="global"), batches_of(many, shuffle="global"))
        tables = [request.path for request in server.requests if is_table(request)]
    assert len(tables) == len(set(tables)) == 304 + 1  # the table of shards
    assert 100 < max(at_once) <= 128


@pytest.mark.parametrize("epoch", range(3))
def test_a_chunk_is_asked_for_once_and_the_first_batch_by_itself_before(dataset, epoch):
    order = {"chunk_size": 7, "lanes": 3, "shuffle_buffer": 60}
    first = shardkit.Loader(str(dataset), batch_size=8, decode=False, shuffle=True, **order).explain(epoch, 0)
    with served(dataset) as server:
        expected = batches_of(dataset, epoch, **order)
        assert same_batches(batches_of(server.url, epoch, threads=1, **order), expected)
        asked = [
            (request.path[1:], int(start), int(stop) + 1)
            for request in server.requests
            if request.range and request.path.endswith(".tar")
            for start, stop in [request.range.removeprefix("bytes=").split("-")]
        ]

    def number_in(found):
        shard, start, stop = found
        return sum(shard == sample.shard and start <= sample.offset < stop for sample in first)

    # At the front, what the first batch needs and nothing else; then chunks, none of them twice, nor parts of them.
    counts = list(accumulate(map(number_in, asked)))
    num_early = counts.index(8) + 1
    assert all(map(number_in, asked[:num_early]))
    rest = sorted(asked[num_early:])
    assert all(one[0] != other[0] or one[2] <= other[1] for one, other in pairwise(rest))
    assert len(rest) <= -(-240 // 7) + 9
    # So the first batch comes though nothing else does.
    with served(dataset, Rule(path=SHARDS, fault=modes.Stall(), skip=num_early)) as server:
        loader = shardkit.Loader(server.url, **{**OPTIONS, **order}, threads=1, timeout=5, retries=0)
        batches = loader.batches(epoch)
        assert next(batches).keys == expected[0][0]
        batches.close()


def test_chunks_as_large_as_they_get_come_in_requests_as_large(tmp_path):
    # 170 kB each, since PNG cannot make noise smaller; 30 MB in all.
    dataset = make_dataset(tmp_path, 176, size=238, shard_samples=88)
    order = {"lanes": 1, "shuffle_buffer": "4MB"}
    numbers = shardkit.Loader(dataset, batch_size=16, shuffle=True, **order).state()["order"]
    num_chunks = -(-176 // numbers["chunk_samples"])
    assert num_chunks == 4
    with served(dataset) as server:
        options = {"batch_size": 16, "image_size": None, "decode": False, **order}
        assert same_batches(batches_of(server.url, **options), batches_of(dataset, **options))
        sizes = [
            int(stop) + 1 - int(start)
            for request in server.requests
            if request.range and request.path.endswith(".tar")
            for start, stop in [request.range.removeprefix("bytes=").split("-")]
        ]
    large = [size for size in sizes if size > 2_500_000]
    # One for each part of a chunk that lies in a shard of its own, and those that the first batch needs before.
    assert num_chunks <= len(large) <= num_chunks + 1
    assert max(large) > 7_500_000
    assert len(sizes) - len(large) <= 16


ONCE = [
    modes.Reset(),
    modes.Reset(after=0.5),
    modes.Fin(after=0.5),
    modes.Stall(),
    modes.Stall(after=0.5),
    modes.Drip(),
    modes.TooLong(extra=10),
    *(modes.Status(code) for code in (408, 429, 500, 502, 503, 504)),
]


@pytest.mark.parametrize("fault", ONCE, ids=str)
@pytest.mark.parametrize("path", ["/manifest.json", "/shards.parquet", "/train-000003.parquet", SHARDS])
def test_what_goes_wrong_once_is_not_noticed(dataset, expected, fault, path):
    with served(dataset, Rule(fault=fault, path=path, times=2)) as server:
        assert same_batches(batches_of(server.url, timeout=0.5), expected)
        assert [request.fault for request in server.requests].count(fault) == 2


@pytest.mark.parametrize("fault", [modes.Reset(after=0.5), modes.Stall(), modes.Drip(), modes.Status(503)], ids=str)
def test_what_always_goes_wrong_is_an_error_that_says_how_often_it_was_tried(dataset, fault):
    with (
        served(dataset, Rule(fault=fault, path=SHARDS)) as server,
        pytest.raises(StorageError, match="tried 3 times") as caught,
    ):
        batches_of(server.url, timeout=0.3, retries=2, shuffle_buffer=20, chunk_size=1)
    assert caught.value.url.startswith(server.url + "train-0000")


@pytest.mark.parametrize("code", [401, 403])
def test_what_is_refused_is_an_error_at_once(dataset, code):
    for path in ("/manifest.json", SHARDS):
        with served(dataset, Rule(fault=modes.Status(code), path=path)) as server:
            started = time.monotonic()
            with pytest.raises(StorageError, match=f"status {code}.*Check the credentials"):
                batches_of(server.url)
            assert time.monotonic() - started < 10  # ten times the promise
            asked = [request.target + str(request.range) for request in server.requests if request.fault]
            assert len(asked) == len(set(asked))


def test_what_is_missing_is_an_error_at_once(dataset, tmp_path):
    with served(tmp_path) as server:
        with pytest.raises(ManifestError, match=r"no data set here: .* has no manifest\.json"):
            batches_of(server.url)
        assert len(server.requests) == 2
    copy = shutil.copytree(dataset, tmp_path / "copy")
    (copy / "train-000004.parquet").unlink()
    with served(copy) as server, pytest.raises(ManifestError, match="the sample table is missing"):
        batches_of(server.url)
    shutil.copy(dataset / "train-000004.parquet", copy)
    (copy / "train-000004.tar").unlink()
    with served(copy) as server, pytest.raises(FormatError, match="the shard is missing") as caught:
        batches_of(server.url)
    assert caught.value.shard == "train-000004.tar"


@pytest.mark.parametrize("as_date", [False, True])
@pytest.mark.parametrize("code", [429, 503])
def test_a_server_that_says_when_to_come_again_is_obeyed(dataset, expected, code, as_date):
    rule = Rule(fault=modes.Status(code, retry_after=1, as_date=as_date), path="/train-000001.tar", times=1)
    with served(dataset, rule) as server:
        assert same_batches(batches_of(server.url), expected)
        [refused] = [request for request in server.requests if request.fault]
        again = next(
            request
            for request in server.requests
            if request.target == refused.target and request.range == refused.range and request is not refused
        )
        assert again.came - refused.came >= 0.99


WRONG = {
    "ignores ranges": modes.IgnoreRange(),
    "sends others": modes.WrongContentRange(),
    "sends it compressed": modes.Gzip(),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_not_what_was_asked_for_is_refused(dataset, said):
    with (
        served(dataset, Rule(fault=WRONG[said], path=SHARDS)) as server,
        pytest.raises(StorageError, match=said) as caught,
    ):
        batches_of(server.url)
    assert "train-0000" in caught.value.url


def test_another_range_is_refused(dataset):
    with (
        served(dataset, Rule(fault=modes.OtherRange(), path=SHARDS)) as server,
        pytest.raises(StorageError, match="sends others"),
    ):
        batches_of(server.url)


@pytest.mark.parametrize(
    "fault", [modes.NoLength(), modes.Chunked(), modes.NoETag(), modes.WeakETag(), modes.SaysIdentity()], ids=str
)
def test_what_is_unusual_and_right_is_read(dataset, expected, fault):
    with served(dataset, Rule(fault=fault)) as server:
        assert same_batches(batches_of(server.url), expected)


@pytest.mark.parametrize("path", ["/manifest.json", "/shards.parquet", "/*-*.parquet", SHARDS])
def test_what_is_short_and_says_so_is_never_taken_for_whole(dataset, path):
    with served(dataset, Rule(fault=modes.TooShort(), path=path)) as server, pytest.raises(ShardkitError) as caught:
        batches_of(server.url, retries=1)
    assert path.rpartition("*")[2].strip("/") in str(caught.value)


def test_what_was_wrong_on_its_way_is_asked_for_again(dataset, expected):
    with served(dataset, Rule(fault=modes.Corrupt(), path=SHARDS, times=3)) as server:
        assert same_batches(batches_of(server.url), expected)


def test_what_is_wrong_there_is_an_error_that_names_the_sample(dataset):
    with (
        served(dataset, Rule(fault=modes.Corrupt(at=0.5), path="/train-000002.tar")) as server,
        pytest.raises(FormatError, match="not those that were packed") as caught,
    ):
        batches_of(server.url)
    assert caught.value.shard == "train-000002.tar"
    assert caught.value.key


def test_a_shard_that_is_replaced_by_the_same_is_read_on(dataset, expected):
    with served(dataset, Rule(fault=modes.ETagFlips(), path=SHARDS, skip=3, times=1)) as server:
        assert same_batches(batches_of(server.url), expected)


def test_a_shard_that_is_replaced_all_the_time_is_named(dataset):
    with (
        served(dataset, Rule(fault=modes.ETagFlips(), path=SHARDS)) as server,
        pytest.raises(StorageError, match="replaced again and again") as caught,
    ):
        batches_of(server.url, shuffle_buffer=20, chunk_size=5)
    assert "train-0000" in caught.value.url


def test_a_shard_that_is_replaced_by_another_is_named(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    with served(copy) as server:
        loader = shardkit.Loader(server.url, batch_size=8, image_size=(16, 16), shuffle=True)
        assert len(list(loader)) == 30
        # Of the same length, and all its members in the same places.
        data = bytearray((copy / "train-000005.tar").read_bytes())
        data[600] ^= 1
        (copy / "train-000005.tar").write_bytes(data)
        with pytest.raises(FormatError, match="not those that were packed") as caught:
            list(loader)
        assert caught.value.shard == "train-000005.tar"
        (copy / "train-000005.tar").write_bytes(data + bytes(512))
        with pytest.raises(FormatError, match=f"has {len(data) + 512} bytes instead of {len(data)}"):
            list(loader)


REPLACED = {"an empty file": b"", "zeros": bytes(20480), "a page": b"<html>Sign in</html>"}


@pytest.mark.parametrize("what", REPLACED)
def test_what_is_no_shard(dataset, tmp_path, what):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    size = (copy / "train-000001.tar").stat().st_size
    (copy / "train-000001.tar").write_bytes(REPLACED[what])
    with served(copy) as server, pytest.raises(ShardkitError) as caught:
        batches_of(server.url)
    assert "train-000001.tar" in str(caught.value)
    assert f"instead of {size}" in str(caught.value) or not REPLACED[what]


def test_redirects_are_followed_up_to_five(dataset, expected):
    def chain(length):
        return [
            Rule(
                fault=modes.Redirect(f"{{target}}?hop={hop + 1}"), when=lambda request, hop=hop: hop_of(request) == hop
            )
            for hop in range(length)
        ]

    def hop_of(request):
        return int(request.target.partition("?hop=")[2].rpartition("?hop=")[2] or 0)

    with served(dataset, *chain(5)) as server:
        assert same_batches(batches_of(server.url), expected)
    with served(dataset, *chain(6)) as server, pytest.raises(StorageError, match="more than 5 redirects"):
        batches_of(server.url)
    with (
        served(dataset, Rule(fault=modes.Redirect("{target}"))) as server,
        pytest.raises(StorageError, match="more than 5 redirects"),
    ):
        batches_of(server.url)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", ""])
def test_redirects_to_what_is_no_web_address(dataset, location):
    rule = Rule(fault=modes.Redirect(location), path=SHARDS)
    with served(dataset, rule) as server, pytest.raises(StorageError, match="no web address"):
        batches_of(server.url)


def test_credentials_stay_with_the_server_they_are_for(dataset, expected):
    with served(dataset) as other, served(dataset) as server:
        server.use(Rule(fault=modes.Redirect(other.url.rstrip("/") + "{target}"), path=SHARDS))
        url = server.url.replace("//", "//me:geheim@")
        options = {"storage_options": {"X-Api-Key": "auch-geheim"}}
        assert same_batches(batches_of(url, **options), expected)
        assert all(request.headers["authorization"].startswith("Basic ") for request in server.requests)
        assert all(request.headers["x-api-key"] == "auch-geheim" for request in server.requests)
        assert other.requests
        assert not any({"authorization", "x-api-key"} & request.headers.keys() for request in other.requests)


def test_a_query_goes_with_every_request(dataset, expected):
    with served(dataset) as server:
        assert same_batches(batches_of(server.url + "?sig=abc%2F"), expected)
        assert all(request.target.endswith("?sig=abc%2F") for request in server.requests)


def test_faults_of_all_kinds_at_once(dataset, expected):
    mix = Mix(
        [
            (0.1, lambda random: modes.Reset(after=random.random())),
            (0.1, modes.Status(503)),
            (0.05, lambda random: modes.Stall(after=random.random())),
            (0.03, lambda random: modes.Corrupt(at=random.random())),
        ],
        seed=1,
    )
    with served(dataset, mix) as server:
        options = {"epoch": 1, "shuffle_buffer": 60, "chunk_size": 10}
        assert same_batches(batches_of(server.url, timeout=0.5, **options), batches_of(dataset, **options))
        assert len({type(request.fault) for request in server.requests}) == 5


def test_a_server_that_falls_silent_is_noticed_though_much_was_to_come(tmp_path):
    dataset = make_dataset(tmp_path, 120, size=238, shard_samples=120)
    # 20 MB at 16 KiB a second would be 20 minutes.
    stall = Rule(path=SHARDS, fault=modes.Stall(after=100_000), when=lambda request: _length(request) > 2_000_000)
    with served(dataset, stall) as server:
        options = {"batch_size": 16, "image_size": None, "decode": False, "lanes": 1}
        started = time.monotonic()
        with pytest.raises(StorageError, match="tried 2 times"):
            batches_of(server.url, timeout=0.5, retries=1, **options)
        assert time.monotonic() - started < 30


def _length(request):
    start, _, stop = (request.range or "bytes=0-0").removeprefix("bytes=").partition("-")
    return int(stop) - int(start)


@pytest.mark.parametrize("mode", [modes.Chunked, modes.NoLength], ids=str)
def test_an_answer_without_length_that_drips_is_given_up(dataset, mode):
    class Dripping:
        async def reply(self, request, fetch):
            reply = await mode().reply(request, fetch)
            return replace(reply, body=modes.dripped(reply.body, 100.0))

    with served(dataset, Rule(path="/shards.parquet", fault=Dripping())) as server:
        started = time.monotonic()
        with pytest.raises(StorageError, match="too slow"):
            batches_of(server.url, timeout=0.5, retries=0)
        assert time.monotonic() - started < 30


def test_what_is_too_much_to_fetch_at_once_is_said(dataset, monkeypatch):
    monkeypatch.setattr(flight, "_MOST_PART_BYTES", 5000)
    with served(dataset) as server, pytest.raises(FormatError, match="are to be fetched at once.*smaller chunk_size"):
        batches_of(server.url, retries=0)


@pytest.mark.parametrize("end", ["close", "drop"])
def test_leaving_ends_everything_though_the_server_hangs(dataset, end, monkeypatch):
    monkeypatch.setattr(io_thread, "_IDLE_S", 1.0)
    before = threading.active_count()
    with served(dataset, Rule(fault=modes.Stall(), path=SHARDS, skip=12)) as server:
        batches = shardkit.Loader(server.url, batch_size=8, image_size=(16, 16), shuffle=True).batches()
        next(batches)
        started = time.monotonic()
        if end == "close":
            batches.close()
        del batches
        while threading.active_count() > before + 1 and time.monotonic() - started < 30:
            time.sleep(0.02)
        assert time.monotonic() - started < 30


def test_whoever_needs_what_is_held_has_it_fetched(dataset):
    with served(dataset) as server:
        loader = shardkit.Loader(server.url, batch_size=8, decode=False)
        reader = loader._pipeline._reader()
        samples = np.arange(16)
        reader.expect(samples)
        reader.prepare(samples[:8], urgent=True)
        reader.hold(8)
        reader.prepare(samples[8:])
        _, offset, size, *_ = loader._pipeline.tables.numbers(0)[12].tolist()
        timer = threading.Timer(20, reader.abandon)
        timer.start()
        try:
            assert len(reader.awaited(0, offset, size)) == size
        finally:
            timer.cancel()
            reader.abandon()
            reader.close()

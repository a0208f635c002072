"""Each server does what tests of cloud storage count on: a real client talks to it, straight and by way of faults."""

import os
import ssl
import time
import urllib.request
from datetime import timedelta

import obstore
import pytest
from obstore.exceptions import (
    AlreadyExistsError,
    GenericError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import HTTPStore, from_url
from servers.fault import FaultServer, Mix, Rule
from servers.modes import ETagFlips, Reset, Status
from servers.process import ServerFailed, ask, free_ports, running

LARGE = bytes(range(256)) * (12 << 12)
RETRIES = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=20),
    "backoff": {"init_backoff": timedelta(milliseconds=20), "max_backoff": timedelta(milliseconds=200), "base": 2},
}


def opened(server, prefix, **other):
    """The store below a prefix."""
    options = {**server.storage_options, **other}
    # These are two things to obstore, which does not take them mixed.
    client_options = {"allow_http": options.pop("allow_http")}
    return from_url(f"{server.url}/{prefix}", config=options, client_options=client_options, retry_config=RETRIES)


def read(store, name):
    return bytes(obstore.get(store, name).bytes())


@pytest.mark.parametrize("name", ["seaweedfs", "azurite"])
class TestWritable:
    @pytest.fixture
    def server(self, name, request):
        return request.getfixturevalue(name)

    @pytest.fixture
    def prefix(self, request, tmp_path):
        return tmp_path.name

    def test_put_get_range_list_head_delete(self, server, prefix):
        store = opened(server, prefix)
        obstore.put(store, "a/one.tar", b"0123456789")
        obstore.put(store, "two.tar", b"")
        assert read(store, "a/one.tar") == b"0123456789"
        assert bytes(obstore.get_range(store, "a/one.tar", start=3, length=4)) == b"3456"
        assert {found["path"]: found["size"] for found in obstore.list(store).collect()} == {
            "a/one.tar": 10,
            "two.tar": 0,
        }
        assert obstore.head(store, "a/one.tar")["size"] == 10
        obstore.delete(store, "a/one.tar")
        with pytest.raises(FileNotFoundError):
            obstore.get(store, "a/one.tar")

    def test_multipart(self, server, prefix):
        store = opened(server, prefix)
        obstore.put(store, "large", LARGE, use_multipart=True, chunk_size=5 << 20)
        assert read(store, "large") == LARGE

    def test_conditions(self, server, prefix):
        store = opened(server, prefix)
        first = obstore.put(store, "once", b"1", mode="create")
        with pytest.raises(AlreadyExistsError):
            obstore.put(store, "once", b"2", mode="create")
        obstore.put(store, "once", b"3")
        with pytest.raises(PreconditionError):
            obstore.get(store, "once", options={"if_match": first["e_tag"]})

    def test_a_wrong_key_is_refused(self, server, prefix):
        wrong = {"secret_access_key": "x"} if "secret_access_key" in server.storage_options else {"account_key": "eHh4"}
        with pytest.raises((PermissionDeniedError, UnauthenticatedError)):
            obstore.put(opened(server, prefix, **wrong), "a", b"1")

    def test_through_faults(self, server, prefix):
        obstore.put(opened(server, prefix), "large", LARGE)
        with FaultServer(f"127.0.0.1:{server.port}") as proxy:
            store = opened(server.through(proxy.port), prefix)
            proxy.use(Rule(fault=Reset(after=0.5), times=1), Rule(fault=Status(503), times=1))
            assert read(store, "large") == LARGE
            rest = f"bytes={len(LARGE) // 2}-{len(LARGE) - 1}"
            asked = [(request.status, request.range) for request in proxy.requests]
            assert asked == [(200, None), (503, rest), (206, rest)]
            # Uploads as well: the upload ids and signatures pass.
            proxy.use(Mix([(0.1, Reset()), (0.1, Status(503))], seed=1))
            for number in range(8):
                obstore.put(store, f"part-{number}", LARGE, use_multipart=True, chunk_size=5 << 20)
            proxy.use()
            assert [read(store, f"part-{number}") == LARGE for number in range(8)] == [True] * 8
            # A reply is not pieced together from two versions.
            proxy.use(Rule(fault=Reset(after=0.5), times=1), Rule(fault=ETagFlips()))
            with pytest.raises(GenericError):
                read(store, "large")


def test_gcs(gcs, tmp_path):
    (tmp_path / "up" / "a b").mkdir(parents=True)
    (tmp_path / "up" / "a b" / "one.tar").write_bytes(b"0123456789")
    (tmp_path / "up" / "large").write_bytes(LARGE)
    gcs.upload(tmp_path / "up", prefix="smoke/")
    store = opened(gcs, "smoke")
    assert {found["path"]: found["size"] for found in obstore.list(store).collect()} == {
        "a b/one.tar": 10,
        "large": len(LARGE),
    }
    assert bytes(obstore.get_range(store, "a b/one.tar", start=3, length=4)) == b"3456"
    with FaultServer(f"127.0.0.1:{gcs.port}", Rule(fault=Reset(after=0.5), times=1)) as proxy:
        assert read(opened(gcs.through(proxy.port), "smoke"), "large") == LARGE
        assert [request.status for request in proxy.requests] == [200, 206]


class TestNginx:
    def at(self, url):
        return HTTPStore.from_url(url, client_options={"allow_http": True, "timeout": "10s"}, retry_config=RETRIES)

    @pytest.fixture
    def server(self, nginx):
        (nginx.root / "data").write_bytes(LARGE)
        return nginx

    def test_plain_and_what_was_asked(self, server):
        store = self.at(server.url)
        assert bytes(obstore.get_range(store, "data", start=3, length=4)) == LARGE[3:7]
        assert read(store, "data") == LARGE
        assert [(asked.method, asked.path, asked.range, asked.status, asked.sent) for asked in server.requests()] == [
            ("GET", "/data", "bytes=3-6", 206, 4),
            ("GET", "/data", "", 200, len(LARGE)),
        ]
        server.forget()
        assert server.requests() == []

    def test_locations(self, server):
        with pytest.raises(NotSupportedError):
            obstore.get_range(self.at(server.at("noranges")), "data", start=3, length=4)
        with pytest.raises(PermissionDeniedError):
            read(self.at(server.at("forbidden")), "data")
        assert read(self.at(server.at("moved")), "data") == LARGE
        server.forget()
        for _ in range(3):
            assert obstore.head(self.at(server.at("busy")), "data")["size"] == len(LARGE)
        assert {asked.status for asked in server.requests()} == {200, 429}
        # The first second's worth comes at once.
        began = time.monotonic()
        assert len(bytes(obstore.get_range(self.at(server.at("slow")), "data", start=0, length=100_000))) == 100_000
        assert time.monotonic() - began > 0.5

    def test_tls(self, server):
        with pytest.raises(GenericError, match="certificate|Connect|connect|request"):
            read(self.at(server.tls_url), "data")
        trusting = ssl.create_default_context(cafile=server.certificate)
        for path in ("data", "down/data"):
            with urllib.request.urlopen(server.tls_url + path, context=trusting) as reply:
                assert reply.read() == LARGE
                assert reply.url == (server.url if "/" in path else server.tls_url) + "data"


class TestStarting:
    def test_one_that_ends_says_why(self, tmp_path):
        with (
            pytest.raises(ServerFailed, match="ended with exit code 3(.|\n)*out of order"),
            running(
                ["sh", "-c", "echo out of order; exit 3"], tmp_path, ready=lambda: ask(free_ports(1)[0], "GET", "/")
            ),
        ):
            pass

    def test_one_that_never_answers(self, tmp_path):
        def ready():
            raise ConnectionRefusedError("nobody there")

        with (
            pytest.raises(ServerFailed, match="sleep does not answer .nobody there."),
            running(["sleep", "60"], tmp_path, ready=ready, timeout_s=0.1),
        ):
            pass

    def test_one_that_does_not_want_to_end(self, tmp_path):
        stubborn = "trap '' TERM; echo $$ > new; mv new up; while :; do sleep 0.05; done"
        with running(["sh", "-c", stubborn], tmp_path, ready=lambda: (tmp_path / "up").stat(), grace_s=0.1):
            process = int((tmp_path / "up").read_text())
            os.kill(process, 0)
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)

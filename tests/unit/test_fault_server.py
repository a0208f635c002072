"""The fault server does what each of its modes says, and is right where none is asked for."""

import gzip
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from servers.fault import FaultServer, Mix, Rule
from servers.modes import (
    Chunked,
    Corrupt,
    Drip,
    ETagFlips,
    Fin,
    Gzip,
    IgnoreRange,
    NoETag,
    NoLength,
    OtherRange,
    Redirect,
    Reset,
    Stall,
    Status,
    TooLong,
    TooShort,
    WeakETag,
    WrongContentRange,
)

DATA = bytes(range(250)) * 4


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "data").write_bytes(DATA)
    (root / "a b").write_bytes(b"spaced")
    (tmp_path / "secret").write_bytes(b"secret")
    return root


def ask(server, path="/data", method="GET", timeout=10, **headers):
    """One request on a connection of its own: the status, the headers in lower case, the body."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)) as connection:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        reply = connection.getresponse()
        body = reply.read()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, body


def faulty(folder, fault, **rule):
    return FaultServer(folder, Rule(fault=fault, **rule))


def raw(server, timeout=10):
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=timeout)
    connection.sendall(b"GET /data HTTP/1.1\r\nHost: here\r\n\r\n")
    return connection


def read_to_the_end(connection):
    """What comes before the connection ends, and how it ends."""
    got = bytearray()
    while True:
        try:
            data = connection.recv(1 << 20)
        except (ConnectionResetError, TimeoutError) as error:
            return bytes(got), type(error)
        if not data:
            return bytes(got), None
        got += data


def body_of(got):
    return got.partition(b"\r\n\r\n")[2]


class TestRight:
    @pytest.mark.parametrize(
        ("asked", "first", "end"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=10-19", 10, 20),
            ("bytes=990-", 990, 1000),
            ("bytes=-5", 995, 1000),
            ("bytes=999-5000", 999, 1000),
            ("bytes=-5000", 0, 1000),
        ],
    )
    def test_ranges(self, folder, asked, first, end):
        with FaultServer(folder) as server:
            status, headers, body = ask(server, Range=asked)
        assert (status, body) == (206, DATA[first:end])
        assert headers["content-range"] == f"bytes {first}-{end - 1}/1000"
        assert headers["content-length"] == str(end - first)

    def test_the_whole(self, folder):
        with FaultServer(folder) as server:
            plain = ask(server)
            assert (plain[0], plain[2]) == (200, DATA)
            assert plain[1]["content-length"] == "1000"
            assert plain[1]["etag"][0] == '"'
            for asked in ("bytes=1-2,5-6", "bytes=-", "lines=1-2"):
                assert ask(server, Range=asked) == plain
            assert ask(server, method="HEAD") == (200, plain[1], b"")
            assert ask(server, path="/data?signature=abc") == plain
            assert ask(server, path="/a%20b")[2] == b"spaced"

    def test_what_cannot_be_had(self, folder):
        with FaultServer(folder) as server:
            status, headers, body = ask(server, Range="bytes=1000-")
            assert (status, headers["content-range"], body) == (416, "bytes */1000", b"")
            assert ask(server, path="/gone")[0] == 404
            assert ask(server, path="/")[0] == 404
            for path in ("/../secret", "/%2e%2e/secret", "//etc/passwd"):
                assert ask(server, path=path)[0] == 404
            assert ask(server, method="DELETE")[0] == 405

    def test_conditions(self, folder):
        with FaultServer(folder) as server:
            tag = ask(server)[1]["etag"]
            assert ask(server, If_Match=tag)[0] == 200
            assert ask(server, If_Match='"other"')[0] == 412
            assert ask(server, If_None_Match=tag)[0] == 304
            assert ask(server, If_Range=tag, Range="bytes=0-4")[0] == 206
            assert ask(server, If_Range='"other"', Range="bytes=0-4")[0] == 200
            (folder / "data").write_bytes(DATA)
            assert ask(server, If_Match=tag)[0] == 412

    def test_a_connection_is_used_again_and_nonsense_is_refused(self, folder):
        with FaultServer(folder) as server:
            with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
                for _ in range(3):
                    connection.request("GET", "/data")
                    assert connection.getresponse().read() == DATA
                    local = connection.sock.getsockname()
                assert connection.sock.getsockname() == local
            with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as connection:
                connection.sendall(b"what?\r\n\r\n")
                assert read_to_the_end(connection)[0].startswith(b"HTTP/1.1 400 ")

    def test_what_was_asked_is_known(self, folder):
        with faulty(folder, Status(503), skip=1) as server:
            ask(server, Range="bytes=1-3", Authorization="a secret")
            ask(server, path="/gone?x=1")
            first, second = server.requests
            assert (first.method, first.path, first.range, first.status, first.sent) == (
                "GET",
                "/data",
                "bytes=1-3",
                206,
                3,
            )
            assert first.headers["authorization"] == "a secret"
            assert (second.target, second.path, second.status, second.fault) == ("/gone?x=1", "/gone", 503, Status(503))
            assert first.came <= second.came <= time.monotonic()
            server.wait_for(lambda requests: [request.end for request in requests] == ["whole", "whole"])
            server.forget()
            assert server.requests == []
            with pytest.raises(TimeoutError):
                server.wait_for(lambda requests: len(requests) > 0, timeout_s=0.01)


class TestEndings:
    @pytest.mark.parametrize("after", [0, 1, 500, 0.25])
    def test_a_reset_comes_after_what_was_sent(self, folder, after):
        with faulty(folder, Reset(after=after)) as server, closing(raw(server)) as connection:
            got, ended = read_to_the_end(connection)
            assert ended is ConnectionResetError
            assert body_of(got) == DATA[: after if isinstance(after, int) else 250]
            server.wait_for(lambda requests: requests[0].end == "reset")

    def test_a_reset_of_what_does_not_fit_into_any_buffer(self, folder):
        (folder / "data").write_bytes(bytes(40 << 20))
        with faulty(folder, Reset(after=30 << 20)) as server, closing(raw(server)) as connection:
            server.wait_for(lambda requests: requests[0].sent > 1 << 20)
            got, ended = read_to_the_end(connection)
            assert ended is ConnectionResetError
            assert len(body_of(got)) == 30 << 20

    def test_a_reset_before_the_reply(self, folder):
        with faulty(folder, Reset(), times=2) as server:
            for _ in range(2):
                with closing(raw(server)) as connection:
                    assert read_to_the_end(connection) == (b"", ConnectionResetError)
            assert ask(server)[2] == DATA
            assert [request.status for request in server.requests] == [0, 0, 200]

    def test_an_early_end(self, folder):
        with faulty(folder, Fin(after=7)) as server:
            with pytest.raises(http.client.IncompleteRead) as caught:
                ask(server)
            assert caught.value.partial == DATA[:7]
            server.use(Rule(fault=Fin()))
            with closing(raw(server)) as connection:
                assert read_to_the_end(connection) == (b"", None)

    @pytest.mark.parametrize(("after", "expected"), [(None, None), (0, b""), (9, DATA[:9])])
    def test_a_stall_lasts_until_the_client_leaves(self, folder, after, expected):
        with faulty(folder, Stall(after=after)) as server:
            with closing(raw(server, timeout=0.1)) as connection:
                got, ended = read_to_the_end(connection)
                assert ended is TimeoutError
                assert got == b"" if expected is None else body_of(got) == expected
                assert server.requests[0].end == ""
            server.wait_for(lambda requests: requests[0].end == "stall")

    @pytest.mark.parametrize("after", [None, 0, 9])
    def test_a_stall_that_ends(self, folder, after):
        with faulty(folder, Stall(after=after, seconds=0.1)) as server:
            began = time.monotonic()
            assert ask(server)[2] == DATA
            assert time.monotonic() - began >= 0.1

    def test_a_drip(self, folder):
        with faulty(folder, Drip(bytes_per_s=50)) as server:
            began = time.monotonic()
            assert ask(server, Range="bytes=0-9")[2] == DATA[:10]
            assert time.monotonic() - began >= 0.15
            with closing(raw(server)) as connection:
                assert len(body_of(connection.recv(65536) + connection.recv(65536))) < 20


class TestReplies:
    def test_a_status_and_when_to_come_again(self, folder):
        with FaultServer(
            folder,
            Rule(fault=Status(429, retry_after=3), times=1),
            Rule(fault=Status(503, retry_after=3, as_date=True, body=b"<Busy/>"), times=1),
            Rule(fault=Status(500), times=1),
        ) as server:
            status, headers, body = ask(server)
            assert (status, headers["retry-after"], body) == (429, "3", b"")
            status, headers, body = ask(server)
            assert (status, body) == (503, b"<Busy/>")
            assert 2 < parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time() < 5
            status, headers, _ = ask(server)
            assert (status, headers.get("retry-after")) == (500, None)
            assert ask(server)[0] == 200

    def test_wrong_lengths(self, folder):
        with faulty(folder, TooShort(length=0.3)) as server:
            status, headers, body = ask(server, Range="bytes=100-199")
            assert (status, headers["content-length"], body) == (206, "30", DATA[100:130])
            assert headers["content-range"] == "bytes 100-199/1000"
            server.use(Rule(fault=TooLong(extra=5)))
            with pytest.raises(http.client.IncompleteRead) as caught:
                ask(server)
            assert (caught.value.partial, caught.value.expected) == (DATA, 5)

    def test_no_length(self, folder):
        with faulty(folder, NoLength()) as server, closing(raw(server)) as connection:
            got, ended = read_to_the_end(connection)
            assert (body_of(got), ended) == (DATA, None)
            assert b"content-length" not in got.lower()
            assert b"chunked" not in got.lower()
            server.use(Rule(fault=Chunked()))
            _, headers, body = ask(server)
            assert (headers.get("content-length"), headers["transfer-encoding"], body) == (None, "chunked", DATA)

    def test_compressed(self, folder):
        with faulty(folder, Gzip()) as server:
            _, headers, body = ask(server)
            assert (headers["content-encoding"], gzip.decompress(body)) == ("gzip", DATA)
            server.use(Rule(fault=Gzip(honest=False)))
            _, headers, body = ask(server)
            assert (headers["content-encoding"], body) == ("gzip", DATA)

    def test_wrong_ranges(self, folder):
        with faulty(folder, IgnoreRange()) as server:
            status, headers, body = ask(server, Range="bytes=5-9")
            assert (status, headers.get("content-range"), body) == (200, None, DATA)
            server.use(Rule(fault=WrongContentRange(shift=2)))
            status, headers, body = ask(server, Range="bytes=5-9")
            assert (status, headers["content-range"], body) == (206, "bytes 7-11/1000", DATA[5:10])
            server.use(Rule(fault=OtherRange(shift=2)))
            status, headers, body = ask(server, Range="bytes=5-9")
            assert (status, headers["content-range"], body) == (206, "bytes 7-11/1000", DATA[7:12])
            assert ask(server)[2] == DATA

    def test_tags(self, folder):
        with FaultServer(folder) as server:
            tag = ask(server)[1]["etag"]
            server.use(Rule(fault=ETagFlips()))
            first, second = (ask(server)[1]["etag"] for _ in range(2))
            assert len({tag, first, second}) == 3
            assert ask(server, If_Match=first)[0] == 412
            server.use(Rule(fault=NoETag()))
            assert "etag" not in ask(server)[1]
            server.use(Rule(fault=WeakETag()))
            assert ask(server)[1]["etag"] == f"W/{tag}"

    def test_one_bit(self, folder):
        with faulty(folder, Corrupt(at=3)) as server:
            body = ask(server)[2]
            assert body[3] ^ DATA[3] == 1
            assert body[:3] + body[4:] == DATA[:3] + DATA[4:]

    def test_redirects(self, folder):
        with faulty(folder, Redirect("{target}", code=307)) as server:
            status, headers, _ = ask(server, path="/data?x=1")
            assert (status, headers["location"]) == (307, "/data?x=1")
            server.use(Rule(fault=Redirect("file:///etc/passwd")))
            assert ask(server)[1]["location"] == "file:///etc/passwd"


class TestRules:
    def test_the_first_that_fits(self, folder):
        with FaultServer(
            folder,
            Rule(fault=Status(500), path="/a*"),
            Rule(fault=Status(501), methods=("HEAD",)),
            Rule(fault=Status(502), when=lambda request: request.range == "bytes=0-1"),
            Rule(fault=Status(503), skip=1, times=2),
            Rule(fault=Status(504), skip=4),
        ) as server:
            assert ask(server, path="/a%20b")[0] == 500
            assert ask(server, method="HEAD")[0] == 501
            assert ask(server, Range="bytes=0-1")[0] == 502
            assert [ask(server)[0] for _ in range(8)] == [200, 503, 503, 200, 200, 200, 504, 504]

    def test_chance_is_the_same_in_any_order(self, folder):
        faults = [(0.2, Status(503)), (0.2, lambda random: Status(500, retry_after=random.randrange(100)))]
        ranges = [f"bytes={first}-{first}" for first in range(40)] * 3
        found = []
        for seed, num_threads in ((1, 1), (1, 4), (2, 1)):
            with FaultServer(folder, Mix(faults, seed=seed)) as server, ThreadPoolExecutor(num_threads) as pool:
                list(pool.map(lambda asked, server=server: ask(server, Range=asked), ranges))
                found.append(sorted((request.range, str(request.fault)) for request in server.requests))
        assert found[0] == found[1] != found[2]
        kinds = [fault[:12] for _, fault in found[0]]
        assert 10 < kinds.count("Status(code=") < 80
        assert len(set(found[0])) > 60

    def test_what_goes_wrong_in_the_server_is_not_lost(self, folder):
        def choose(request):
            raise LookupError(request.path)

        def fails():
            with FaultServer(folder, choose) as server, pytest.raises(http.client.RemoteDisconnected):
                ask(server)

        with pytest.raises(RuntimeError, match="itself has failed") as caught:
            fails()
        assert isinstance(caught.value.__cause__, LookupError)


class TestServer:
    def test_many_at_once_are_late_together(self, folder):
        with FaultServer(folder, latency=0.2) as server, ThreadPoolExecutor(100) as pool:
            began = time.monotonic()
            assert [reply[2] for reply in pool.map(lambda _: ask(server), range(300))] == [DATA] * 300
            # One after another, they would take a minute.
            assert 0.6 <= time.monotonic() - began < 30

    def test_it_stops_whatever_goes_on(self, folder):
        before = threading.active_count()
        with faulty(folder, Stall(after=5)) as server:
            connections = [raw(server) for _ in range(20)]
            server.wait_for(lambda requests: [request.sent for request in requests] == [5] * 20)
        assert threading.active_count() == before
        for connection in connections:
            with closing(connection):
                assert len(body_of(read_to_the_end(connection)[0])) == 5

    def test_as_a_program(self, folder):
        command = [sys.executable, "-m", "servers.fault", "--folder", folder, "--rate", "1e9", "--error", "1"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            said = json.loads(process.stdout.readline())
            with closing(http.client.HTTPConnection("127.0.0.1", said["port"], timeout=10)) as connection:
                connection.request("GET", "/data")
                assert connection.getresponse().status == 503
            process.send_signal(signal.SIGTERM)
            assert json.loads(process.stdout.readline()) == {"num_requests": 1, "sent_bytes": 0}
            assert process.wait(10) == 0

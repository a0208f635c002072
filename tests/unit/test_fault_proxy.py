"""The fault server as a proxy: what the other server gets, and what it says, are passed on unchanged."""

import contextlib
import hashlib
import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from servers.fault import FaultServer, Rule
from servers.modes import Fin, Reset, Stall, Status, TooShort

LARGE = bytes(range(256)) * (5 << 12)


class Handler(BaseHTTPRequestHandler):
    """Says in the reply's body what was in the request."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def read_body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while length := int(self.rfile.readline(), 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self):
        self.server.connections.add(self.client_address)
        if self.path == "/refused":
            # Before the body was read; then it waits for the client to close, as servers do who want to be heard.
            self.close_connection = True
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.end_headers()
            self.connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while self.connection.recv(1 << 20):
                    pass
            return
        body = self.read_body()
        self.server.asked.append((self.command, self.path))
        said = LARGE
        if self.path != "/large":
            digest = hashlib.sha256(body).hexdigest()
            said = json.dumps([self.command, self.path, self.headers["Host"], digest]).encode()
        self.send_response(200)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(said), said))
        elif self.path == "/closed":
            self.end_headers()
            self.wfile.write(said)
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(said)
            self.close_connection = self.close_connection or self.path == "/then-closes"

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer


@pytest.fixture
def upstream():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked, server.connections = [], set()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(upstream):
    with FaultServer(f"127.0.0.1:{upstream.server_port}") as server:
        yield server


def ask(server, method="GET", path="/", body=None, **headers):
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        connection.request(method, path, body, headers, encode_chunked="Transfer-Encoding" in headers)
        reply = connection.getresponse()
        return reply.status, reply.read()


def digest(data):
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "POST"])
@pytest.mark.parametrize("path", ["/a%2Fb?x=%20&y", "/chunked", "/closed"])
def test_all_is_passed_on(proxy, method, path):
    body = LARGE if method in ("PUT", "POST") else b""
    status, said = ask(proxy, method, path, body or None, Host="bucket.example:81")
    assert (status, json.loads(said)) == (200, [method, path, "bucket.example:81", digest(body)])


def test_a_body_in_chunks_and_no_body(proxy):
    pieces = (LARGE[:100_000], LARGE[100_000:])
    status, said = ask(proxy, "PUT", "/", iter(pieces), **{"Transfer-Encoding": "chunked"})
    assert (status, json.loads(said)[3]) == (200, digest(LARGE))
    assert ask(proxy, "HEAD", "/large") == (200, b"")
    assert proxy.requests[-1].sent == 0


def test_many_large_replies_at_once(proxy, upstream):
    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(lambda _: ask(proxy, path="/large") == (200, LARGE), range(60))) == [True] * 60
    proxy.wait_for(lambda requests: all(request.end == "whole" for request in requests))
    # Connections to the upstream are used again.
    assert len(upstream.connections) <= 20


def test_a_refusal_before_the_body_was_read(proxy):
    assert ask(proxy, "PUT", "/refused", LARGE * 4) == (403, b"")


def test_an_upstream_that_closes_idle_connections(proxy):
    assert [ask(proxy, path="/then-closes")[0] for _ in range(20)] == [200] * 20


def test_no_upstream():
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        port = closed.getsockname()[1]
    with FaultServer(f"127.0.0.1:{port}") as server:
        assert ask(server)[0] == 502


def test_faults_before_and_after_the_request_is_carried_out(proxy, upstream):
    proxy.use(
        Rule(fault=Reset(), times=1), Rule(fault=Fin(carried_out=True), times=1), Rule(fault=Status(503), times=1)
    )
    for path in ("/reset", "/carried-out"):
        with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
            ask(proxy, "PUT", path, LARGE)
    assert ask(proxy, "PUT", "/busy", LARGE) == (503, b"")
    assert ask(proxy, "PUT", "/done", LARGE)[0] == 200
    assert upstream.asked == [("PUT", "/carried-out"), ("PUT", "/done")]


def test_what_is_cut_short(proxy):
    proxy.use(Rule(fault=TooShort(length=1_000_000), times=1), Rule(fault=Stall(after=0.5, seconds=0.05)))
    assert ask(proxy, path="/large") == (200, LARGE[:1_000_000])
    assert ask(proxy, path="/large") == (200, LARGE)


def test_a_client_that_leaves(proxy, upstream):
    connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
    with closing(connection):
        connection.sendall(b"PUT /half HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\nhalf")
        proxy.wait_for(lambda requests: len(requests) == 1)
    proxy.wait_for(lambda requests: requests[0].end == "left")
    assert ask(proxy)[0] == 200


def test_latency_is_for_each_request(proxy):
    proxy.latency = 0.05
    began = time.monotonic()
    for _ in range(2):
        assert ask(proxy)[0] == 200
    assert time.monotonic() - began >= 0.1

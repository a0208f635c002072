"""The proxy that the comparison of loading from a bucket is measured through: late by what it says, else unnoticed."""

import http.client
import http.server
import os
import threading
import time

import pytest
from benchmarks.cloud_servers import Proxy

CONTENT = os.urandom(5_000_000)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(CONTENT)

    def do_PUT(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def port():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def asked(connection, method="GET", body=None):
    connection.request(method, "/x", body)
    return connection.getresponse()


def test_replies_come_whole_and_requests_are_counted_one_by_one(port):
    with Proxy(port, 0.0) as proxy:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
        assert asked(connection).read() == CONTENT
        sent = b"GET / HTTP/1.1\r\n\r\n" * 100_000
        assert asked(connection, "PUT", sent).read() == sent
        assert asked(connection).read() == CONTENT
        passed = proxy.passed()
        assert passed["requests"] == 3
        bodies = 2 * len(CONTENT) + len(sent)
        assert bodies < passed["reply_bytes"] < bodies + 1000
        assert proxy.passed() == {"requests": 0, "reply_bytes": 0}
        connection.close()


def test_a_client_that_reads_late_gets_everything(port):
    with Proxy(port, 0.0) as proxy:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
        reply = asked(connection)
        time.sleep(0.3)
        first = reply.read(1_000_000)
        time.sleep(0.3)
        assert first + reply.read() == CONTENT
        connection.close()


def test_requests_are_late_all_at_once(port):
    with Proxy(port, 0.5) as proxy:
        connections = [http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60) for _ in range(16)]
        found = []
        threads = [threading.Thread(target=lambda c=c: found.append(asked(c).read())) for c in connections]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - start
        assert found == [CONTENT] * 16
        assert 0.5 <= took < 16 * 0.5
        for connection in connections:
            connection.close()


def test_an_upstream_that_is_gone_closes_the_connection():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        gone = server.server_port
    with Proxy(gone, 0.0) as proxy:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            asked(connection)
        connection.close()

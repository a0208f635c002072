"""Redirects of object stores: nothing secret comes to another server, and the failure says what it is."""

import base64
import hashlib
import hmac
import logging
import os
import random
import shutil
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from pictures import make_dataset
from remote import batches_of, same_batches, served
from servers import modes
from servers.fault import FaultServer, Rule

import shardkit
from shardkit.errors import StorageError
from shardkit.storage import StoreOptions, open_store

MARKER = "TR0UB4DOR"
SECRETS = {
    "session token": ("s3", {"access_key_id": "a", "secret_access_key": MARKER, "session_token": MARKER}),
    "encryption key": (
        "s3",
        {
            "access_key_id": "a",
            "secret_access_key": MARKER,
            "aws_sse_customer_key_base64": base64.b64encode(MARKER.encode().ljust(32)).decode(),
            "aws_server_side_encryption": "sse-c",
        },
    ),
    "secret key": ("s3", {"access_key_id": "a", "secret_access_key": MARKER}),
    "sas token": ("az", {"account_name": "a", "sas_token": f"sv=2020&sig={MARKER}"}),
    "account key": ("az", {"account_name": "a", "account_key": base64.b64encode(MARKER.encode()).decode()}),
}
# The encoded forms too.
TRACES = (MARKER, base64.b64encode(MARKER.encode()).decode()[:-3])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("redirects"), 60, shard_samples=10)


def options_for(scheme, options, endpoint):
    common = {"endpoint": endpoint, "allow_http": "true", **options}
    return {**common, "region": "us-east-1"} if scheme == "s3" else common


def came_to(server):
    return [
        text
        for request in server.requests
        for text in (request.target, *request.headers.values())
        if any(trace in text for trace in TRACES)
    ]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_secret_comes_to_another_server(dataset, tmp_path, secret, host):
    scheme, options = SECRETS[secret]
    with served(tmp_path) as other, served(dataset) as server:
        settings = options_for(scheme, options, server.url.rstrip("/"))
        messages = []
        elsewhere = f"http://{host}:{other.port}{{target}}"
        for code in (301, 302, 303, 307, 308):
            server.use(Rule(fault=modes.Redirect(elsewhere, code)))
            # Another try only where the machine is too busy to answer: a redirect to elsewhere fails for good.
            store = open_store(f"{scheme}://bucket/data", StoreOptions(storage_options=settings, retries=2))
            for use in (
                lambda store=store: store.read("x"),
                lambda store=store: store.read_range("x", 0, 5),
                lambda store=store: store.size("x"),
                lambda store=store: list(store.names()),
                lambda store=store: store.delete("x"),
                lambda store=store: store.write("x").__exit__(None, None, None),
            ):
                try:
                    use()
                except StorageError as exc:
                    messages.append(str(exc))
                else:
                    messages.append("nothing")
                assert not any(trace in messages[-1] for trace in TRACES)
            store.close()
        assert len(server.requests) >= 25
        assert came_to(other) == []
        # Where nothing secret would travel, a server of the same host may be asked; it is told nothing.
        if secret not in {"secret key", "account key"} or host == "localhost":
            assert not other.requests
            assert all("leads" in message for message in messages), messages


def test_a_server_that_leads_within_itself_is_followed(dataset):
    scheme, options = SECRETS["session token"]
    shutil.copytree(dataset, dataset.parent / "bucket" / "data", dirs_exist_ok=True)
    with served(dataset.parent) as server:
        server.use(
            Rule(
                fault=modes.Redirect(server.url.rstrip("/") + "{target}?again=1"),
                when=lambda r: "again" not in r.target,
            )
        )
        settings = options_for(scheme, options, server.url.rstrip("/"))
        found = batches_of("s3://bucket/data", storage_options=settings)
        assert any("again" in request.target for request in server.requests)
    assert same_batches(found, batches_of(dataset))


def sas_of(server):
    """A token for everything in the account, signed as Azure's documentation says ("Create an account SAS")."""
    settings = server.storage_options
    until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {"sp": "rwdlac", "ss": "b", "srt": "sco", "st": "", "se": until, "sip": "", "spr": "https,http"}
    version = "2018-11-09"
    said = "\n".join([settings["account_name"], *fields.values(), version, ""])
    key = base64.b64decode(settings["account_key"])
    signature = base64.b64encode(hmac.new(key, said.encode(), hashlib.sha256).digest()).decode()
    return urlencode({name: value for name, value in fields.items() if value} | {"sv": version, "sig": signature})


def test_a_token_works_through_the_relay(dataset, azurite, caplog):
    caplog.set_level(logging.DEBUG)
    key = azurite.storage_options
    token = {**{name: value for name, value in key.items() if name != "account_key"}, "sas_token": sas_of(azurite)}
    shardkit.pack(dataset.parent / "pictures", "az://shardkit/sas", shard_samples=10, workers=1, storage_options=key)
    found = batches_of("az://shardkit/sas", storage_options=token)
    assert same_batches(found, batches_of(dataset))
    # Uploads in parts, too.
    store = open_store("az://shardkit/large", StoreOptions(storage_options=token, retries=1))
    data = random.Random(5).randbytes(20_000_000)
    with store.write("x") as writer:
        for start in range(0, len(data), 1 << 20):
            writer.write(data[start : start + (1 << 20)])
    assert store.size("x") == len(data)
    assert store.read("x") == data
    assert list(store.names()) == ["x"]
    assert "sig=" not in caplog.text


def test_a_relayed_server_that_fails_is_tried_again(dataset):
    scheme, options = SECRETS["session token"]
    shutil.copytree(dataset, dataset.parent / "bucket" / "data", dirs_exist_ok=True)
    faults = [Rule(fault=fault, path="*.tar", skip=n, times=1) for n, fault in enumerate(
        [modes.Reset(), modes.Status(503), modes.Reset()]
    )]  # fmt: skip
    with FaultServer(dataset.parent, *faults) as server:
        settings = options_for(scheme, options, server.url.rstrip("/"))
        found = batches_of("s3://bucket/data", storage_options=settings)
    assert same_batches(found, batches_of(dataset))


def test_stores_of_one_server_share_a_relay_and_its_proxy(dataset, monkeypatch):
    scheme, options = SECRETS["session token"]
    with served(dataset.parent) as server:
        shutil.copytree(dataset, dataset.parent / "bucket" / "data", dirs_exist_ok=True)
        settings = options_for(scheme, options, server.url.rstrip("/"))
        before = len(os.listdir("/proc/self/fd"))
        stores = [open_store("s3://bucket/data", StoreOptions(storage_options=settings, retries=0)) for _ in range(60)]
        assert all(store.size("manifest.json") for store in stores)
        # Both ends of connections of the stores that may be idle, and those to the server.
        assert len(os.listdir("/proc/self/fd")) < before + 160
        for store in stores:
            store.close()
        monkeypatch.setenv("http_proxy", server.url)
        elsewhere = options_for(scheme, options, "http://nowhere.invalid:9000")
        assert open_store("s3://bucket/x", StoreOptions(storage_options=elsewhere, retries=0)).size("y") is None
        assert any(request.target.startswith("http://nowhere.invalid:9000/") for request in server.requests)

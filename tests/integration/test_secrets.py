"""Secrets are nowhere to be seen, servers are not trusted, and nothing is asked of anybody but the one named."""

import base64
import io
import json
import logging
import os
import pickle
import re
import shutil
import subprocess
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
from pictures import make_dataset
from remote import batches_of, same_batches, served
from servers import modes
from servers.fault import FaultServer, Rule

import shardkit
from shardkit.errors import ConfigError, ManifestError, ShardkitError, StorageError
from shardkit.manifest import Manifest, open_dataset
from shardkit.manifest.shards import ShardTable
from shardkit.storage import Place, StoreOptions, open_store

MARKER = "q7Zgeheim9x"
SOURCE = Path(shardkit.__file__).parent


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """100 pictures in 4 shards."""
    return make_dataset(tmp_path_factory.mktemp("secrets"), 100)


def all_that_is_said(error):
    """What anybody would get to see of an error: text, repr, traceback, attributes, chained errors, what is pickled."""
    seen = ["".join(traceback.format_exception(error)), pickle.dumps(error).decode("latin1")]
    left = [error]
    while left:
        # Those whose place in the traceback is suppressed too: other tools show them.
        one = left.pop()
        seen += [str(one), repr(one), repr(vars(one)), repr(one.args)]
        left += [other for other in (one.__cause__, one.__context__) if other is not None]
    return "\n".join(seen)


PASSWORDS = [
    MARKER,
    f"a'{MARKER}",
    f'a"b {MARKER}',
    f"a/{MARKER}",
    f"a@{MARKER}",
    f"a:{MARKER}",
    f"<a>{MARKER}",
    f"[{MARKER}",
]
KEYS = {"access_key_id": "a", "secret_access_key": "b"}


@pytest.mark.parametrize("password", PASSWORDS)
def test_no_error_about_a_url_shows_its_password(dataset, tmp_path, password):
    there = f"user:{password}@127.0.0.1:1"
    quick = {"retries": 0, "timeout": 1}
    calls = [
        lambda: shardkit.pack(f"https://{there}/x", tmp_path / "out"),
        lambda: shardkit.pack(f"file://{there}/x", tmp_path / "out"),
        lambda: shardkit.pack(tmp_path, f"https://{there}/x"),
        lambda: shardkit.unpack(dataset, f"https://{there}/x"),
        lambda: shardkit.unpack(dataset, Path(f"https://{there}/x")),
        lambda: shardkit.verify(f"https:/{there}/x", **quick),
        lambda: shardkit.verify(f"https://{there}/x", **quick),
        lambda: shardkit.Loader(f"https://{there}/x/[", **quick),
        lambda: shardkit.Loader(f"https://{there}:1:1/x", **quick),
        lambda: shardkit.Loader(f"file://{there}/x"),
        lambda: shardkit.Loader("s3://b/x", storage_options={**KEYS, "endpoint": there}),
        lambda: shardkit.Loader("s3://b/x", storage_options={**KEYS, "proxy_url": there}, **quick),
        lambda: shardkit.Loader("s3://b/x", storage_options={**KEYS, "proxy_url": f"http://{there}"}, **quick),
    ]
    for number, call in enumerate(calls):
        with pytest.raises(ShardkitError) as caught:
            call()
        assert MARKER not in all_that_is_said(caught.value), number


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("scheme", ["", "http://", "foo://", "http:/"])
def test_no_error_about_a_proxy_shows_its_password(monkeypatch, password, scheme):
    monkeypatch.setenv("http_proxy", f"{scheme}user:{password}@127.0.0.1:1")
    with pytest.raises(ShardkitError) as caught:
        shardkit.Loader("http://192.0.2.1/x", retries=0, timeout=1)
    assert MARKER not in all_that_is_said(caught.value)


FAULTS = [
    *(modes.Status(code, body=MARKER.encode()) for code in (400, 401, 403, 404, 500)),
    modes.Reset(after=0.5),
    modes.Stall(),
    modes.TooShort(),
    modes.IgnoreRange(),
    modes.WrongContentRange(),
    modes.Gzip(),
    modes.Redirect("{target}"),
    modes.Redirect(f"https://{MARKER}:{MARKER}@127.0.0.1:1/x?sig={MARKER}"),
    modes.Redirect(f"file:///etc/{MARKER}@x?token={MARKER}"),
]


@pytest.mark.parametrize("path", ["/manifest.json", "/shards.parquet", "/*.tar"])
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_no_error_of_a_web_server_shows_a_secret(dataset, fault, path):
    if isinstance(fault, modes.Redirect) and "file:" in fault.location:
        fault = modes.Redirect(f"file://{MARKER}@host/x?token={MARKER}")
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.DEBUG)
    try:
        with served(dataset, Rule(fault=fault, path=path)) as server:
            url = server.url.replace("//", f"//{MARKER}:{MARKER}@") + f"?sig={MARKER}&X-Amz-Signature={MARKER}"
            options = {"storage_options": {"Authorization": f"Bearer {MARKER}", "X-Custom": MARKER}}
            try:
                batches_of(url, retries=1, timeout=0.3, **options)
            except ShardkitError as error:
                assert MARKER not in all_that_is_said(error)
            else:
                assert isinstance(fault, modes.IgnoreRange | modes.WrongContentRange)
                assert path != "/*.tar"
    finally:
        logging.getLogger().removeHandler(handler)
        logging.getLogger().setLevel(logging.WARNING)
    assert MARKER not in log.getvalue()


@pytest.mark.parametrize("name", ["seaweedfs", "azurite", "azurite-sas", "gcs"])
@pytest.mark.parametrize("fault", [None, *FAULTS[:7]], ids=str)
def test_no_error_of_an_object_store_shows_a_secret(dataset, fault, name, request):
    name, _, sas = name.partition("-")
    server = request.getfixturevalue(name)
    secret = {"seaweedfs": "secret_access_key", "azurite": "account_key", "gcs": "service_account_key"}[name]
    with FaultServer(f"127.0.0.1:{server.port}", *([Rule(fault=fault)] if fault else [])) as proxy:
        options = dict(server.through(proxy.port).storage_options)
        secrets = [options.get(secret, MARKER)]
        if sas:
            del options[secret]
            options["sas_token"] = f"sv=2021-08-06&ss=b&srt=co&sp=rl&sig={MARKER}%3D"
        if name == "seaweedfs" and fault is None:
            secrets = [options.setdefault("session_token", MARKER)]
            options[secret] = MARKER
        with pytest.raises(ShardkitError) as caught:
            batches_of(f"{server.url}/none", retries=1, timeout=0.3, storage_options=options)
        said = all_that_is_said(caught.value)
        assert not [text for text in (*secrets, MARKER) if text in said]


def test_what_is_shown_of_a_loader_and_what_it_saves(dataset):
    with served(dataset) as server:
        url = server.url.replace("//", f"//me:{MARKER}@") + f"?sig={MARKER}"
        options = StoreOptions(storage_options={"Authorization": MARKER})
        loader = shardkit.Loader(url, batch_size=8, image_size=(16, 16), storage_options=options.storage_options)
        next(iter(loader))
        place = Place(url, options)
        shown = [loader, loader.url, loader.state(), loader.stats(), loader.explain(0, 0), options, place]
        shown += [loader.manifest, open_store(url, options).url]
        assert MARKER not in "".join(f"{one!r}{one!s}" for one in shown)
        assert MARKER not in json.dumps(loader.state())
        told = []
        for command in (["info"], ["verify"], ["bench", "--seconds", "0.1", "--batch-size", "8"], ["explain"]):
            line = [sys.executable, "-m", "shardkit.cli", command[0], url, *command[1:]]
            ran = subprocess.run(
                [*line, "--storage-option", f"X-Api-Key={MARKER}"], capture_output=True, text=True, check=True
            )
            told.append(ran.stdout + ran.stderr)
        assert all(told)
        assert MARKER not in "".join(told)


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_what_the_command_line_says_of_errors(tmp_path, debug):
    with served(tmp_path, Rule(fault=modes.Status(500))) as server:
        url = server.url.replace("//", f"//{MARKER}:{MARKER}@") + f"?sig={MARKER}"
        line = [sys.executable, "-m", "shardkit.cli", *debug, "info", url]
        line += ["--storage-option", f"Cookie={MARKER}", "--storage-option", "retries=0"]
        ran = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "status 500" in ran.stderr
    assert MARKER not in ran.stdout + ran.stderr


def test_packing_shows_no_secret(dataset, seaweedfs):
    options = {**seaweedfs.storage_options, "secret_access_key": MARKER}
    with pytest.raises(StorageError, match="access is refused") as caught:
        shardkit.pack(dataset.parent / "pictures", f"{seaweedfs.url}/no", storage_options=options)
    assert MARKER not in all_that_is_said(caught.value)


@pytest.mark.parametrize("url", ["pipe:cat /etc/passwd", "|id", "$(id)", "`id`", "file:/etc", "s3:bucket"])
def test_what_is_no_url_is_a_path_and_nothing_runs(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ManifestError, match="no data set here"):
        shardkit.Loader(url)


@pytest.mark.parametrize("scheme", ["pipe", "ftp", "gopher", "data", "hdfs", "javascript", "sftp", "s3a"])
def test_unknown_schemes_are_refused_by_name(scheme):
    with pytest.raises(ConfigError, match=f"shardkit does not read {scheme}:// URLs"):
        shardkit.Loader(f"{scheme}://host/x")


def test_there_is_no_shell_and_no_pickle_of_what_comes_from_outside():
    found = {
        (path.relative_to(SOURCE).as_posix(), word)
        for path in SOURCE.rglob("*.py")
        for word in re.findall(
            r"shell\s*=\s*True|os\.system|os\.popen|pickle\.loads?\b|\beval\(|\bexec\(|yaml|allow_pickle=True",
            path.read_text(),
        )
    }
    # Between a packer and its own worker processes, over pipes.
    assert found == {("packer/engines/worker.py", "pickle.loads")}


@pytest.mark.parametrize(
    "name",
    ["http://169.254.169.254/x.tar", "file:///etc/passwd.tar", "../x.tar", "/etc/x.tar", "a/b.tar", "s3://other/x.tar"],
)
def test_shards_lie_under_the_manifest_s_own_base(dataset, tmp_path, name):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    whole = open_dataset(copy)
    rows = list(whole.shards)
    object.__setattr__(rows[1], "name", name)
    (copy / "shards.parquet").write_bytes(ShardTable.of(rows).to_parquet())
    with served(copy) as server, pytest.raises(ManifestError, match="is not a shard's name"):
        batches_of(server.url)
    assert {request.path for request in server.requests} == {"/manifest.json", "/shards.parquet"}


@pytest.mark.parametrize(
    "digest", ["/{away}/x.pth", "../../../x.pth", "lock", "", "0" * 31, "0" * 33, "A" * 32, "é" * 16]
)
@pytest.mark.parametrize("column", ["digest", "content"])
def test_a_digest_leads_nowhere(dataset, tmp_path, column, digest):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    rows = list(open_dataset(copy).shards)
    object.__setattr__(rows[1], column, digest.replace("{away}", str(tmp_path)))
    (copy / "shards.parquet").write_bytes(ShardTable.of(rows).to_parquet())
    with served(copy) as server, pytest.raises(ManifestError, match="a digest that is none"):
        batches_of(server.url, cache=tmp_path / "in" / "cache")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]


def test_users_and_passwords_of_netrc_go_nowhere(dataset, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text(f"default login someone password {MARKER}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with served(dataset) as other, served(dataset, Rule(fault=modes.Redirect(other.url + "{target}"))) as server:
        for url in (server.url, server.url.replace("://", "://user:word@")):
            assert len(batches_of(url)) == 12
        asked = [*server.requests, *other.requests]
    said = {request.headers.get("authorization") for request in asked}
    assert said == {None, "Basic " + base64.b64encode(b"user:word").decode()}


def test_a_proxy_of_the_environment_is_asked(dataset, monkeypatch):
    with served(dataset) as server:
        monkeypatch.setenv("http_proxy", server.url)
        with pytest.raises(ManifestError, match="no data set here"):  # of a web server that is no proxy
            batches_of("http://nowhere.invalid/")
        assert "http://nowhere.invalid/manifest.json" in {request.target for request in server.requests}
        server.forget()
        monkeypatch.setenv("no_proxy", "nowhere.invalid")
        with pytest.raises(StorageError, match="nowhere"):
            batches_of("http://nowhere.invalid/", retries=0)
        assert not server.requests


@pytest.mark.parametrize("size", [0, 5, 1 << 61])
def test_a_table_that_lies_about_sizes_is_found_out(dataset, tmp_path, size):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    whole = open_dataset(copy)
    rows = list(whole.shards)
    object.__setattr__(rows[0], "num_bytes", size)
    table = ShardTable.of(rows)
    (copy / "shards.parquet").write_bytes(table.to_parquet())
    split = replace(whole.manifest.splits["train"], num_bytes=sum(row.num_bytes for row in rows))
    (copy / "manifest.json").write_bytes(
        replace(whole.manifest, splits={"train": split}, shards=table.digest()).to_json()
    )
    with served(copy) as server, pytest.raises(ShardkitError, match="outside the shard|instead of|fewer bytes"):
        batches_of(server.url, chunk_size=10, shuffle_buffer=40)


def test_a_manifest_without_end_is_not_read(dataset):
    endless = Rule(fault=modes.TooLong(extra=1 << 40), path="/manifest.json")
    with served(dataset, endless) as server, pytest.raises(StorageError, match="at most 16777216 were expected"):
        batches_of(server.url)


def test_certificates_are_checked(dataset, nginx):
    shutil.copytree(dataset, nginx.root / "data")
    for url in (nginx.tls_url, nginx.tls_url.replace("127.0.0.1", "localhost")):
        with pytest.raises(StorageError, match="(?i)certificate") as caught:
            batches_of(url + "data")
        assert "tried" not in str(caught.value)
    assert not [request for request in nginx.requests() if "data" in request.path]


def test_a_certificate_that_is_trusted_and_no_way_down_to_http(dataset, nginx):
    shutil.copytree(dataset, nginx.root / "data")
    code = (
        "import socket, sys, shardkit\nfrom remote import batches_of\nlook_up = socket.getaddrinfo\n"
        "socket.getaddrinfo = lambda host, *more, **named: look_up('127.0.0.1', *more, **named)\n"
        "for url in sys.argv[1:]:\n"
        "    try:\n        print(len(batches_of(url)))\n    except shardkit.ShardkitError as exc:\n        print(exc)\n"
    )
    env = {**os.environ, "SSL_CERT_FILE": str(nginx.certificate), "PYTHONPATH": os.pathsep.join(sys.path)}
    # The last is the same place by a name that is not in the certificate.
    misnamed = nginx.tls_url.replace("127.0.0.1", "elsewhere.test") + "data"
    urls = [nginx.tls_url + "data", nginx.tls_url + "down/data", misnamed]
    ran = subprocess.run([sys.executable, "-c", code, *urls], env=env, capture_output=True, text=True, check=True)
    right, refused, other = ran.stdout.splitlines()
    assert right == "12"
    assert "the server leads from https to http" in refused
    assert re.search("(?i)certificate.*elsewhere.test", other)


def test_plain_http_for_a_bucket_only_where_it_is_allowed(dataset, seaweedfs):
    options = {name: value for name, value in seaweedfs.storage_options.items() if name != "allow_http"}
    with pytest.raises(StorageError, match="plain http, where anybody may listen"):
        batches_of(f"{seaweedfs.url}/x", storage_options=options)


def test_an_option_that_there_is_not(seaweedfs):
    with pytest.raises(ConfigError, match="storage option") as caught:
        batches_of(f"{seaweedfs.url}/x", storage_options={**seaweedfs.storage_options, "no_such_option": MARKER})
    assert MARKER not in all_that_is_said(caught.value)


def test_a_digest_is_no_secret_and_a_manifest_round_trips(dataset):
    manifest = Manifest.from_json((dataset / "manifest.json").read_bytes())
    with served(dataset) as server:
        assert shardkit.read_manifest(server.url) == manifest
        assert same_batches(batches_of(server.url), batches_of(dataset))


@pytest.mark.parametrize(
    "wrong",
    [
        ["info", "data", f"https://user:{MARKER}@127.0.0.1:1/x"],
        ["verify", "data", "--storage-option", "secret_access_key", MARKER],
        ["info", f"https:user:{MARKER}@h/x"],
        ["info", f"user:a'{MARKER}@h/x"],
        ["pack", f"ftp:/user:a'{MARKER}@h/x", "shards"],
        ["unpack", "data", f"ftp://u:a'{MARKER}@h/x"],
    ],
)
def test_a_wrong_call_shows_no_password(wrong, tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "shardkit.cli", *wrong], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode in (1, 2)
    assert MARKER not in run.stdout + run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [f"ftp://user:a'{MARKER}@h/x", f's3:user:a"b {MARKER}@h', f"user:a'{MARKER}@h/x", f"http:\\\\user:{MARKER}@h"],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_what_is_like_a_url_with_a_password_is_refused(url, kind):
    with pytest.raises(ShardkitError) as raised:
        shardkit.Loader(kind(url))
    assert MARKER not in all_that_is_said(raised.value)

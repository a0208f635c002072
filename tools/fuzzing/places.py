"""URLs, storage options, and the other texts that users and their scripts give: without any network."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, Any, cast

from fuzzing.mutate import changed_bytes, changed_json, odd_text
from shardkit.cli.places import store_options, urls_of
from shardkit.errors import ShardkitError
from shardkit.packer.options import parse_split
from shardkit.redact import redacted, redacted_value
from shardkit.storage import StoreOptions, check_local, open_store
from shardkit.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

__all__ = ["PlaceTarget"]

_SECRET = "Xq7-marker"
_URLS = (
    *("data/shards", "/tmp/data", "file:///data/x%20y", "http://example.org/data", "https://example.org:8443/d?v=1"),
    *(f"https://user:{_SECRET}@example.org/a/b", f"http://example.org/data?sig={_SECRET}&x=1", "http://[::1]:80/x"),
    *("s3://bucket/prefix", "gs://bucket/a/b", "az://container/x", "s3://bucket/part-{000..012}", "{a,b}/{1..3}"),
)
_CLOUD = ("s3://", "gs://", "az://")
_OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"Authorization": f"Bearer {_SECRET}"},
    {"access_key_id": "AKIA0", "secret_access_key": _SECRET, "region": "us-east-1", "endpoint": "https://127.0.0.1:9"},
    {"endpoint": "http://127.0.0.1:9", "allow_http": True, "skip_signature": "true"},
    {"account_name": "one", "account_key": "a2V5"},
    {"sas_key": f"sv=2020&sig={_SECRET}"},
)
_NAMES = (
    *("proxy_url", "endpoint", "endpoint_url", "region", "token", "timeout", "use_emulator", "virtual_hosted_style"),
    *("account_key", "service_account_key", "checksum_algorithm", "copy_if_not_exists", "conditional_put", "retries"),
)
_ODD_URLS = (
    *("http://[::1", "s3://", "s3:///x", "http://", "http:///x", "https:/x", "az://a@b", "gs://b?x", "file://host/x"),
    *("http://a:99999/", "http://a:x/", "http://\u2100/", "s3://b//x", "x://y", "http://a\nb/", "s3://../..", "://"),
    *("http://example.org/%zz", "s3://b/%00", "http://u:p@", "HTTP://EXAMPLE.ORG/", "s3://b/{0..99999999999}", "{{}}"),
    *("{0..9}" * 5, "a" * 9000 + "{0..9999}", "file://" + "/x" * 9000, "s3://b/" + "x" * 9000, "http://" + "a." * 900),
)
_ODD_QUICK_URLS = tuple(url for url in _ODD_URLS if not url.startswith(_CLOUD))


class PlaceTarget:
    """`open_store` and what else is parsed of a text: braces, sizes, fractions, options of commands; and `redacted`.

    An input is a JSON document with a URL and storage options; what is none is a URL itself.
    """

    def __init__(self) -> None:
        self._documents: list[dict[str, Any]] = [
            {"url": url, "options": options, "retries": 8, "timeout": 30.0}
            for url in _URLS
            for options in _OPTIONS
            if _fit(url, options)
        ]
        self._quick = [document for document in self._documents if not document["url"].startswith(_CLOUD)]
        self.seeds = [json.dumps(document).encode() for document in self._documents]

    def mutant(self, rng: Random) -> bytes:
        """A changed URL or changed options."""
        # A client of object storage takes a hundred times as long to make as all else.
        document = dict(rng.choice(self._documents if rng.random() < 0.05 else self._quick))
        kind = rng.random()
        if kind < 0.1:
            return changed_bytes(rng, document["url"].encode())
        if kind < 0.25:
            document = changed_json(rng, document)
        elif kind < 0.4:
            document["url"] = rng.choice(_ODD_URLS if rng.random() < 0.2 else _ODD_QUICK_URLS)
        elif kind < 0.75:
            changed = changed_bytes(rng, document["url"].encode())
            document["url"] = changed.decode("utf-8", rng.choice(("replace", "surrogateescape")))
        if kind > 0.6 and isinstance(document, dict):
            name = rng.choice((*_NAMES, odd_text(rng)))
            value = rng.choice((odd_text(rng), "true", "foo://", "http://", "::", f"http://u:{_SECRET}@h:1", True, 5))
            document["options"] = {**rng.choice(_OPTIONS), name: value}
        return json.dumps(document).encode()

    def parse(self, data: bytes) -> None:
        """Parse it all; no secret may be in what is said, nor in what that came of."""
        url, options, limits = _read(data)
        for text in (str(url), *map(str, options.values() if isinstance(options, dict) else ())):
            assert len(redacted(text)) <= 2100, "a text is shown at length"
            redacted_value(text)
        parsers: tuple[Callable[[], object], ...] = (
            lambda: open_store(url, StoreOptions(storage_options=options, **limits)).url,
            lambda: check_local(url, "folder"),
            lambda: urls_of(str(url)),
            lambda: parse_bytes(str(url), setting="size"),
            lambda: parse_split(str(url)),
            lambda: store_options([str(url), *(f"{name}={value}" for name, value in _pairs(options))]),
        )
        refusals = []
        for number, parser in enumerate(parsers):
            try:
                said = str(parser())
            except ShardkitError as error:
                if number == 0:
                    refusals.append(error)
                said = "".join(traceback.format_exception(error)) if number == 0 else ""
            if number == 0 and _is_kept_secret(url, options):
                assert _SECRET not in said, "a secret is shown"
        if refusals:
            raise refusals[0]


def _fit(url: str, options: dict[str, Any]) -> bool:
    """Whether these are options that such a URL takes."""
    scheme = url.partition("://")[0]
    if "Authorization" in options:
        return scheme.startswith("http")
    if "account_name" in options:
        return scheme == "az"
    if "sas_key" in options:
        return False
    return scheme != "az" if not options else scheme == "s3"


def _read(data: bytes) -> tuple[str, Any, dict[str, Any]]:
    text = data.decode("utf-8", "surrogateescape")
    try:
        document = json.loads(text)
        limits = {name: document[name] for name in ("retries", "timeout") if name in document}
        return cast("str", document["url"]), document["options"], limits
    except (ValueError, TypeError, KeyError, RecursionError):
        return text, {}, {}


def _pairs(options: object) -> list[tuple[str, object]]:
    return list(options.items()) if isinstance(options, dict) else []


def _is_kept_secret(url: object, options: object) -> bool:
    """Whether the marker stands where only secrets do, whole."""
    values = [value for value in options.values() if isinstance(value, str)] if isinstance(options, dict) else []
    return isinstance(url, str) and _SECRET not in url and _SECRET in values

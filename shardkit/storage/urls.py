"""From a URL to the store behind it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict
from urllib.parse import unquote, urlsplit

from shardkit.errors import ConfigError
from shardkit.redact import redacted_value
from shardkit.storage.attempts import RetryPolicy
from shardkit.storage.local import LocalStore

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from shardkit.storage.base import Store
    from shardkit.storage.client import Client

__all__ = ["Place", "StoreKeywords", "StoreOptions", "check_local", "open_store"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# A user and a password in front of a host, as no path begins with.
_WITH_USER = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[/\\]*[^/\\]*@")
# What becomes of a URL that was taken for a path, or mistyped.
_ONE_SLASH = re.compile(r"(s3|gs|az|https?):/", re.IGNORECASE)
_CLOUD = frozenset({"s3", "gs", "az"})
_SERVICE = re.compile(r"^(aws|google|azure_storage|azure)_", re.IGNORECASE)
_NO_SECRETS = frozenset(
    {
        *("allow_http", "endpoint", "endpoint_url", "region", "default_region", "bucket", "bucket_name"),
        *("account_name", "container_name", "use_emulator", "use_ssl", "skip_signature", "unsigned_payload"),
        *("virtual_hosted_style_request", "allow_invalid_certificates", "proxy_excludes"),
    }
)


class StoreKeywords(TypedDict, total=False):
    """The keywords of functions that reach data sets on servers, see `StoreOptions`."""

    storage_options: Mapping[str, str]
    retries: int
    timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """How to reach what is not on this machine.

    Attributes:
        storage_options: For ``s3``, ``gs`` and ``az`` what obstore calls its configuration: ``access_key_id``,
            ``secret_access_key``, ``endpoint``, ``region``, ``account_name`` ..., and ``allow_http``; without
            credentials among them, obstore looks where each service's own tools look. For ``http`` and ``https``:
            headers.
        retries: How many times a request is tried again, at most 1,000.
        timeout: Seconds in which a server must answer.
    """

    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)
    retries: int = 8
    timeout: float = 30.0

    def __post_init__(self) -> None:
        RetryPolicy(retries=self.retries, timeout=self.timeout)
        options = self.storage_options
        if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
            raise ConfigError("storage_options must be a mapping of texts to texts", setting="storage_options")
        for name in {"retries", "timeout"} & options.keys():
            raise ConfigError(
                f"{name} is no storage option", setting="storage_options", advice=f"Give {name}=... beside them"
            )
        texts = dict(map(_as_option, options.items()))
        object.__setattr__(self, "storage_options", texts)

    @property
    def policy(self) -> RetryPolicy:
        """How patient to be."""
        return RetryPolicy(retries=self.retries, timeout=self.timeout)

    @property
    def keywords(self) -> StoreKeywords:
        """The same as keywords."""
        return {"storage_options": self.storage_options, "retries": self.retries, "timeout": self.timeout}

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""
        return tuple(self.storage_options[name] for name in self.secret_names)

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The names of the storage options that may be secrets."""
        return tuple(name for name, value in self.storage_options.items() if not _is_open(name, value))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a data set lies, and how to get there: what other processes need to open it too.

    Attributes:
        url: A path or URL, secrets and all.
        options: How to reach what is not on this machine.
    """

    url: str | os.PathLike[str] = field(repr=False)
    options: StoreOptions = field(default_factory=StoreOptions, repr=False)

    def open(self) -> Store:
        """The store there, see `open_store`."""
        return open_store(self.url, self.options)


def open_store(url: str | os.PathLike[str], options: StoreOptions | None = None) -> Store:
    """The store behind a path or a URL.

    Args:
        url: A path of this machine, or a URL: ``file``, ``http``, ``https``, ``s3``, ``gs`` or ``az``.
        options: How to reach what is not on this machine.

    Returns:
        The store. Nothing is asked for, read or made yet.

    Raises:
        ConfigError: It is no path, or the URL's scheme is not one that shardkit reads, or an option is wrong.
    """
    text = _as_text(url)
    found = _SCHEME.match(text)
    if found is None:
        if (mistyped := _ONE_SLASH.match(text)) is not None:
            raise ConfigError(
                "a URL has two slashes behind its scheme", setting="url", value=text,
                advice=f"Write {mistyped[1]}://",
            )  # fmt: skip
        _refuse_user(text)
        return LocalStore(text)
    scheme = found[1].lower()
    if scheme not in {"file", "http", "https", *_CLOUD}:
        raise ConfigError(
            f"shardkit does not read {scheme}:// URLs", setting="url", value=f"{scheme}://…",
            advice="Give a path, or a file://, http(s)://, s3://, gs:// or az:// URL",
        )  # fmt: skip
    parts = _split(text)
    if parts is None:
        raise ConfigError("not a URL", setting="url", value=text, advice="Percent-encode the characters of a password")
    if scheme == "file":
        return _local(parts, text)
    return _remote(text, parts, options or StoreOptions())


def _refuse_user(text: str, setting: str = "url") -> None:
    """Refuse what begins with a user and a password, which would be shown wherever the path is."""
    if _WITH_USER.match(text):
        raise ConfigError(
            "neither a path nor a URL that shardkit reads, and perhaps one with a password", setting=setting,
            value="…", advice="Write ./ in front of it if it is a path",
        )  # fmt: skip


def _is_open(name: str, value: str) -> bool:
    """Whether everybody may see a storage option."""
    return _SERVICE.sub("", name).lower() in _NO_SECRETS and redacted_value(value) == value


def check_local(path: str | os.PathLike[str], setting: str) -> str:
    """Refuse a URL where only what is on this machine may stand.

    Args:
        path: The path.
        setting: What it is called, for messages.

    Returns:
        The path as text.

    Raises:
        ConfigError: It is one, or what became of one that was taken for a path; or it is no path.
    """
    text = _decoded(path, setting)
    _refuse_user(text, setting)
    if _SCHEME.match(text) or _ONE_SLASH.match(text) or text.lower().startswith("file:/"):
        raise ConfigError(
            f"{setting} is a path of this machine, and no URL", setting=setting, value=text,
            advice="Copy it with your cloud's own tools",
        )  # fmt: skip
    return text


def _split(text: str) -> SplitResult | None:
    """The parts of a URL. What Python says of a wrong one shows its password, so that must not be chained."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _local(parts: SplitResult, text: str) -> LocalStore:
    if parts.netloc not in {"", "localhost"}:
        raise ConfigError("a file:// URL names no host", setting="url", value=text, advice="Write file:///path")
    return LocalStore(_as_text(unquote(parts.path)))


def _remote(text: str, parts: SplitResult, options: StoreOptions) -> Store:
    from shardkit.storage.remote import RemoteStore

    shown = redacted_value(text, options.secrets)
    if not parts.hostname:
        what = "names no bucket" if parts.scheme in _CLOUD else "names no host"
        raise ConfigError(f"the URL {what}", setting="url", value=shown)
    client: Client
    if parts.scheme in _CLOUD:
        from shardkit.storage.cloud import CloudClient

        if parts.query or parts.fragment or parts.username or parts.password:
            raise ConfigError(
                f"a URL of {parts.scheme}:// is a bucket and a path", setting="url", value=shown,
                advice="Give credentials as storage_options or in the environment",
            )  # fmt: skip
        if "//" in parts.path:
            raise ConfigError("the URL has an empty part between two slashes", setting="url", value=shown)
        client = CloudClient(text, options.storage_options, options.policy, options.secrets)
    else:
        from shardkit.storage.http import HttpClient

        secrets = (*options.secrets, *(text for text in (parts.password, parts.query) if text))
        client = HttpClient(text, options.storage_options, options.policy, secrets)
    return RemoteStore(shown, client, options.policy, read_only=parts.scheme not in _CLOUD)


def _as_option(option: tuple[str, object]) -> tuple[str, str]:
    name, value = option
    if isinstance(value, bool):
        return name, str(value).lower()
    if not isinstance(value, str):
        raise ConfigError(f"storage option {name} must be text", setting="storage_options")
    return name, value


def _as_text(url: str | os.PathLike[str]) -> str:
    """A path or URL as text that the system can take."""
    text = _decoded(url, "url")
    if not text or "\0" in text:
        what = "has a zero byte" if text else "is empty"
        raise ConfigError(f"the place of a data set {what}", setting="url", value=text)
    return text


def _decoded(path: str | os.PathLike[str], setting: str) -> str:
    try:
        text = os.fsdecode(path)
        os.fsencode(text)
    except Exception as exc:  # a user's own class of paths may raise anything
        what = "the place of a data set is a path or a URL" if setting == "url" else f"{setting} is a path"
        raise ConfigError(f"{what}: {exc}", setting=setting, value=path) from exc
    return text

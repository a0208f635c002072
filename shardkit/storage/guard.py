"""No redirect takes an object store's secrets to another server.

obstore follows redirects and cannot be told not to. It sends along what it does not know to be secret: S3's session
token and keys of encryption as headers, and a URL with a SAS token as ``Referer``. So its client is given a proxy for
all hosts other than the endpoint's, at an address where nothing listens. A host says nothing of the port, so where such
secrets go to a plain http endpoint, a `Relay` is the proxy for all requests.
"""

from __future__ import annotations

import os
import re
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies

from shardkit.storage.http import proxy_for
from shardkit.storage.portable import VARIABLE_PREFIXES
from shardkit.storage.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

__all__ = ["NOWHERE", "PROXY_OPTION", "Guard", "host_of"]

NOWHERE = "127.0.0.1:1"
"""The address at which nothing listens. Failures name it."""

PROXY_OPTION = re.compile(r"(aws_|azure_|google_)?proxy_url", re.IGNORECASE)
"""The names that the option for a proxy may have."""

_ENDPOINTS = {
    "s3": ("endpoint", "endpoint_url", "aws_endpoint", "aws_endpoint_url"),
    "az": ("endpoint", "azure_endpoint", "azure_storage_endpoint"),
    "gs": (),
}
# The services' own hosts, and those that give credentials. A host stands for those below it too.
_HOSTS = {
    "s3": ("amazonaws.com", "amazonaws.com.cn", "api.aws", "169.254.169.254", "169.254.170.2", "169.254.170.23"),
    "az": (
        *("windows.net", "azure.com", "azure.net", "chinacloudapi.cn", "usgovcloudapi.net", "microsoft.com"),
        *("microsoftonline.com", "microsoftonline.us", "169.254.169.254"),
    ),
    "gs": (),
}
_OTHERS = re.compile(r".*(_url|_uri|_endpoint|authority_host)$", re.IGNORECASE)
_VARIABLES = ("IDENTITY_ENDPOINT", "MSI_ENDPOINT")
_TRAVELS = {
    # Without keys of the user's own, those of a machine or a role come with a token.
    "s3": re.compile(r"token|sse_customer", re.IGNORECASE),
    "az": re.compile(r"sas|shared_access", re.IGNORECASE),
}
_STATIC = {"access_key_id", "aws_access_key_id"}


def _endpoint(scheme: str, options: Mapping[str, str]) -> str | None:
    """The endpoint that options, or else the environment, name; ``None`` where it is the service's own."""
    given = {name.lower(): value for name, value in options.items()}
    for name in _ENDPOINTS[scheme]:
        if given.get(name):
            return given[name]
    variables = (name.upper() for name in _ENDPOINTS[scheme] if "_" in name and not name.startswith("endpoint"))
    return next((os.environ[name] for name in variables if os.environ.get(name)), None)


@dataclass(frozen=True, slots=True)
class Guard:
    """What keeps a client with its endpoint.

    Attributes:
        client_options: For obstore's client.
        relay: What all its requests go through, if that is needed.
    """

    client_options: Mapping[str, str] = field(default_factory=dict)
    relay: Relay | None = None

    @classmethod
    def around(cls, scheme: str, options: Mapping[str, str]) -> Guard:
        """The guard for a store.

        Args:
            scheme: ``s3``, ``gs`` or ``az``. Nothing secret travels from ``gs``, whose only secret obstore knows.
            options: The storage options.
        """
        if scheme not in _TRAVELS:
            return cls()
        endpoint = urlsplit(_endpoint(scheme, options) or "https://")
        if endpoint.scheme == "http" and endpoint.hostname and _secret_travels(scheme, options):
            relay = _relay_to(endpoint, _given_proxy(options) or proxy_for(endpoint.geturl()))
            return cls({"proxy_url": relay.url}, relay)
        if _has_proxy(endpoint.scheme, options):
            # A proxy of the user's own is meant to see where requests go, and there can be only one.
            return cls()
        hosts = {endpoint.hostname or "", *_HOSTS[scheme], *_other_hosts(scheme, options)} - {""}
        return cls({"proxy_url": f"http://{NOWHERE}", "proxy_excludes": ",".join(sorted(hosts))})


_RELAYS: weakref.WeakValueDictionary[tuple[str, str | None], Relay] = weakref.WeakValueDictionary()


def _relay_to(endpoint: SplitResult, proxy: str | None) -> Relay:
    """The relay to a server, one for all stores that have it as their endpoint."""
    key = endpoint.netloc, proxy
    relay = _RELAYS.get(key)
    if relay is None:
        relay = _RELAYS[key] = Relay(endpoint, proxy)
    return relay


def _given_proxy(options: Mapping[str, str]) -> str | None:
    return next((value for name, value in options.items() if PROXY_OPTION.fullmatch(name)), None)


def _secret_travels(scheme: str, options: Mapping[str, str]) -> bool:
    given = {
        name.lower()
        for name in (*options, *os.environ)
        if name in options or name.startswith(VARIABLE_PREFIXES[scheme])
    }
    if any(_TRAVELS[scheme].search(name) for name in given):
        return True
    return scheme == "s3" and not given & _STATIC and not any("skip_signature" in name for name in given)


def _has_proxy(scheme: str, options: Mapping[str, str]) -> bool:
    proxies = getproxies()
    return _given_proxy(options) is not None or bool({scheme, "all"} & proxies.keys())


def _other_hosts(scheme: str, options: Mapping[str, str]) -> set[str]:
    """The hosts of all URLs among options and variables: some of them are asked for credentials."""
    given = dict(options)
    given |= {name: value for name, value in os.environ.items() if name.startswith(VARIABLE_PREFIXES[scheme])}
    urls = [value for name, value in given.items() if _OTHERS.match(name)]
    urls += [os.environ[name] for name in _VARIABLES if name in os.environ]
    return {host for url in urls if (host := host_of(url)) is not None}


def host_of(url: str) -> str | None:
    """The host that a URL names; ``None`` where it names none, or a port that is no number."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname

"""Storage options for another process: never with secrets, which that process's own environment has to supply."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from shardkit.errors import ConfigError
from shardkit.redact import redacted_value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardkit.storage.urls import StoreOptions

__all__ = ["VARIABLE_PREFIXES", "check_environment", "without_secrets"]

VARIABLE_PREFIXES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}
"""How the names of a service's environment variables begin, by the scheme of its URLs."""

_CREDENTIAL = re.compile(r"KEY|TOKEN|SAS|SECRET|CREDENTIAL|PROFILE|ROLE|ACCOUNT|SIGNATURE|CLI|IDENTITY")


def without_secrets(url: str | os.PathLike[str], options: StoreOptions) -> tuple[dict[str, str], tuple[str, ...]]:
    """What of storage options may be written down.

    Args:
        url: The data set that they are for.
        options: The options.

    Returns:
        Those without secrets, and the names of the others.

    Raises:
        ConfigError: The URL itself has a secret, or secrets are headers of a web server, for which no environment
            stands in.
    """
    text = os.fsdecode(url)
    if redacted_value(text) != text:
        raise ConfigError(
            "what has a URL with a password or a signed query cannot be pickled", setting="url", value=text,
            advice="Make it in the process that uses it",
        )  # fmt: skip
    secret = tuple(name for name in options.storage_options if name in options.secret_names)
    if secret and _prefix(text) is None:
        raise ConfigError(
            f"what has headers that may be secret cannot be pickled: {', '.join(secret)}",
            setting="storage_options",
            advice="Make it in the process that uses it",
        )
    return {name: value for name, value in options.storage_options.items() if name not in secret}, secret


def check_environment(url: str | os.PathLike[str], left_out: Iterable[str]) -> None:
    """Refuse to open a data set whose secrets were left out, where the environment has none either.

    Args:
        url: The data set.
        left_out: The names of the options that were left out.

    Raises:
        ConfigError: It is so. Clients would look for credentials in other places, and wait for them.
    """
    prefix = _prefix(os.fsdecode(url))
    if prefix is None or not (missing := tuple(left_out)):
        return
    if not any(name.startswith(prefix) and _CREDENTIAL.search(name) and os.environ[name] for name in os.environ):
        raise ConfigError(
            f"it was pickled without {', '.join(missing)}, and this process has no credentials",
            setting="storage_options",
            advice=f"Give them to it by environment variables, {prefix}...",
        )


def _prefix(url: str) -> str | None:
    """How the names of a service's environment variables begin; ``None`` where it is no cloud's."""
    return VARIABLE_PREFIXES.get(url.partition("://")[0].lower())

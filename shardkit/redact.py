"""Taking secrets out of whatever is shown: messages, logs, reprs, reports, saved states."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["HIDDEN", "redacted"]

HIDDEN = "***"
"""What stands where a secret was."""

# A host never has any of these, so the last "@" before one of them ends a user's name and password.
_USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*:/{2,})[^\s/?#\"'<>]*@")
# All of a query: which of its names are secret differs by service (sig, X-Amz-Signature, Signature, token ...).
_QUERY = re.compile(r"(?P<url>[A-Za-z][A-Za-z0-9+.-]*:/{2,}[^\s?#\"'<>]*)[?#][^\s\"'<>)\]}]+")
_NAMED = re.compile(
    r"(?P<name>\b(?:proxy-)?authorization\b|\bbearer\b|\bsharedkey(?:lite)?\b|\b(?:x-(?:amz|goog|ms)-)?"
    r"(?:signature|security-token|credential|copy-source-authorization)\b"
    r"|\b[\w-]*(?:password|passwd|secret|token|api[_-]?key|access[_-]?key(?:[_-]?id)?|account[_-]?key|private[_-]?key"
    r"(?:[_-]?id)?|sas(?:[_-]?key)?)\b|\bsig\b)"
    r"(?P<sign>[\"']?\s*(?:[=:]\s*|\s)[\"']?)(?P<scheme>(?:basic|bearer|sharedkey|aws4-hmac-sha256)\s+)?"
    r"(?P<value>[^\s\"',;&)\]}]+)",
    re.IGNORECASE,
)
_SPACED = frozenset({"bearer", "sharedkey", "sharedkeylite"})  # names that a blank alone divides from the secret
_SHORTEST = 4  # shorter values would hide parts of ordinary words


def redacted(text: object, secrets: Iterable[str] = ()) -> str:
    """Text as it may be shown.

    Users and passwords in URLs, whole queries of URLs, and what follows the names that credentials usually have are
    hidden, wherever they stand in the text.

    Args:
        text: Anything; its ``str()`` is taken.
        secrets: Values to hide wherever they stand, as they are or percent-encoded.

    Returns:
        The text with `HIDDEN` in their places.
    """
    shown = str(text)
    for secret in secrets:
        for form in {secret, unquote(secret)}:
            if len(form) >= _SHORTEST:
                shown = shown.replace(form, HIDDEN)
    shown = _USER.sub(rf"\g<scheme>{HIDDEN}@", shown)
    shown = _QUERY.sub(rf"\g<url>?{HIDDEN}", shown)
    return _NAMED.sub(_hide_value, shown)


def _hide_value(found: re.Match[str]) -> str:
    name, sign = found["name"], found["sign"]
    if not sign.strip(" \"'") and name.lower() not in _SPACED:
        return found[0]  # "the token is": a word, not a value
    return f"{name}{sign}{HIDDEN}"

"""Taking secrets out of whatever is shown: messages, logs, reprs, reports, saved states."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["HIDDEN", "brief", "printable", "redacted", "redacted_repr", "redacted_value"]

HIDDEN = "***"
"""What stands where a secret was."""

_CUT = " ..."  # at the end of a text that is not shown whole
_MOST_SHOWN = 2000
_MOST_LOOKED_AT = 16_384  # beyond what is shown, so that what ends a secret is seen
_MOST_BRIEF = 100

# All patterns take time that grows with the text, and no faster, whatever it is: where one begins is a fixed character
# or word, and what it then runs over holds no other beginning. So the scheme of a URL is not among what they match.

# A host never has any of these, so the last "@" before one of them ends a user's name and password.
_USER = re.compile(r"(?P<slashes>\w\w:/+)[^\s/?#\"'<>]*@")
_OPEN_USER = re.compile(r"(?P<slashes>\w\w:/+)[^\s/?#\"'<>]+\Z")  # of a text that was cut: its "@" may be gone
# What may be a user, a password and a host without a scheme, as proxies are given.
_WORD = re.compile(r"[^\s\"'<>()\[\],;]+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/+")
_HOST_AND_PORT = re.compile(r"[^:@/]+:[0-9]*/")
_END_OF_PATH = re.compile(r"[\s?#\"'<>]")
# All of a query: which of its names are secret differs by service (sig, X-Amz-Signature, Signature, token ...).
_QUERY = re.compile(r"[?#][^\s\"'<>)\]}]+")
_VALUE = r"(?:(?:basic|bearer|sharedkey|aws4-hmac-sha256)\s+)?[^\s\"',;&)\]}]+"
_NAMED = re.compile(
    r"(?P<name>(?:\b(?:authorization|signature|security-token|credential|copy-source-authorization|sig)"
    r"|password|passwd|secret|token|api[_-]?key|access[_-]?key(?:[_-]?id)?|account[_-]?key|private[_-]?key"
    r"(?:[_-]?id)?|sas(?:[_-]?key)?)\b(?:[\"']?(?:\s*[=:]\s*| *[^\S ]\s*)[\"']?)"
    # Names that a blank alone divides from the secret; after others it is a word: "the token is".
    r"|\b(?:bearer|sharedkey(?:lite)?)\b(?:[\"']?\s*(?:[=:]\s*|\s)[\"']?))" + _VALUE,
    re.IGNORECASE,
)
_SHORTEST = 4  # shorter values would hide parts of ordinary words


def redacted(text: object, secrets: Iterable[str] = (), *, most: int = _MOST_SHOWN) -> str:
    """Text as it may be shown.

    Users and passwords in URLs, whole queries of URLs, and what follows the names that credentials usually have are
    hidden, wherever they stand in the text. A long text is cut, and ends with "..." then.

    Args:
        text: Anything; its ``str()`` is taken.
        secrets: Values to hide wherever they stand, as they are or percent-encoded.
        most: The most characters of it that are shown.

    Returns:
        The text with `HIDDEN` in their places.
    """
    shown = _said(text, str)
    # Before anything is cut: half of a value would not be found.
    for form in sorted({form for secret in secrets for form in (secret, unquote(secret))}, key=len, reverse=True):
        if len(form) >= _SHORTEST:
            shown = shown.replace(form, HIDDEN)
    body = shown.removesuffix(_CUT)
    looked_at = body[: max(_MOST_LOOKED_AT, most)]
    is_cut = len(looked_at) < len(shown)
    if len(looked_at) < len(body):
        looked_at = _OPEN_USER.sub(rf"\g<slashes>{HIDDEN}", looked_at)
    shown = _hide_queries(_USER.sub(rf"\g<slashes>{HIDDEN}@", looked_at))
    shown = _WORD.sub(lambda word: _hide_user(word[0]), shown)
    shown = _NAMED.sub(rf"\g<name>{HIDDEN}", shown)
    return shown[:most] + _CUT if is_cut or len(shown) > most else shown


def redacted_value(text: str, secrets: Iterable[str] = ()) -> str:
    """A text that is one URL, path or other value, as it may be shown.

    What may be a user and a password is hidden whatever its characters are: they may be quotes, blanks and slashes,
    which end a URL within other text.

    Args:
        text: The value.
        secrets: As for `redacted`.
    """
    return redacted(_hide_user(text), secrets)


def brief(value: object) -> str:
    """A value that comes from outside, short enough to stand in a message.

    Args:
        value: Anything; its ``repr()`` is taken.
    """
    return redacted_repr(value, most=_MOST_BRIEF)


def redacted_repr(value: object, *, most: int = _MOST_SHOWN) -> str:
    """The ``repr()`` of anything, as `redacted` shows it; only its type where it has none.

    Args:
        value: Anything, also what a user's own class makes, and numbers too long to be written.
        most: As for `redacted`.
    """
    return redacted(_said(value, repr), most=most)


def _said(value: object, how: Callable[[object], str]) -> str:
    try:
        return how(value)
    except Exception:  # noqa: BLE001 (whatever it raises, an error about it is still to be made)
        return f"<{type(value).__name__}>"


def _hide_user(text: str) -> str:
    scheme = _SCHEME.match(text)
    start = scheme.end() if scheme else 0
    # A password may have slashes and "@" in it, and a path an "@": the last one counts where there is a user.
    user, at, host = text[start:].rpartition("@")
    authority = user.partition("/")[0]
    has_password = ":" in authority and not _HOST_AND_PORT.match(user)
    is_user = at and (has_password or (scheme and ("@" in authority or authority == user)))
    return f"{text[:start]}{HIDDEN}@{host}" if is_user else text


def _hide_queries(text: str) -> str:
    shown, done, at = [], 0, 0
    while (at := text.find("://", at)) >= 0:
        found = _END_OF_PATH.search(text, at)
        if found is None:
            break
        at = found.start()
        if query := _QUERY.match(text, at):
            shown += [text[done:at], "?", HIDDEN]
            done = at = query.end()
    return "".join([*shown, text[done:]])


def printable(text: str) -> str:
    """Text that a terminal shows and does not obey: control characters and stray bytes are escaped if there are any."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")

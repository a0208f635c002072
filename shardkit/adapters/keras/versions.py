"""Which versions of Keras are supported, and a clear error for the others."""

from __future__ import annotations

import re

import keras

from shardkit.errors import ConfigError

__all__ = ["LOWEST", "check_version", "unsupported"]

# The first version that takes a data adapter of one's own.
LOWEST = (3, 7)


def check_version() -> None:
    """Refuse a Keras that is too old.

    Raises:
        ConfigError: It is older than `LOWEST`.
    """
    found = tuple(int(number) for number in re.findall(r"\d+", keras.__version__)[:2])
    if found < LOWEST:
        needed = ".".join(map(str, LOWEST))
        raise ConfigError(
            f"Keras {keras.__version__} is not supported: it cannot take batches in the loader's order",
            advice=f"pip install --upgrade 'keras>={needed}'",
        )


def unsupported(what: str) -> ConfigError:
    """The error for a Keras whose internals are not what shardkit knows.

    Args:
        what: What is missing.
    """
    return ConfigError(
        f"Keras {keras.__version__} is not supported: {what}", advice="Upgrade shardkit, or install an older Keras"
    )

"""The `shardkit` command: flags in, one call of the library, words out."""

from shardkit.cli.main import main

__all__ = ["main"]

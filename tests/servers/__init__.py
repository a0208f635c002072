"""Servers that the tests talk to: four that others wrote, installed by ``tools/servers``, and a faulty one of our own.

All listen on 127.0.0.1 only, on a port that was free, and are stopped by whoever started them.
"""

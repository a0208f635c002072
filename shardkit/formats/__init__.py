"""Bytes to samples and back, one sub-package per file format. Knows nothing of URLs or pixels."""

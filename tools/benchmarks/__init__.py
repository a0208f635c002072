"""What `tools/bench_load.py` measures: one module for each peer, and what they share."""

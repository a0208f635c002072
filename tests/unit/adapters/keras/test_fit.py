"""Looking at what other threads run."""

import subprocess
import sys

# Threads that begin and end, and a collector that runs all the time and lets them: what made CPython 3.11 read frames
# that were gone, or wait for good.
SCRIPT = """
import gc, threading, time
from shardkit.adapters.keras import fit

def deep(left):
    if left:
        return deep(left - 1)
    time.sleep(0.0001)

def begin_and_end():
    while True:
        threads = [threading.Thread(target=deep, args=(200,), daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

class LetsGo:
    def __del__(self):
        time.sleep(0)

gc.set_threshold(5, 2, 2)
threading.Thread(target=begin_and_end, daemon=True).start()
until = time.monotonic() + 3
while time.monotonic() < until:
    for _ in range(5):
        circle = LetsGo()
        circle.circle = circle
    for thread in threading.enumerate():
        fit._runs(thread.ident, fit._has_data)
assert gc.isenabled()
print("fine")
"""


def test_threads_may_end_meanwhile():
    run = subprocess.run([sys.executable, "-c", SCRIPT], check=False, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout == "fine\n"

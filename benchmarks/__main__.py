"""All benchmarks one after the other, then the table (`make bench`; half an hour on 2 cores)."""

from __future__ import annotations

import subprocess
import sys

for name in (
    "scoring",
    "generation",
    "training",
    "quality",
    "calibration",
    "retrieval",
    "reasoning",
    "endpoint",
    "demo",
):
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], check=True)
subprocess.run([sys.executable, "-m", "benchmarks.table"], check=True)

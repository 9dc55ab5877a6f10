"""The benchmarks that end in a sitting, one after the other, then the table (`make bench`; some hours on 2 cores)."""

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
    "planner",
    "pretraining",
    "demo",
):
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], check=True)
subprocess.run([sys.executable, "-m", "benchmarks.table"], check=True)

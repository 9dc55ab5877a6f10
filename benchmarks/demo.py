"""The demo: wall time and peak memory of `make demo`, once everything is installed and the default model is there.

python -m benchmarks.demo
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, options, save
from opportune.cost import Cost
from opportune.store import Store


def main() -> None:
    """Install (not timed as the demo), then run the demo with an empty folder of runs."""
    parser = options(__doc__ or "")
    parser.add_argument("--fresh-model", action="store_true", help="fetch and convert the default model again, timed")
    given = parser.parse_args()
    if given.model:
        parser.error("--model: the demo always runs the default model")
    installing = _run(["make", "install"], {})
    with tempfile.TemporaryDirectory() as scratch:
        environment = {"OPPORTUNE_RUNS": str(Path(scratch, "runs")), "OMP_NUM_THREADS": str(given.threads)}
        if given.fresh_model:
            environment["OPPORTUNE_CACHE"] = str(Path(scratch, "cache"))
        else:
            _run([".venv/bin/python", "-c", "from opportune.models.loading import find; find(None, print)"], {})
        # Quick: the same arms on a handful of examples.
        subset = ["SUBSET=train=40,dev=10,test=10"] if given.quick else []
        demo = _run(["make", "demo", *subset], environment)
        demo["arms"] = arms = _arms(environment["OPPORTUNE_RUNS"])
        # Of the arms, whose meter resets the high-water mark: that of the finished process is its last stage's.
        demo["peak_bytes"] = max(arm["peak_bytes"] for arm in arms)
    save(given.out, "demo", {"work": "make demo", "quick": given.quick, "installing": installing, **demo})


def _arms(runs: str) -> list[dict[str, Any]]:
    """What each arm was predicted to cost before the run and what it did, as if it had run alone."""
    with Store.open(runs, create=False) as store:
        arms = store.arms(store.latest_run().id)
    made = []
    for arm in arms:
        predicted, measured = (arm.predicted or Cost()).total(), arm.measured.total()
        made.append(
            {
                "recipe": arm.recipe,
                "predicted_seconds": predicted.seconds,
                "seconds": measured.seconds,
                "predicted_bytes": predicted.peak_bytes,
                "peak_bytes": measured.peak_bytes or 0,
                "flops": measured.flops,
            }
        )
    return made


def _run(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Wall and processor seconds of a command with all that it starts, and the peak of its largest process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=sys.stderr)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {process.returncode}")
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_bytes": used.ru_maxrss * 1024,
    }


if __name__ == "__main__":
    main()

"""One side of a benchmark as a process of its own: a JSON job a line in, a JSON result a line out.

Needs the standard library only, so that it runs in the peers' environment as it does in Opportune's.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[1]
Job = dict[str, Any]


class Worker:
    """A started side. Both sides stay alive through a benchmark, so that their measurements can take turns."""

    def __init__(self, python: Path, module: str, threads: int) -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_DATASETS_CACHE": str(ROOT / "benchmarks" / ".peers" / "datasets"),
        }
        self._name = module
        self._process = subprocess.Popen(
            [str(python), "-m", module],
            cwd=ROOT,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, **job: Any) -> Any:
        """Do one job. Raises RuntimeError when the side ends instead of answering (its reason is on standard error)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended: there will be no answer
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name} ended with exit code {self._process.wait()}")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


def serve(jobs: dict[str, Callable[..., Any]]) -> None:
    """Answer jobs from standard input until it closes; `do` names the function, the rest are its arguments.

    Whatever the libraries print goes to standard error.
    """
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            job = json.loads(line)
            answers.write(json.dumps(jobs[job.pop("do")](**job)) + "\n")
            answers.flush()


def reset_peak() -> int:
    """Begin a new high-water mark of this process's resident memory (Linux), freed heap handed back; what it is now."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def peak_bytes() -> int:
    """The resident memory's high-water mark since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))

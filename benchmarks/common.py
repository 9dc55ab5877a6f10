"""What the benchmarks share: their options, the machine they ran on, the file they write."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_PLACES = {"--runs", "--out", "--data"}  # options that take a folder
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # what decides how fast matrices are multiplied


def options(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark takes."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    data = os.environ.get("OPPORTUNE_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", default=data, help="folder of the public tasks (OPPORTUNE_DATA; default %(default)s)")
    parser.add_argument("--model", help="Hugging Face folder or .gguf file (default: Opportune's default model)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each side (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny amounts: shows that it works, measures nothing")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result files (default %(default)s)")
    return parser


def model_folder(name: str | None) -> str:
    """The model as a local folder that the peers can load too."""
    from opportune.models.loading import find

    return str(find(name, lambda stage, done, total: None))


def read(folder: str, split: str) -> list[dict[str, str]]:
    """The rows of one split of a task."""
    return [json.loads(line) for line in (Path(folder) / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def save(folder: Path, name: str, figures: dict[str, Any]) -> None:
    """Write NAME.json: the figures with the command, commit, machine and date that they come from."""
    record = {
        "name": name,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": f"python -m {_module()} {shlex.join(_without_places(sys.argv[1:]))}".strip(),
        "commit": commit(),
        "machine": machine(),
        **figures,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"wrote {folder / f'{name}.json'}", file=sys.stderr)


def _without_places(arguments: Sequence[str]) -> list[str]:
    """A command's arguments but the folders of this machine, on which no figure depends."""
    kept = [place for place, _ in enumerate(arguments) if not {*arguments[max(0, place - 1) : place + 1]} & _PLACES]
    return [arguments[place] for place in kept]


def spread(values: Sequence[float]) -> dict[str, Any]:
    """The median of some repeats, beside all of them."""
    ordered = [round(value, 6) for value in values]
    median = round(statistics.median(values), 6)
    return {"median": median, "lowest": min(ordered), "highest": max(ordered), "repeats": ordered}


def note(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(text, file=sys.stderr, flush=True)


def commit() -> str:
    """The commit of this checkout; "+" where tracked files differ from it, other than the results themselves."""
    outside = (".", ":!benchmarks/results", ":!docs/benchmarks.md", ":!docs/strategies")
    head, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no", "--", *outside)
    return (head or "unknown") + ("+" if changed else "")


def machine() -> dict[str, Any]:
    """What decides how fast this machine is, and how busy it was."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(line.split(":", 1) for line in info.split("\n\n")[0].splitlines() if ":" in line)
    known = {key.strip(): value.strip() for key, value in fields.items()}
    return {
        "cpu": known.get("model name", platform.processor()),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "flags": [flag for flag in _FLAGS if flag in known.get("flags", "").split()],
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "transformers": importlib.metadata.version("transformers"),
        "load_average_at_end": round(os.getloadavg()[0], 2),
    }


def _git(*command: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *command], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _module() -> str:
    return f"benchmarks.{Path(sys.argv[0]).stem}"

"""Pretraining on TinyShakespeare: validation loss against wall time, in bits per character.

python -m benchmarks.pretraining

`opportune pretrain` at about 1M parameters, on the first nine tenths of the text, validated on the last, beside the
figure that nanoGPT's README gives for its character-level model of 0.8M parameters on a CPU: a validation loss of 1.88
nats a character after about 3 minutes. That one is published, not measured here.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from json import loads
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, note, options, save

NANOGPT = {
    "source": "github.com/karpathy/nanoGPT, README, 'I only have a macbook'",
    "parameters": 800_000,
    "minutes": 3,
    "nats_per_character": 1.88,
    "bits_per_character": round(1.88 / math.log(2), 3),
}


def main() -> None:
    """Train once, by the command line; everything is in its report."""
    parser = options(__doc__ or "")
    parser.add_argument("--parameters", default="1M")
    parser.add_argument("--tokens", help="to train on (default: the rule of `opportune pretrain`)")
    given = parser.parse_args()
    folder = Path(given.data, "tinyshakespeare").resolve()
    size = ["--parameters", "100k", "--tokens", "40k"] if given.quick else ["--parameters", given.parameters]
    size += ["--tokens", given.tokens] if given.tokens and not given.quick else []
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "opportune", "pretrain", "--json", "--out", str(Path(place, "model")), *size]
        command += ["--corpus", str(folder / "train.txt"), "--validation", str(folder / "test.txt")]
        threads = {name: str(given.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | threads
        )
    figures = _figures(loads(done.stdout))
    note(f"{figures['report']['bits_per_character']:.3f} bits a character after {figures['seconds']:.0f} s")
    save(
        given.out, "pretraining", {"work": "tinyshakespeare", "quick": given.quick, "threads": given.threads, **figures}
    )


def _figures(report: dict[str, Any]) -> dict[str, Any]:
    per_nat = report["bits_per_character"] / report["loss"]  # tokens per character do not change on the way
    curve = [
        {"seconds": round(point["seconds"], 1), "bits_per_character": round(per_nat * point["loss"], 4)}
        for point in report["curve"]
    ]
    reached = [point["seconds"] for point in curve if point["bits_per_character"] <= NANOGPT["bits_per_character"]]
    return {
        "seconds": report["measured"]["seconds"],
        "seconds_predicted": report["predicted"]["seconds"],
        "curve": curve,
        "seconds_to_nanogpt": reached[0] if reached else None,
        "nanogpt_published": NANOGPT,
        "report": {name: value for name, value in report.items() if name not in ("curve", "out")},
    }


if __name__ == "__main__":
    main()

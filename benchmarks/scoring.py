"""Scoring, against lm-evaluation-harness: questions a second on the same k-shot prompts and labels.

Both sides get the first training examples as shots and the first test questions, rendered `Text: ...\\nLabel:`. They
take turns, round after round. The harness answers few questions, for each costs it the same; Opportune answers more,
reading the shots anew in every round, and then those few alone.

    python -m benchmarks.scoring [--case trec6-float32]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.common import model_folder, note, options, save, spread
from benchmarks.worker import Worker


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison. `sweep` are the harness's batch sizes, tried on `sweep_requests` of its requests."""

    name: str
    task: str
    dtype: str
    shots: int
    peer_questions: int
    questions: int
    sweep: tuple[int, ...]
    sweep_requests: int
    target: float | None  # the ratio to reach
    rounds: int = 2


CASES = {
    case.name: case
    for case in (
        Case("trec6-float32", "trec6", "float32", 32, 20, 500, (1, 4, 8), 8 * 6, 40.0),
        Case("trec6-bfloat16", "trec6", "bfloat16", 32, 4, 100, (1, 4), 4 * 6, 35.0),
        Case("banking77-float32", "banking77", "float32", 16, 1, 30, (1, 4, 8), 8, 150.0),
        Case("banking77-bfloat16", "banking77", "bfloat16", 16, 1, 30, (1, 4), 4, None, rounds=1),
    )
}
DEFAULT = ("trec6-float32", "trec6-bfloat16", "banking77-float32")


def main() -> None:
    """Measure the cases asked for."""
    parser = options(__doc__ or "")
    parser.add_argument("--case", action="append", choices=list(CASES), help=f"repeatable (default {DEFAULT})")
    given = parser.parse_args()
    interpreter, model = peers.python(), model_folder(given.model)
    for name in given.case or DEFAULT:
        case = _quick(CASES[name]) if given.quick else CASES[name]
        folder = str(Path(given.data, case.task).resolve())
        with (
            Worker(interpreter, "benchmarks.peer_lm_eval", given.threads) as peer,
            Worker(Path(sys.executable), "benchmarks.own", given.threads) as own,
        ):
            save(given.out, f"scoring-{name}", measure(case, model, folder, peer, own) | {"quick": given.quick})


def measure(case: Case, model: str, folder: str, peer: Worker, own: Worker) -> dict[str, Any]:
    """The figures of one case."""
    versions = peer.ask(do="load", model=model, dtype=case.dtype)
    own_versions = own.ask(do="load", model=model, dtype=case.dtype)
    built = peer.ask(do="build", folder=folder, shots=case.shots, questions=case.peer_questions)
    note(f"{case.name}: {built['requests']} requests to the peer; finding its best batch size")
    tried = {size: _rate(peer, size, case.sweep_requests) for size in case.sweep}
    batch = max(tried, key=tried.__getitem__)
    own.ask(do="score", folder=folder, shots=case.shots, questions=8, skip_shots=case.shots)  # warm-up: other shots
    theirs, ours, same = [], [], []
    for number in range(case.rounds):
        theirs.append(peer.ask(do="score", batch=batch))
        ours.append(own.ask(do="score", folder=folder, shots=case.shots, questions=case.questions))
        same.append(own.ask(do="score", folder=folder, shots=case.shots, questions=case.peer_questions))
        seconds = (theirs[-1]["seconds"], ours[-1]["seconds"], same[-1]["seconds"])
        note(f"round {number + 1} of {case.rounds}: " + " / ".join(f"{value:.2f} s" for value in seconds))
    peer_rate, own_rate = _rates(theirs, case.peer_questions), _rates(ours, case.questions)
    same_rate = _rates(same, case.peer_questions)
    return {
        "unit": "questions/s",
        "work": f"{case.task}, {case.shots} shots, {case.dtype}",
        "threads": versions["threads"],
        "peer": {
            "name": f"lm-eval {versions['lm_eval']}, hf backend",
            "questions": case.peer_questions,
            "batch": batch,
            "requests_per_second_by_batch": {str(size): round(rate, 4) for size, rate in tried.items()},
            "speed": peer_rate,
            "peak_bytes": max(run["peak_bytes"] for run in theirs),
            "torch": versions["torch"],
        },
        "opportune": {
            "questions": case.questions,
            "speed": own_rate,
            "speed_on_the_peers_questions_alone": same_rate,
            "peak_bytes": max(run["peak_bytes"] for run in ours),
            "torch": own_versions["torch"],
        },
        "ratio": round(own_rate["median"] / peer_rate["median"], 2),
        "ratio_on_the_peers_questions_alone": round(same_rate["median"] / peer_rate["median"], 2),
        "ratio_to_reach": case.target,
        "agreement": agreement(theirs[0]["scores"], ours[0]["scores"][: case.peer_questions])
        | {"same_prompt": built["prompt"] == ours[0]["prompt"]},
    }


def agreement(theirs: list[list[float]], ours: list[list[float]]) -> dict[str, Any]:
    """How far two sides agree on questions x choices log-probabilities."""
    pairs = list(zip(theirs, ours, strict=True))
    gaps = [abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True)]
    same = sum(one.index(max(one)) == other.index(max(other)) for one, other in pairs)
    return {"questions": len(pairs), "identical_predictions": same, "largest_difference": max(gaps)}


def _rate(peer: Worker, batch: int, requests: int) -> float:
    return requests / float(peer.ask(do="score", batch=batch, count=requests)["seconds"])


def _rates(runs: list[dict[str, Any]], questions: int) -> dict[str, Any]:
    return spread([questions / run["seconds"] for run in runs])


def _quick(case: Case) -> Case:
    return replace(case, peer_questions=1, questions=4, sweep=case.sweep[:1], sweep_requests=1, rounds=1)


if __name__ == "__main__":
    main()

"""Endpoint: 500 questions to a server that takes 50 ms for each and 40 a second: how close to its own limit.

python -m benchmarks.endpoint

The stand-in refuses without saying for how long, the harder case: the pace must be found.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from typing import Any

from benchmarks.common import note, options, save, spread

QUESTIONS, LATENCY, LIMIT, ROUNDS = 500, 0.05, 40, 3
TO_REACH = 1.1  # times the limit's own time


def main() -> None:
    """Ask all questions some times over, each time by an endpoint that knows nothing yet."""
    given = options(__doc__ or "").parse_args()
    questions, rounds = (80, 1) if given.quick else (QUESTIONS, ROUNDS)
    runs = [_round(questions) for _ in range(rounds)]
    own_time = questions / LIMIT
    for run in runs:
        note(f"{run['seconds']:.2f} s for {own_time:.2f} s, {run['refused']} refused of {questions + run['refused']}")
    seconds = spread([run["seconds"] for run in runs])
    figures = {
        "unit": "seconds",
        "work": f"{questions} questions, {LATENCY * 1000:.0f} ms each, {LIMIT} a second at most",
        "quick": given.quick,
        "seconds": seconds,
        "limits_own_seconds": own_time,
        "ratio": round(seconds["median"] / own_time, 3),
        "ratio_to_reach": TO_REACH,
        "refused": spread([run["refused"] for run in runs]),
        "failed": sum(run["failed"] for run in runs),
    }
    save(given.out, "endpoint", figures)


def _round(questions: int) -> dict[str, Any]:
    from opportune.models.endpoint import Endpoint
    from opportune.types import Message, Prompt

    command = [sys.executable, "-m", "benchmarks.standin", str(LATENCY), str(LIMIT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        try:
            model = Endpoint("stand-in", f"{url}/v1")
            prompts = [Prompt((Message("user", f"Question {i}: yes or no?"),), max_tokens=4) for i in range(questions)]
            _ = model._caller.client  # the client's own set-up, once a process
            began = time.perf_counter()
            answers = dict(model.complete(prompts, {}))
            seconds = time.perf_counter() - began
            with urllib.request.urlopen(f"{url}/counts") as reply:
                counts = json.load(reply)
        finally:
            server.kill()
    failed = sum(answer.error is not None for answer in answers.values())
    assert len(answers) == questions
    assert counts["answered"] == questions
    return {"seconds": seconds, "refused": counts["refused"], "failed": failed}


if __name__ == "__main__":
    main()

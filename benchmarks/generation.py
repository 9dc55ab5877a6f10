"""Generation: new tokens a second of wall time, prefill included, beside transformers' `generate` and llama.cpp.

python -m benchmarks.generation

64 TREC questions after 32 shots (about 570 shared tokens), a chain of thought of up to 64 new tokens, greedy. Then
self-consistency: ten samples a question against one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.common import model_folder, note, options, save, spread
from benchmarks.worker import Worker

SHOTS, TOKENS, QUESTIONS, ROUNDS, SLOTS = 32, 64, 64, 3, 16
BATCHES = (8, 16, 32)  # of the peer, tried on as many questions as the largest
TO_REACH = {"transformers": 8.0, "llama.cpp": 2.0}


def main() -> None:
    """Measure all sides in turn, on the same prompts."""
    given = options(__doc__ or "").parse_args()
    folder, model = str(Path(given.data, "trec6").resolve()), model_folder(given.model)
    questions, rounds, tokens = (4, 1, 8) if given.quick else (QUESTIONS, ROUNDS, TOKENS)
    with (
        tempfile.TemporaryDirectory() as scratch,
        Worker(Path(sys.executable), "benchmarks.own", given.threads) as own,
        Worker(peers.python(), "benchmarks.peer_generate", given.threads) as plain,
        Worker(Path(sys.executable), "benchmarks.peer_llama_cpp", given.threads) as llama,
    ):
        dtype = own.ask(do="load", model=model, dtype="auto")["dtype"]
        versions = plain.ask(do="load", model=model, dtype=dtype)
        llama.ask(do="load", model=_gguf(Path(scratch)), threads=given.threads, slots=SLOTS, context=1024)
        job = {"do": "write", "folder": folder, "shots": SHOTS, "questions": questions, "tokens": tokens}
        prompts = own.ask(**{**job, "tokens": 1})["prompts"]
        shared = _common(prompts)
        tried = {size: _speed(plain.ask(do="write", texts=prompts[:32], batch=size, tokens=tokens)) for size in BATCHES}
        batch = max(tried, key=tried.__getitem__)
        found: dict[str, list[dict[str, Any]]] = {"own": [], "plain": [], "llama": []}
        for number in range(rounds):
            found["own"].append(own.ask(**job))
            found["plain"].append(plain.ask(do="write", texts=prompts, batch=batch, tokens=tokens))
            # Other questions each round: what it has answered itself must not be in its cache.
            fresh = own.ask(**{**job, "tokens": 1, "first": questions * number})["prompts"]
            found["llama"].append(llama.ask(do="write", texts=fresh, tokens=tokens, shared=shared))
            note(f"round {number + 1}: " + ", ".join(f"{n} {_speed(r[-1]):.0f} tokens/s" for n, r in found.items()))
        votes = own.ask(**{**job, "questions": questions // 4, "samples": 10})
        single = own.ask(**{**job, "questions": questions // 4, "temperature": 0.7})
    speeds = {name: spread([_speed(result) for result in results]) for name, results in found.items()}
    answers = zip(found["own"][0]["answers"], found["plain"][0]["answers"], strict=True)
    same = [mine.strip() == theirs.strip() for mine, theirs in answers]
    figures = {
        "unit": "new tokens/s",
        "work": f"trec6, {SHOTS} shots, {questions} questions, up to {tokens} new tokens, greedy, {dtype}",
        "quick": given.quick,
        "threads": given.threads,
        "opportune": {"speed": speeds["own"], "peak_bytes": found["own"][-1]["peak_bytes"]},
        "transformers": {
            "version": versions["transformers"],
            "batch": batch,
            "speed_by_batch": {str(size): round(speed, 1) for size, speed in tried.items()},
            "speed": speeds["plain"],
            "peak_bytes": found["plain"][-1]["peak_bytes"],
        },
        "llama.cpp": {"format": "Q4_1", "slots": SLOTS, "speed": speeds["llama"]},
        "ratio": {
            name: round(speeds["own"]["median"] / speeds[side]["median"], 2)
            for name, side in (("transformers", "plain"), ("llama.cpp", "llama"))
        },
        "ratio_to_reach": TO_REACH,
        "identical_answers": {"of": len(same), "same_as_transformers": sum(same)},
        "self_consistency": {
            "samples": 10,
            "questions": questions // 4,
            "seconds": round(votes["seconds"], 2),
            "seconds_of_one_sample": round(single["seconds"], 2),
            "seconds_ratio": round(votes["seconds"] / single["seconds"], 2),
            "new_tokens_ratio": round(votes["tokens"] / single["tokens"], 2),
            "prompt_tokens_computed_ratio": round(votes["prompt_tokens"] / single["prompt_tokens"], 2),
        },
    }
    save(given.out, "generation", figures)


def _speed(result: dict[str, Any]) -> float:
    return float(result["tokens"] / result["seconds"])


def _common(texts: list[str]) -> str:
    """What all prompts begin with."""
    first, last = min(texts), max(texts)
    return first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]


def _gguf(folder: Path) -> str:
    from opportune.models.smollm2 import download

    return str(download(folder))


if __name__ == "__main__":
    main()

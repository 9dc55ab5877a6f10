"""Opportune's side of scoring and training, through the same functions as `opportune compare` uses."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import read
from benchmarks.worker import peak_bytes, reset_peak, serve
from opportune.methods.full import Full
from opportune.methods.lora import Lora
from opportune.models.loading import load_model
from opportune.models.local import Local
from opportune.training.loop import Settings, train
from opportune.training.packing import TokenLesson
from opportune.types import Lesson, Message, Prompt

_state: dict[str, Any] = {}


def load(model: str, dtype: str) -> dict[str, Any]:
    """The model, with no more than one held at a time; "auto" lets Opportune choose the dtype."""
    import torch

    _state.clear()
    _state["model"] = loaded = load_model(model, device="cpu", dtype=dtype)
    return {"dtype": loaded.info.dtype, "torch": torch.__version__, "threads": torch.get_num_threads()}


def score(folder: str, shots: int, questions: int, skip_shots: int = 0) -> dict[str, Any]:
    """Rank the labels for the first `questions` test questions after the first shots (less `skip_shots`) of train.

    Nothing is warm: the backend is new, so that reading the shots is part of the time, in every round.
    """
    model: Local = _state["model"].with_network(_state["model"].network)
    labels = tuple(json.loads((Path(folder) / "labels.json").read_text()))
    head: list[Message] = []
    for row in read(folder, "train")[skip_shots : skip_shots + shots]:
        head += [Message("user", _ask(row), shot=True), Message("assistant", row["target"], shot=True)]
    rows = read(folder, "test")[:questions]
    prompts = [Prompt((*head, Message("user", _ask(row))), choices=labels, format="plain") for row in rows]
    reset_peak()
    began = time.perf_counter()
    completions = dict(model.complete(prompts, {}))
    seconds = time.perf_counter() - began
    scores = [completions[index].scores for index in range(len(prompts))]
    return {"seconds": seconds, "peak_bytes": peak_bytes(), "scores": scores, "prompt": completions[0].prompt}


def write(
    folder: str,
    shots: int,
    questions: int,
    tokens: int,
    first: int = 0,
    samples: int = 1,
    temperature: float = 0.0,
) -> dict[str, Any]:
    """Think step by step about test questions after shots of train, for up to `tokens` new tokens each.

    Nothing is warm: the backend is new, so that reading the shots is part of the time.
    """
    model: Local = _state["model"].with_network(_state["model"].network)
    head: list[Message] = []
    for row in read(folder, "train")[:shots]:
        head += [Message("user", _ask(row), shot=True), Message("assistant", row["target"], shot=True)]
    rows = read(folder, "test")[first : first + questions]
    prompts = [
        Prompt(
            (*head, Message("user", f"Text: {row['input']}"), Message("assistant", "Let's think step by step.")),
            format="plain",
            max_tokens=tokens,
            samples=samples,
            temperature=temperature,
            stop=("\n\n\n\n",),
        )
        for row in rows
    ]
    reset_peak()
    began = time.perf_counter()
    completions = dict(model.complete(prompts, {}))
    seconds = time.perf_counter() - began
    given = [completions[index] for index in range(len(prompts))]
    return {
        "seconds": seconds,
        "peak_bytes": peak_bytes(),
        "tokens": sum(each.usage.tokens_out for each in given),
        "prompt_tokens": sum(each.usage.tokens_in for each in given),
        "answers": [each.texts[0] for each in given],
        "prompts": [each.prompt for each in given],
    }


def lessons(folder: str, split: str, first: int, count: int) -> list[dict[str, Any]]:
    """Examples as both sides are to train on them: token ids, the targets beginning at `start`."""
    model: Local = _state["model"]
    made = []
    for row in read(folder, split)[first : first + count]:
        prompt = Prompt((Message("user", _ask(row)),), format="plain")
        ids, start = model.tokenise_lesson(Lesson(prompt, row["target"]))
        made.append({"ids": list(ids), "start": start})
    return made


def windows(path: str, first: int, count: int, length: int) -> list[dict[str, Any]]:
    """Lessons of exactly so many tokens: pieces of a running text, whose second half is to be learnt."""
    model: Local = _state["model"]
    ids = model.tokenizer(Path(path).read_text(encoding="utf-8")[: (first + count) * length * 8])["input_ids"]
    pieces = [ids[place * length : (place + 1) * length] for place in range(first, first + count)]
    return [{"ids": piece, "start": length // 2} for piece in pieces]


def learn(
    method: str, lessons: list[dict[str, Any]], rank: int, rate: float, batch: int, seed: int, folder: str
) -> dict[str, Any]:
    """Train LoRA or all weights for an epoch and save them: each step's real tokens and seconds, the peak of memory.

    Uses up the loaded model.
    """
    how = Full() if method == "full" else Lora(rank=rank, alpha=2 * rank, dropout=0.0)
    network = how.attach(_state.pop("model").network, seed)
    taught = [TokenLesson(tuple(lesson["ids"]), lesson["start"]) for lesson in lessons]
    settings = Settings(rate=rate, epochs=1, batch=batch, seed=seed)
    with tempfile.TemporaryDirectory() as checkpoints:
        before = reset_peak()
        done = train(network, taught, settings, Path(checkpoints))
        peak = peak_bytes()
    how.save(network, Path(folder))
    return {
        "tokens": [step.tokens for step in done.steps],
        "seconds": [step.seconds for step in done.steps],
        "losses": [step.loss for step in done.steps],
        "peak_bytes": peak,
        "bytes_before": before,
    }


def _ask(row: dict[str, str]) -> str:
    return f"Text: {row['input']}\nLabel:"


if __name__ == "__main__":
    serve({"load": load, "score": score, "write": write, "lessons": lessons, "windows": windows, "learn": learn})

"""A small made-up run that looks like a real one, written into a real store: the report is tested on it."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opportune.cost import Amount, Cost
from opportune.models.endpoint_choosing import Way
from opportune.records import (
    ArmRecord,
    CallRecord,
    CurvePoint,
    ExampleRecord,
    Facts,
    Latency,
    ModelConfig,
    OutcomeRecord,
    RunConfig,
    Trial,
)
from opportune.store import Store

LABELS = (
    "order status",
    "delivery problem",
    "return item",
    "refund status",
    "cancel order",
    "billing question",
    "account access",
    "change details",
    "product question",
    "technical fault",
)
MESSAGES = (
    "where in the world is my parcel, ordered it on Monday and nobody tells me anything",
    "The kettle came with a crack right down the side. I would like to know what you intend to do.",
    "can i swap the medium lamp for the large",
    "Sent the kettle back three weeks ago. Where's my money? Kind regards, Nwosu Adaeze",
    "pls stop 88-4127 before it goes out!!!",
    "Why is there £64.99 from you on my statement twice??",
    "cant log in, says wrong password, it isnt",
    "We moved on Saturday, new address is 14 Tanner's Row, order LF-88213 has not left you yet as far as I can see.",
    "does the 1.7 l kettle have a removable filter?",
    "Left earbud is silent since yesterday. Cleaned it, reset it, begged it. Nothing.",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How an arm of the made-up run does."""

    recipe: str
    quality: float
    shots: int = 0
    seconds: float = 0.0  # of asking one question
    training: float = 0.0
    nearest: bool = False  # other shots for every question


ARMS = (
    Plan("majority", 0.1),
    Plan("tfidf", 0.62),
    Plan("zero-shot", 0.33, 0, 0.02),
    Plan("zero-shot:calibrate=contextual", 0.42, 0, 0.021),
    Plan("k-shot:k=8", 0.48, 8, 0.03),
    Plan("k-shot:k=8,calibrate=contextual", 0.58, 8, 0.031),
    Plan("k-shot:k=32", 0.55, 32, 0.05),
    Plan("k-shot:k=32,calibrate=contextual", 0.7, 32, 0.052),
    Plan("lora:rank=16", 0.88, 0, 0.024, 95.0),
    Plan("full", 0.87, 0, 0.02, 140.0),
)


def make_run(
    store: Store,
    *,
    arms: Sequence[Plan] = ARMS,
    labels: Sequence[str] = LABELS,
    messages: Sequence[str] = MESSAGES,
    tests: int = 60,
    done: int | None = None,
    price: float | None = None,
    failed: float = 0.0,
    seeds: int = 1,
    remote: Way | None = None,
) -> str:
    """Write a run and return its id; `done` arms are done, the next one runs, the rest are pending (None: all done)."""
    run = store.begin_run("made-up", "support-desk", _config(labels, price, seeds, remote)).id
    examples = [
        ExampleRecord(run, split, i, f"{split}-{i}", f"{messages[i % len(messages)]} ({i})", labels[i % len(labels)])
        for split, count in (("train", 40), ("dev", 30), ("test", tests))
        for i in range(count)
    ]
    store.put_examples(examples)
    for place, (seed, plan) in enumerate((seed, plan) for seed in range(seeds) for plan in arms):
        status = "done" if done is None or place < done else "running" if place == done else "pending"
        arm = _arm(run, place, plan, seed, tests)
        store.put_arm(arm if status == "done" else replace(arm, status=status, measured=Cost(), facts=Facts()))
        if status == "pending":
            continue
        _ask(store, arm, plan, examples if status == "done" else examples[40:75], labels, failed)
        store.put_curve(_curves(arm) if plan.training else [])
    return run


def _config(labels: Sequence[str], price: float | None, seeds: int, remote: Way | None) -> RunConfig:
    model: ModelConfig = {
        "name": "SmolLM2-135M-Instruct (dequantised Q4_1)",
        "path": "smollm2-135m",
        "parameters": 0 if remote else 134_515_008,
        "digest": "0123456789abcdef",
        "dtype": "float32",
        "device": "endpoint" if remote else "cpu",
    }
    if remote:
        model["choosing"] = remote
    return {
        "task": {
            "name": "support-desk",
            "source": "bundled",
            "kind": "choice",
            "instruction": "Sort the customer's message into one of the intents.",
            "metric": "accuracy",
            "labels": list(labels),
            "notes": [
                "choice among 10 labels (inferred from the targets)",
                "1 train example repeats a test example: removed",
            ],
        },
        "models": [model],
        "seeds": list(range(seeds)),
        "tolerance": 0.03,
        "machine_price": price,
        "versions": {"python": "3.11.9", "machine": "Linux x86_64", "opportune": "0.1.0", "torch": "2.13.0"},
    }


def _arm(run: str, place: int, plan: Plan, seed: int, tests: int) -> ArmRecord:
    asks, trains = plan.seconds > 0, plan.training > 0
    asking = Amount(max(plan.seconds, 1e-5) * tests, 90 * tests * (1 + plan.shots), 0, tests, 1e9 * tests, 900 << 20)
    tuning = asking.scaled(0.4) + Amount(seconds=plan.training * 2.5)
    training = Amount(plan.training or 0.05, peak_bytes=int(1.9 * 2**30)) if trains or not asks else Amount()
    trials = tuple(Trial(rate, None, 0.5 + abs(i - 2) / 9, 20, i != 2, 1.5) for i, rate in enumerate(RATES))
    facts = Facts(
        questions=tests,
        latency=Latency(plan.seconds * 1.3, plan.seconds * 1.9) if asks else Latency(2e-5, 4e-5),
        dtype="float32",
        shots_dropped=3 if plan.shots == 32 else 0,
        rate=RATES[-1] if plan.recipe == "full" else RATES[2] if trains else None,
        rate_at_edge=plan.recipe == "full",
        trials=trials if trains else (),
        trainable_parameters=4_900_000 if trains else None,
        saved=asking.scaled(0.2) if asks else None,
    )
    loading = Amount(seconds=1.4) if asks else Amount()
    resolved = {"recipe": f"{plan.recipe}{'+zero-shot' if trains else ''}{'@smollm2-135m' if asks else ''}"}
    name = "SmolLM2-135M-Instruct (dequantised Q4_1)" if asks else None
    cost = Cost(loading, tuning, training, asking)
    return ArmRecord(
        run, f"hash{plan.recipe}", seed, place, plan.recipe, name, resolved, "done", None, cost, cost, facts
    )


RATES = (1e-4, 2e-4, 5e-4, 1e-3)


def _ask(
    store: Store, arm: ArmRecord, plan: Plan, examples: Sequence[ExampleRecord], labels: Sequence[str], failed: float
) -> None:
    luck = random.Random(f"{plan.recipe} {arm.seed}")
    head = "<|im_start|>system\nSort the message. Labels: " + ", ".join(labels) + ".<|im_end|>\n"
    shots = [f"Text: {MESSAGES[i % 10]} ({i})\nLabel: {labels[i % len(labels)]}\n" for i in range(plan.shots)]
    calls, outcomes = [], []
    for example in examples:
        if example.split == "train":
            continue
        gone = luck.random() < failed
        right = luck.random() < plan.quality
        answer = labels[0] if plan.recipe == "majority" else example.target if right else luck.choice(list(labels))
        scores = [-0.3 if label == answer else -2 - 4 * luck.random() for label in labels]
        total = math.log(sum(map(math.exp, scores)))
        text = None if gone or (failed and luck.random() < failed) else answer
        status = "failed" if gone else "unparsed" if text is None else "ok"
        key = {"run": arm.run, "hash": arm.hash, "seed": arm.seed, "example": example.example}
        outcomes.append(
            OutcomeRecord(
                **key,
                split=example.split,
                answer=text,
                raw="" if gone else answer,
                status=status,
                score=None if gone else float(text == example.target),
                choice_scores=None if gone else _scores(labels, scores, total),
            )
        )
        if arm.model is not None:
            call: dict[str, Any] = (
                {"choices": tuple(labels), "scores": tuple(scores)} if not gone else {"error": "timeout"}
            )
            shown = luck.sample(shots, len(shots)) if plan.nearest else shots
            prompt = f"{head}{''.join(shown)}Text: {example.input}\nLabel:"
            place = {"stage": example.split, "round": 0, "position": 0, "key": f"{arm.hash}{arm.seed}{example.example}"}
            calls.append(CallRecord(**key, **place, prompt=prompt, tokens_in=len(prompt) // 4, **call))
    store.put_calls(calls)
    store.put_outcomes(outcomes)


def _scores(labels: Sequence[str], scores: Sequence[float], total: float) -> Mapping[str, float]:
    return {label: score - total for label, score in zip(labels, scores, strict=True)}


def _curves(arm: ArmRecord) -> list[CurvePoint]:
    luck = random.Random(arm.recipe)
    points = []
    for rate in RATES:
        trial = "final" if rate == arm.facts.rate else f"rate={rate:g}"
        for step in range(1, 121 if trial == "final" else 21):
            loss = 0.3 + 2 * math.exp(-step * rate * 60)
            values: dict[str, float | None] = {"loss": loss * luck.uniform(0.7, 1.3), "rate": rate}
            if trial == "final" and step % 20 == 0:
                values |= {"dev_loss": loss * 1.1, "dev_score": 0.9 - 0.6 * math.exp(-step * rate * 50)}
            points.append(CurvePoint(arm.run, arm.hash, arm.seed, trial, step, values))
    return points

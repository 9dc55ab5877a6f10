"""The live view on standard error: a bar for the arm at work, one line for each that is done, the time left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Self

from rich.text import Text

from opportune.arm import Stage
from opportune.cli.live import Live
from opportune.cost import Amount
from opportune.metrics import short_name
from opportune.records import ArmRecord, RunRecord
from opportune.report.numbers import duration, memory, money
from opportune.types import REMOTE, Task


class LiveView:
    """Watches a run. Where standard error is no terminal, only the lines are printed, no bars."""

    def __init__(self) -> None:
        columns = "{task.fields[arm]:<36.36}", "{task.description:<24.24}"
        self._live = Live(*columns, after=("{task.fields[left]}",), arm="", left="")
        self._expected: dict[tuple[str, int], float] = {}
        self._spent: dict[tuple[str, int], float] = {}
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.__exit__(*exc)

    def task(self, task: Task) -> None:
        """Say which task it is, what was inferred, and how it is split."""
        labels = f", {len(task.choices)} labels" if task.choices else ""
        sizes = f": {len(task.train)} train, {len(task.dev)} dev, {len(task.test)} test{labels}, "
        self._live.say(Text(task.name, style="bold").append(sizes + short_name(task.metric), style="not bold"))
        for note in task.notes:
            self._live.say(f"  {note}")

    def begin(self, run: RunRecord, arms: Sequence[ArmRecord]) -> None:
        for model in (model for model in run.config["models"] if model["device"] != REMOTE):
            self._live.say(
                f"  model {model['name']}: {model['parameters'] / 1e6:.0f}M parameters, {model['dtype']} on "
                f"{model['device']}"
            )
        self._expected = {_key(arm): _predicted(arm) for arm in arms if arm.status != "done"}
        done = len(arms) - len(self._expected)
        resumed = f", {done} of them done before" if done else ""
        expected = sum(self._expected.values())
        estimate = f", about {duration(expected)} predicted" if expected else ""
        self._live.say(f"  run {run.id}: {len(arms)} arms{resumed}{estimate}")
        price = run.config["machine_price"]
        for arm in arms:
            if arm.status != "done" and arm.predicted is not None:
                self._live.say(f"    {_label(arm):<40} {_written(arm.predicted.priced(price).total())}")
        self._began = time.monotonic()

    def note(self, text: str) -> None:
        self._live.say(f"  {text}")

    def stage(self, arm: ArmRecord, stage: Stage) -> None:
        if not self._spent or _key(arm) not in self._spent:
            self._began, self._spent[_key(arm)] = time.monotonic(), 0.0
        self._live.show(
            arm=_label(arm),
            description=stage.name,
            completed=stage.done,
            total=stage.total,
            left=self._left(arm),
        )

    def end(self, arm: ArmRecord) -> None:
        self._spent[_key(arm)] = time.monotonic() - self._began
        # What was left out, failed, or much of which was not computed is no measure of the predictions.
        if arm.status != "done" or arm.facts.saved or arm.facts.cached:
            self._expected.pop(_key(arm), None)
        self._began = time.monotonic()
        outcome = "done" if arm.status == "done" else f"FAILED: {arm.reason}"
        seconds = arm.measured.total().seconds or 0.0
        self._live.show(visible=False)
        self._live.say(f"  {_label(arm):<36} {outcome} ({duration(seconds)} on its own); {self._left(arm)}")

    def _left(self, current: ArmRecord) -> str:
        """What the predictions leave, corrected by how wrong they have been so far."""
        finished = {key for key, spent in self._spent.items() if spent and key in self._expected}
        predicted = sum(self._expected.get(key, 0.0) for key in finished)
        factor = sum(self._spent[key] for key in finished) / predicted if predicted else 1.0
        waiting = sum(value for key, value in self._expected.items() if key not in finished) * factor
        under_way = 0.0 if _key(current) in finished else time.monotonic() - self._began
        left = max(0.0, waiting - under_way)
        return f"about {duration(left)} left" if left else "nearly done"


def _key(arm: ArmRecord) -> tuple[str, int]:
    return arm.hash, arm.seed


def _label(arm: ArmRecord) -> str:
    return arm.recipe + (f" (seed {arm.seed})" if arm.seed else "")


def _written(expected: Amount) -> str:
    """What is known of an arm before it runs: its time on its own, the most memory, dollars."""
    parts = [
        None if expected.seconds is None else f"about {duration(expected.seconds)}",
        None if expected.peak_bytes is None else f"at most {memory(expected.peak_bytes)}",
        None if expected.dollars is None else money(expected.dollars),
    ]
    return ", ".join(part for part in parts if part)


def _predicted(arm: ArmRecord) -> float:
    return (arm.predicted.total().seconds or 0.0) if arm.predicted else 0.0

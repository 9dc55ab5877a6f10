"""The live view of a curve on standard error: a line for each run, a bar over all, the time left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Self

from opportune.arm import Stage
from opportune.cli.live import Live
from opportune.records import ArmRecord, RunRecord
from opportune.report.numbers import duration


class CurveView:
    """Watches a curve. Where standard error is no terminal, only the lines are printed, no bar."""

    def __init__(self) -> None:
        self._live = Live("{task.description:<60.60}")
        self._predicted: list[float] = []
        self._spent: list[tuple[float, float]] = []  # predicted and measured seconds of what was measured now
        self._place, self._name, self._began, self._new = 0, "", time.monotonic(), False

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.__exit__(*exc)

    def plan(self, seconds: Sequence[float]) -> None:
        self._predicted = list(seconds)
        total = f", about {duration(sum(seconds))} predicted where nothing is measured yet" if sum(seconds) else ""
        self._live.say(f"{len(seconds)} runs{total}")
        self._live.show(total=len(seconds))

    def cell(self, place: int, name: str) -> None:
        self._place, self._name, self._began, self._new = place, name, time.monotonic(), False
        self._live.show(completed=place, description=name)

    def begin(self, run: RunRecord, arms: Sequence[ArmRecord]) -> None:
        self._new = any(arm.status != "done" for arm in arms)
        if not self._new:
            self._live.say(f"  {self._name}: measured before (run {run.id})")

    def note(self, text: str) -> None:
        self._live.say(f"  {text}")

    def stage(self, arm: ArmRecord, stage: Stage) -> None:
        self._live.show(description=f"{self._name}: {arm.recipe}, {stage.name}")

    def end(self, arm: ArmRecord) -> None:
        seconds = time.monotonic() - self._began
        self._spent.append(((arm.predicted.total().seconds or 0.0) if arm.predicted else 0.0, seconds))
        self._began = time.monotonic()
        outcome = f"done in {duration(seconds)}" if arm.status == "done" else f"FAILED: {arm.reason}"
        self._live.say(f"  {self._name}: {arm.recipe} {outcome}; {self._left()}")

    def _left(self) -> str:
        """What the predictions of the runs to come leave, corrected by how wrong they have been so far."""
        predicted, measured = (sum(values) for values in zip(*self._spent, strict=True))
        factor = measured / predicted if predicted else 1.0
        left = factor * sum(self._predicted[self._place + 1 :])
        return f"at most about {duration(left)} left after this run" if left else "nearly done"

"""The live view of a pretraining on standard error: a bar with the loss and the time left."""

from __future__ import annotations

import time
from typing import Self

from opportune.cli.live import Live
from opportune.pretraining.order import Plan
from opportune.report.numbers import duration


class PretrainingView:
    """The live view on standard error: a bar with the time left; without a terminal a line now and then."""

    def __init__(self) -> None:
        self._live = Live("{task.description}", width=30, after=("{task.fields[left]}",), left="")
        self._steps, self._seen, self._seconds, self._said, self._step = 0, 0, 0.0, time.monotonic(), 0

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.__exit__(*exc)

    def stage(self, name: str) -> None:
        self._live.say(f"  {name} ...")

    def planned(self, plan: Plan) -> None:
        size = plan.size
        self._steps = plan.steps
        self._live.say(
            f"  {size.parameters:,} parameters: {size.layers} layers, {size.width} wide, vocabulary "
            f"{size.vocabulary:,}\n  {plan.tokens:,} tokens ({plan.tokens / plan.corpus_tokens:.1f} passes) in "
            f"{plan.steps:,} steps, highest learning rate {plan.rate:g}; about "
            f"{duration(plan.predicted.seconds or 0.0)} predicted"
        )

    def step(self, step: int, loss: float, seconds: float) -> None:
        if self._seen == 0 and step > 1:
            self._live.say(f"  going on after step {step - 1:,}")
        self._seen, self._seconds, self._step = self._seen + 1, self._seconds + seconds, step
        self._live.show(completed=step, total=self._steps, description=f"loss {loss:.3f}", left=self._left())
        if not self._live.is_terminal and time.monotonic() - self._said > 30:
            self._said = time.monotonic()
            self._live.say(f"  step {step:,} of {self._steps:,}: loss {loss:.3f}, {self._left()}")

    def validated(self, loss: float) -> None:
        if self._step:
            self._live.say(f"  step {self._step:,} of {self._steps:,}: validation loss {loss:.3f}, {self._left()}")

    def _left(self) -> str:
        return f"about {duration((self._steps - self._step) * self._seconds / max(self._seen, 1))} left"

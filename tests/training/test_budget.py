"""A budget of tokens holds, whatever the lessons, the rates and the seed; and it is not left lying about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.errors import TrainingError
from opportune.methods.lora import Lora
from opportune.training.budget import affordable_steps
from opportune.training.loop import Settings, total_steps
from opportune.training.loss import lesson_loss
from opportune.training.packing import TokenLesson
from opportune.training.rates import train_at_best_rate
from tests.training.tiny import lessons, llama

RATES = (1e-4, 3e-4, 1e-3, 3e-3)


@pytest.mark.parametrize("budget", [1_200, 2_000, 5_000])
@pytest.mark.parametrize("seed", [0, 1])
def test_all_steps_together_stay_within_it(budget: int, seed: int, tmp_path: Path) -> None:
    made, network = lessons(24, seed=seed), Lora(rank=2).attach(llama(), 0)
    settings = Settings(rate=0.0, epochs=8, batch=2, seed=seed, patience=100)
    settings = replace(settings, most_steps=affordable_steps(made, settings, len(RATES), budget))

    def look() -> dict[str, float]:
        return {"loss": lesson_loss(network, made[:4])}

    choice = train_at_best_rate(network, made, settings, RATES, tmp_path, look, look)
    spent = sum(step.tokens for trial in choice.trials for step in trial.steps)
    assert len(choice.trial.steps) == total_steps(len(made), settings)
    assert choice.trial.evaluations[-1].step == len(choice.trial.steps)  # looked at, whole epoch or not
    assert budget - 4 * 2 * max(len(lesson.ids) for lesson in made) < spent <= budget  # not a step more would fit


def test_a_single_step_is_not_taken_twice(tmp_path: Path) -> None:
    made, network = lessons(24), Lora(rank=2).attach(llama(), 0)
    settings = replace(Settings(rate=0.0, epochs=1, batch=8), most_steps=1)
    taken: list[int] = []

    def look() -> dict[str, float]:
        return {"loss": lesson_loss(network, made[:4])}

    choice = train_at_best_rate(
        network, made, settings, RATES, tmp_path, look, look, lambda step: taken.append(step.step)
    )
    assert taken == [1] * len(RATES)
    assert choice.trial.loss == lesson_loss(network, made[:4])


def test_every_epoch_is_looked_at_those_of_the_probes_too(tmp_path: Path) -> None:
    made, network = lessons(12), Lora(rank=2).attach(llama(), 0)
    settings = Settings(rate=0.0, epochs=16, batch=6, patience=100)
    losses = iter([*(5.0 + n for n in range(2)), *(7.0 + n for n in range(99))])
    choice = train_at_best_rate(
        network, made, settings, (1e-4,), tmp_path, lambda: {"loss": 1.0}, lambda: {"loss": next(losses)}
    )
    assert [each.step for each in choice.trial.evaluations] == [2 * epoch for epoch in range(1, 17)]
    assert choice.trial.best == choice.trial.evaluations[0]  # within the probe, which took the first four steps


@given(
    st.lists(st.integers(2, 60), min_size=1, max_size=30),
    st.integers(1, 5),
    st.sampled_from([1, 2, 4]),
    st.integers(100, 20_000),
)
def test_more_budget_is_never_fewer_steps(lengths: list[int], batch: int, rates: int, budget: int) -> None:
    made = [TokenLesson(tuple(range(length)), 1) for length in lengths]
    settings = Settings(rate=1.0, epochs=3, batch=batch)

    def steps(tokens: int) -> int:
        try:
            return affordable_steps(made, settings, rates, tokens)
        except TrainingError:
            return 0

    found = steps(budget)
    assert 0 <= found <= total_steps(len(made), settings)
    assert steps(budget * 3) >= found
    assert steps(rates * settings.epochs * sum(lengths)) == total_steps(len(made), settings)


def test_a_budget_that_buys_nothing_is_said() -> None:
    with pytest.raises(TrainingError, match="budget=10 is too small: a step takes about"):
        affordable_steps(lessons(4), Settings(rate=0.0, epochs=1, batch=2), 4, 10)

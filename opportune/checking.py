"""What can be known to fail before anything is asked: recipes that do not fit the task, a metric that cannot score."""

from __future__ import annotations

from collections.abc import Sequence

from opportune.errors import RecipeError
from opportune.models.endpoint import is_remote
from opportune.models.pool import ModelPool
from opportune.recipe import Arm, model_ref
from opportune.strategies.lessons import lacking
from opportune.types import Graded, Metric, Task


def check_arms(arms: Sequence[Arm], task: Task) -> None:
    """Start every asking strategy once without a model: a k larger than train, say, is found. Raises RecipeError."""
    for arm in arms:
        if arm.methods and arm.model and is_remote(arm.model):
            raise RecipeError(
                f"recipe {arm.text!r} trains, but {arm.model} is an endpoint, whose weights are not here: give a local "
                "model after '@'"
            )
        if arm.methods:
            check_lessons(arm, task)
    for strategy in (strategy for arm in arms for strategy in arm.candidates if strategy.needs_model):
        flow = strategy.prepare(task.view(), 0)
        next(flow, None)
        flow.close()


def check_metric(metric: Metric, task: Task, pool: ModelPool) -> None:
    """Score a right answer, or find the grader. Raises OpportuneError for a function that fails, a grader not there."""
    if isinstance(metric, Graded):
        ref = model_ref(metric.model)
        if not is_remote(ref):
            pool.locate(ref)
        return
    for example in task.test[:1]:
        metric.score(example.target, example)


def check_lessons(arm: Arm, task: Task) -> None:
    """Training learns from train, its rate and length are chosen on dev: each must have something to teach by. Raises
    RecipeError."""
    for split in ("train", "dev"):
        found = [lacking(arm.strategy, example) for example in task.split(split)]
        if all(found):
            raise RecipeError(f"recipe {arm.text!r} has nothing to teach by: no {split} example has {found[0]}")

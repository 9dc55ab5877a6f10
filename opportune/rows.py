"""What a comparison is: a row per recipe over the same examples, the reference and the recommendation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from statistics import fmean
from typing import Literal

from opportune.cost import Amount, Cost
from opportune.records import ArmStatus, Facts, Gap, Latency, LossChange, ModelConfig, ReadText, TaskConfig
from opportune.scoring import Estimate
from opportune.shift import Shift

Unit = Literal["dollars", "seconds"]


@dataclass(frozen=True, slots=True)
class Versus:
    """An arm's score less the reference's on the same test examples."""

    difference: float
    low: float
    high: float
    p: float
    p_holm: float  # corrected for the number of arms compared
    discordant: float  # share of examples on which just one of the two is right


@dataclass(frozen=True, slots=True)
class Class:
    """How often examples of one label were answered right."""

    label: str
    recall: float | None  # None when every call failed
    count: int


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often examples of `target` were answered with `answer` (None: unparsed); failed calls are left out."""

    target: str
    answer: str | None
    count: int


@dataclass(frozen=True, slots=True)
class SeedResult:
    """One seed of an arm."""

    seed: int
    status: ArmStatus
    score: float | None
    dev_score: float | None
    facts: Facts


@dataclass(frozen=True, slots=True)
class Row:
    """One recipe. Amounts are of one seed (their mean over seeds); counts are of all seeds together."""

    recipe: str
    hash: str
    model: str | None
    status: ArmStatus
    reason: str | None
    score: Estimate | None  # on test; None when the arm failed or has not come so far
    n: int  # test examples
    failed: int
    unparsed: int
    dev_score: float | None
    versus: Versus | None  # None for the reference itself and where there is no score
    predicted: Cost | None
    measured: Cost
    asking_per_1000_predicted: Amount | None
    asking_per_1000: Amount
    latency: Latency | None
    saved: Amount | None  # what sharing with other arms saved; not part of the cost
    cached: Amount | None  # what answers kept from earlier runs saved; not taken off the cost either
    grading: Amount | None  # what a model that grades used on test; on no arm's bill
    shots_dropped: int
    tokens_cut: int
    seeds: tuple[SeedResult, ...]
    classes: tuple[Class, ...]
    confusion: tuple[Confusion, ...]
    lessons_cut: int = 0  # lessons of a training, of the seed that lost most
    shift: Shift | None = None  # None where no answer came with a probability for each choice
    why: str | None = None  # why reasoning did not help here, where it did not

    @property
    def rate_at_edge(self) -> bool:
        """Whether the best learning rate was an end of its grid: a better one may lie outside."""
        return any(seed.facts.rate_at_edge for seed in self.seeds)

    @property
    def forgetting(self) -> LossChange | None:
        """What training did to the loss on general text, the mean over seeds."""
        return _mean_change([seed.facts.forgetting for seed in self.seeds if seed.facts.forgetting is not None])

    @property
    def gap(self) -> Gap | None:
        """The generalisation gap, the mean over seeds; open where it is for any."""
        found = [seed.facts.gap for seed in self.seeds if seed.facts.gap is not None]
        if not found:
            return None
        errors = [gap.error for gap in found if gap.error is not None]
        error = fmean(errors) if errors else None
        return Gap(fmean(g.train for g in found), fmean(g.dev for g in found), error, any(g.opened for g in found))

    @property
    def read(self) -> tuple[ReadText, ...]:
        """What each method of the chain that reads raw text read, and what it gained, the mean over seeds."""
        some = zip(*(seed.facts.read for seed in self.seeds if seed.facts.read), strict=True)
        return tuple(replace(texts[0], held_out=_mean_change([text.held_out for text in texts])) for texts in some)

    @property
    def trainable_parameters(self) -> int | None:
        """How many numbers the training moved; of a chain, all its methods together."""
        return next((seed.facts.trainable_parameters for seed in self.seeds), None)

    @property
    def artefact_bytes(self) -> int | None:
        """How large the trained weights are as files, the mean over seeds."""
        found = [seed.facts.artefact_bytes for seed in self.seeds if seed.facts.artefact_bytes is not None]
        return round(fmean(found)) if found else None

    @property
    def reconsidered(self) -> dict[str, float] | None:
        """The shares of the answers that reviews `changed`, `mended` and `spoilt`, the mean over seeds."""
        found = [seed.facts.revised for seed in self.seeds if seed.facts.revised is not None]
        return {name: fmean(shares[name] for shares in found) for name in found[0]} if found else None

    @property
    def diverged(self) -> tuple[float, ...]:
        """The learning rates that were tried and did not even train."""
        return tuple(sorted({trial.rate for seed in self.seeds for trial in seed.facts.trials if trial.diverged}))

    @property
    def interval(self) -> str | None:
        """The score's interval as two percentages."""
        return None if self.score is None else f"{100 * self.score.low:.1f} to {100 * self.score.high:.1f}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything the table, the page and the JSON show."""

    run: str
    created: str
    task: TaskConfig
    sizes: dict[str, int]  # examples by split
    models: tuple[ModelConfig, ...]
    seeds: tuple[int, ...]
    tolerance: float  # a share: 3 points are 0.03
    unit: Unit  # what is compared as the price of an arm
    rows: tuple[Row, ...]  # in the order the arms were asked for
    reference: str | None  # the leader on dev
    recommended: str | None
    recommendation_text: str
    more_examples: int | None  # how many more would tell the reference and the best cheaper arm apart
    report: str | None = None  # path of the page, where it was written

    def row(self, recipe: str | None) -> Row | None:
        """The row of a recipe."""
        return next((row for row in self.rows if row.recipe == recipe), None)


def _mean_change(changes: Sequence[LossChange]) -> LossChange | None:
    if not changes:
        return None
    before, after = (fmean(getattr(change, name) for change in changes) for name in ("before", "after"))
    return replace(changes[0], before=before, after=after)


def mean_amount(amounts: list[Amount]) -> Amount:
    """The mean of amounts where known, counts to the nearest whole; the peak is the largest."""
    return sum(amounts, Amount()).scaled(1 / max(len(amounts), 1))


def mean_cost(costs: list[Cost]) -> Cost:
    """The mean bill, item by item."""
    return Cost(**{item.name: mean_amount([getattr(cost, item.name) for cost in costs]) for item in fields(Cost)})

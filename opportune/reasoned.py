"""Why a technique that reasons before it answers did no better than asking directly: a sentence, from the figures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opportune import scoring
from opportune.records import Facts, ModelConfig
from opportune.rows import Row
from opportune.scoring import Difference, Sample

# What each needs, as its paper found it.
NEEDS: Mapping[str, str] = {
    "chain-of-thought": "Wei et al. 2022 saw models of up to 8 billion parameters lose by it on word problems",
    "self-consistency": "Wang et al. 2022 found nothing to vote on where single answers are at the floor",
    "least-to-most": "Zhou et al. 2022 saw it fail on smaller models, which do not copy reliably",
    "step-back": "its papers used models of hundreds of billions of parameters",
}
_DIRECT = ("zero-shot", "k-shot", "template")
_LARGE = 20e9  # parameters from which on size is no reason any more
_UNREADABLE = 0.05  # shares from which on they are worth a word
_DISAGREEING = 0.6


@dataclass(frozen=True, slots=True)
class Candidate:
    """An arm as far as it is needed here."""

    row: Row
    sample: Sample | None  # on test
    facts: tuple[Facts, ...]


def explained(arms: Sequence[Candidate], models: Sequence[ModelConfig]) -> dict[str, str]:
    """A sentence by the hash of each untrained arm that reasons and scores no more than the best direct one, by dev, of
    its model."""
    sizes = {model["name"]: model["parameters"] for model in models}
    found = {}
    for arm in arms:
        direct = _direct(arm, arms)
        if _technique(arm.row) not in NEEDS or direct is None or arm.sample is None or direct.sample is None:
            continue
        difference = scoring.difference(arm.sample, direct.sample)
        if difference is not None and difference.value <= 0:
            found[arm.row.hash] = _sentence(arm, direct, difference, _chance(arms), sizes.get(arm.row.model or "", 0))
    return found


def _technique(row: Row) -> str | None:
    """What its recipe begins with: the strategy, where nothing is trained before it."""
    return re.split("[:@]", row.recipe)[0] if row.status == "done" and row.model is not None else None


def _direct(arm: Candidate, arms: Sequence[Candidate]) -> Candidate | None:
    there = [a for a in arms if _technique(a.row) in _DIRECT and a.row.model == arm.row.model and a.sample is not None]
    return max(there, key=lambda a: a.row.dev_score or 0.0, default=None)


def _chance(arms: Sequence[Candidate]) -> float:
    """What is scored without a thought: the most frequent label always, else any label; in free text nothing."""
    majority = next((a.row.score for a in arms if a.row.recipe == "majority" and a.row.score), None)
    if majority is not None:
        return majority.value
    labels = max((len(a.row.classes) for a in arms), default=0)
    return 1 / labels if labels else 0.0


def _sentence(arm: Candidate, direct: Candidate, difference: Difference, chance: float, size: int) -> str:
    between = f"{_points(difference.low)} to {_points(difference.high)}"
    verdict = (
        f"scores {_points(difference.value)} points ({between}) against {direct.row.recipe}, which answers at once"
    )
    reasons = [*_figures(arm), *_floor(direct, chance)]
    if not reasons:
        often = "more often" if difference.value < 0 else "as often"
        reasons = [f"its answers can be read, and are wrong {often}"]
    if 0 < size < _LARGE:
        name = _technique(arm.row) or ""
        reasons.append(
            f"the technique needs a more capable model than one of {_billions(size)} parameters ({NEEDS[name]})"
        )
    return f"{arm.row.recipe} {verdict}: {'; '.join(reasons)}."


def _figures(arm: Candidate) -> list[str]:
    """What its own answers show."""
    row, found = arm.row, []
    asked = row.n * max(len(row.seeds), 1)
    if asked and row.unparsed / asked >= _UNREADABLE:
        found.append(f"{row.unparsed / asked:.0%} of its answers could not be read")
    agreement = _mean([facts.agreement for facts in arm.facts])
    if agreement is not None and agreement < _DISAGREEING:
        found.append(f"only {agreement:.0%} of its samples agree with the answer they vote for")
    if row.reconsidered is not None:
        found.append(reviewed(row.reconsidered))
    return found


def reviewed(shares: Mapping[str, float]) -> str:
    """How often an answer was revised, and with what effect."""
    return (
        f"{shares['changed']:.0%} of its final answers differ from its drafts, {shares['mended']:.0%} wrong ones put "
        f"right and {shares['spoilt']:.0%} right ones spoilt"
    )


def _floor(direct: Candidate, chance: float) -> list[str]:
    score = direct.row.score
    if score is None or score.low > chance + 1e-9:
        return []
    what = f"{chance:.0%} is what a blind guess scores" if chance else "nothing is what a blind guess scores"
    return [f"asked directly the model is at chance already ({score.value:.0%}, where {what}), nothing to build upon"]


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


def _billions(size: int) -> str:
    return f"{size / 1e9:.3g} billion" if size >= 1e9 else f"{size / 1e6:.0f} million"

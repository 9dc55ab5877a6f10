"""Self-consistency: sample several answers, take the most frequent (Wang et al. 2022).

The samples of one prompt share its computation. Votes are unweighted, as the paper finds no gain in weights; of equals
the first one found wins.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from opportune.errors import RecipeError
from opportune.options import build, resolved, within
from opportune.spec import Part, Recipe
from opportune.strategies import wording
from opportune.strategies.lessons import lacking
from opportune.strategies.sampling import changed, seeded
from opportune.strategies.together import together
from opportune.types import Answer, Example, Flow, Lesson, Prompt, Question, Strategy, TaskView
from opportune.values import normalise


@dataclass(frozen=True, slots=True)
class SelfConsistency:
    """n sampled answers of another strategy, and the plurality of them."""

    n: int = 5
    of: Recipe | str = "chain-of-thought"  # a strategy, in parentheses where it has options
    temperature: float = 0.7

    summary: ClassVar[str] = "sample several reasoned answers, take the most frequent"
    source: ClassVar[str] = "Wang et al. 2022"
    needs_model: ClassVar[bool] = True

    def __post_init__(self) -> None:
        within("self-consistency", "n", self.n, 2, 1000)
        within("self-consistency", "temperature", self.temperature, 0.01, 10)
        part = self._part()
        object.__setattr__(self, "of", Recipe((resolved(part, self._inner()),)))

    def _part(self) -> Part:
        from opportune.strategies import TABLE

        recipe = self.of if isinstance(self.of, Recipe) else Recipe((Part(self.of),))
        part = recipe.parts[-1]
        if len(recipe.parts) > 1 or recipe.model or part.name not in TABLE or part.name == "self-consistency":
            allowed = ", ".join(name for name in TABLE if name != "self-consistency")
            raise RecipeError(f"self-consistency:of=({recipe}) is not one strategy that it can repeat: {allowed}")
        return part

    def _inner(self) -> Strategy:
        from opportune.strategies import TABLE

        part = self._part()
        inner: Strategy = build(part, TABLE[part.name])
        if not inner.needs_model:
            raise RecipeError(f"self-consistency:of={part.name}: it asks no model, so that all its answers are equal")
        return inner

    def prepare(self, task: TaskView, seed: int) -> Flow[tuple[Strategy, Any, int]]:
        """What the repeated strategy prepares, and the seed of the samples."""
        inner = self._inner()
        return inner, (yield from inner.prepare(task, seed)), seed

    def ask(self, question: Question, task: TaskView, prepared: tuple[Strategy, Any, int]) -> Flow[Answer]:
        """n conversations at once; `scores` are the shares of the votes, unparsed samples voting for nothing."""
        inner, settled, seed = prepared
        warm = partial(self._warm, seed=seed)
        answers = yield from together([changed(inner.ask(question, task, settled), warm) for _ in range(self.n)])
        raw = "\n---\n".join(answer.raw for answer in answers)
        texts = [answer.text for answer in answers if answer.text is not None]
        if not texts:
            return Answer(None, raw)
        # Free answers that the metrics hold equal vote together, under the first one's spelling.
        key = normalise if wording.choices_of(question, task) is None else str
        spelled = {key(text): text for text in reversed(texts)}
        votes = Counter(spelled[key(text)] for text in texts)
        return Answer(votes.most_common(1)[0][0], raw, {text: count / self.n for text, count in votes.items()})

    def _warm(self, prompt: Prompt, seed: int) -> Prompt:
        """With its answer sampled where it is written."""
        written = prompt.choices is None and not prompt.embed
        return seeded(replace(prompt, temperature=self.temperature), seed) if written else prompt

    def lacks(self, example: Example) -> str | None:
        """What an example would have to have to be taught by."""
        return lacking(self._inner(), example)

    def teach(self, example: Example, task: TaskView, prepared: tuple[Strategy, Any, int]) -> list[Lesson]:
        """What the repeated strategy teaches."""
        inner, settled, _ = prepared
        return inner.teach(example, task, settled)

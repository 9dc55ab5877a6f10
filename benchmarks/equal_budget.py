"""Equal tuning budgets: nine methods on TREC with 32 and 256 labels, 20,000 training tokens a run.

python -m benchmarks.equal_budget [--labels 32]

Each method at four learning rates on one seed; the best on dev on three seeds. Then what soft prompts hang on: their
beginning, and ten times the tokens. Forgetting is the loss on WikiText after training less that before. About two hours
on two cores, in as many sittings as one likes: what is measured is not measured again, and what is not is left out.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from benchmarks.common import note, options, save
from benchmarks.compared import row_of, task_of
from benchmarks.kept import keep_option, measure_kept
from opportune.answering import StoredArm
from opportune.models.local import Local
from opportune.recipe import arms
from opportune.rows import Comparison, Row
from opportune.spec import ModelRef
from opportune.store import Store
from opportune.training.loss import lesson_loss
from opportune.training.packing import TokenLesson
from opportune.types import Lesson, Message, Prompt, Task

METHODS = ("lora", "full", "ia3", "prompt-tuning", "prefix-tuning", "p-tuning", "bias", "norm", "adapter")
LABELS, SEEDS, TOKENS = (32, 256), 3, 20_000
INITS = ("labels", "text", "vocabulary", "random")
LONG = 10  # times the tokens, of the long prompt tuning
TOKENS_A_LESSON = 30  # the fewest that a lesson of TREC has: epochs enough for any budget
GENERAL = 20  # pieces of general text, half of each to be continued


class Bench:
    """One sitting."""

    def __init__(self, given: Any) -> None:
        self.given, self.quick = given, bool(given.quick)
        self.methods = given.method or METHODS
        self.seeds, self.tokens = (1, 400) if given.quick else (SEEDS, TOKENS)
        self.base: float | None = None  # loss on general text before training

    def task(self, labels: int) -> Task:
        """TREC with so many labelled examples."""
        dev, test = (4, 4) if self.quick else (60, 200)
        return task_of(self.given.data, "trec6", limit=f"train={labels},dev={dev},test={test}")

    def recipe(self, method: str, labels: int, rate: float, tokens: int | None = None, **more: object) -> str:
        """A recipe whose length the budget decides."""
        tokens = tokens or self.tokens
        chosen = {"rate": rate, "budget": tokens, "epochs": math.ceil(tokens / (TOKENS_A_LESSON * labels)), **more}
        written = ",".join(f"{name}={value}" for name, value in chosen.items())
        return f"{method}:{written}+zero-shot"

    def measure(self, task: Task, recipes: list[str], seeds: int = 1) -> Comparison:
        """One run, or what there is of it."""
        return measure_kept(task, recipes, self.given.model, self.given.runs, seeds)

    def method(self, name: str, labels: int) -> dict[str, Any]:
        """The rates on one seed, the best on several."""
        task, grid = self.task(labels), _grid(name)[: 1 if self.quick else None]
        tried = self.measure(task, [self.recipe(name, labels, rate) for rate in grid])
        done = [(row, rate) for row, rate in zip(tried.rows, grid, strict=True) if row.status == "done"]
        result: dict[str, Any] = {
            "labels": labels,
            "method": name,
            "rates": [
                {"rate": rate, "dev": row.dev_score, "test": row.score and row.score.value, "reason": row.reason}
                for row, rate in zip(tried.rows, grid, strict=True)
            ],
        }
        if not done:
            return result
        best, rate = max(done, key=lambda pair: pair[0].dev_score or 0.0)
        final = self.measure(task, [best.recipe], self.seeds)
        row = final.rows[0]
        note(f"{labels} labels, {name}: {row.score and row.score.value:.3f} at {rate:g}")
        at_edge = rate in (grid[0], grid[-1])
        return result | {"rate": rate, "rate_at_edge": at_edge} | row_of(row) | self.costs(final, row)

    def costs(self, found: Comparison, row: Row) -> dict[str, Any]:
        """What training took, what it left, and what was forgotten."""
        facts = row.seeds[0].facts
        return {
            "trainable": facts.trainable_parameters,
            "artefact_bytes": _size(facts.artefact),
            "training_seconds": row.measured.training.seconds,
            "training_flops": row.measured.training.flops,
            "peak_bytes": row.measured.training.peak_bytes,
            "forgetting": self.forgetting(found, row),
        }

    def forgetting(self, found: Comparison, row: Row) -> float | None:
        """Nats a token of general text: after training less before."""
        if row.status != "done":
            return None
        with Store.open(self.given.runs) as store:
            arm = StoredArm.find(store, found.run, row.recipe)
            known = arm.known()
            if self.base is None:
                self.base = self.general_loss(arm.base(known["device"], known["dtype"]))
            model = arm.model()
        assert isinstance(model, Local)
        return round(self.general_loss(model) - self.base, 4)

    def general_loss(self, model: Local) -> float:
        """Of the second half of some pieces of WikiText, asked like any prompt, soft prompt included."""
        text = Path(self.given.data, "wikitext2_small", "test.txt").read_text(encoding="utf-8")
        pieces = [piece.strip() for piece in text.split("\n") if len(piece.strip()) > 600]
        lessons = []
        for piece in pieces[: 2 if self.quick else GENERAL]:
            before, after = piece[:300], piece[300:1200]
            prompt = Prompt((Message("user", before),), format="plain")
            ids, start = model.tokenise_lesson(Lesson(prompt, after))
            lessons.append(TokenLesson(tuple(ids), start))
        return lesson_loss(model.network, lessons)

    def soft_prompts(self, rate: float, labels: int) -> list[dict[str, Any]]:
        """What prompt tuning begins from, and a long training."""
        task = self.task(labels)
        inits = INITS[:1] if self.quick else INITS
        recipes = [self.recipe("prompt-tuning", labels, rate, init=init) for init in inits]
        recipes.append(self.recipe("prompt-tuning", labels, rate, tokens=self.tokens * (2 if self.quick else LONG)))
        found = self.measure(task, recipes)
        named = [*(f"init={init}" for init in inits), f"{LONG} times the tokens"]
        return [{"what": what, **row_of(row)} for what, row in zip(named, found.rows, strict=True)]


def main() -> None:
    """Everything asked for; the file is written after each method."""
    parser = keep_option(options(__doc__ or ""))
    parser.add_argument("--labels", type=int, action="append", help="repeatable (default: 32 and 256)")
    parser.add_argument("--method", action="append", choices=METHODS, help="repeatable (default: all)")
    given = parser.parse_args()
    bench, rows, soft = Bench(given), list[dict[str, Any]](), list[dict[str, Any]]()

    def keep() -> None:
        work = f"TREC, {bench.tokens} training tokens a run, {bench.seeds} seeds at the best of the rates"
        figures = {"work": work, "quick": given.quick, "general_loss_before": bench.base, "rows": rows, "soft": soft}
        save(given.out, "equal-budget", figures)

    for labels in given.labels or ((8,) if given.quick else LABELS):
        for name in bench.methods:
            rows.append(bench.method(name, labels))
            keep()
    tuned = [row for row in rows if row["method"] == "prompt-tuning" and "rate" in row]
    if tuned:
        soft += bench.soft_prompts(tuned[-1]["rate"], tuned[-1]["labels"])
        keep()


def _grid(method: str) -> tuple[float, ...]:
    (arm,) = arms(f"{method}+zero-shot", (ModelRef("any"),))
    return tuple(arm.methods[0].grid)


def _size(artefact: str | None) -> int | None:
    if artefact is None:
        return None
    return sum(path.stat().st_size for path in Path(artefact).rglob("*.safetensors"))


if __name__ == "__main__":
    main()

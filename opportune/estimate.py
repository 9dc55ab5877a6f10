"""What an arm will cost, before it runs: its own prompts and lessons, counted on a sample without computing any.

The strategy converses with a model that answers blank, so prompts are counted as they will be asked, shared beginnings
once. Work becomes time through one measurement of this machine's matrix products at the model's own size.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from opportune import evaluate
from opportune.corpus.material import material_of
from opportune.cost import Amount, Cost
from opportune.errors import ModelError, OwnCodeError, UnpredictableError
from opportune.evaluate import NoJournal
from opportune.inference.flops import Shape, backward_flops, forward_flops, shape_of
from opportune.inference.tokens import shared_length
from opportune.inference.tree import Item
from opportune.models.endpoint import Endpoint
from opportune.models.local import Local
from opportune.peaks import asking_peak, training_peak, without_storage
from opportune.reading import Reads
from opportune.recipe import Arm
from opportune.strategies.lessons import lacking
from opportune.training.loop import Settings, total_steps
from opportune.training.memory import TILE
from opportune.training.packing import TokenLesson
from opportune.training.rates import FINALISTS, overhead
from opportune.types import Completion, Example, Method, ModelInfo, Prompt, Task, TaskView

SAMPLE = 8  # questions and lessons that are counted


@dataclass(frozen=True, slots=True)
class _Speeds:
    """FLOP/s, or shares of those of bare matrix products: of whole passes over many rows, of passes with one row an
    answer, and of training steps."""

    reading: float
    writing: float
    training: float


# Read from measured arms; the ledger corrects them on each machine. Where products are faster (bfloat16), everything
# between them weighs more.
_FLOAT32, _SHORTER = _Speeds(0.9, 0.45, 0.75), _Speeds(0.68, 0.4, 0.5)


@dataclass(slots=True)
class _Blank:
    """Answers every prompt with nothing, and counts its tokens."""

    model: Local
    items: list[Item] = field(default_factory=list)
    written: int = 0

    @property
    def info(self) -> ModelInfo:
        return self.model.info

    def complete(self, prompts: Sequence[Prompt], known: Mapping[int, Completion]) -> Iterator[tuple[int, Completion]]:
        self.items += self.model.items(prompts)
        for index, prompt in enumerate(prompts):
            if prompt.choices is None:
                self.written += prompt.max_tokens * prompt.samples
            scores = None if prompt.choices is None else (0.0,) * len(prompt.choices)
            yield index, Completion("", ("",) * prompt.samples, scores)


@dataclass(slots=True)
class _BlankEndpoint:
    """The same for a model behind a server, which is not asked; tokens are counted as about a fourth of the bytes."""

    model: Endpoint
    used: Amount = field(default_factory=Amount)

    @property
    def info(self) -> ModelInfo:
        return self.model.info

    def complete(self, prompts: Sequence[Prompt], known: Mapping[int, Completion]) -> Iterator[tuple[int, Completion]]:
        for index, prompt in enumerate(prompts):
            tokens_in, tokens_out = self.model.expected(prompt)
            self.used += Amount(tokens_in=tokens_in, tokens_out=tokens_out, calls=1)
            scores = None if prompt.choices is None else (0.0,) * len(prompt.choices)
            yield index, Completion("", ("",) * prompt.samples, scores)


def predict(arm: Arm, task: Task, model: Local | Endpoint, seed: int) -> Cost | None:
    """The predicted bill of an arm that asks a model; None where none can be told. Raises RecipeError as it would."""
    try:
        if isinstance(model, Endpoint):
            return _predict_remote(arm, task, model, seed)
        return _predict(arm, task, model, seed)
    # Blank answers are not what the user's code need stand; a prompt that no context holds is for the arm to say.
    except (ModelError, OwnCodeError, UnpredictableError):
        return None


def _predict_remote(arm: Arm, task: Task, model: Endpoint, seed: int) -> Cost:
    """Tokens, calls and dollars; how long a server takes nobody can tell."""
    view, preparing = task.view(), _BlankEndpoint(model)
    prepared = evaluate.prepare(arm.strategy, view, seed, preparing, NoJournal())

    def asked(examples: Sequence[Example]) -> Amount:
        sample, counted = examples[:SAMPLE], _BlankEndpoint(model)
        _hold(arm, view, prepared, sample, counted)
        return counted.used.scaled(len(examples) / max(len(sample), 1))

    # Of several candidates each prepares and answers dev.
    tuning = (preparing.used + asked(task.dev)).scaled(len(arm.candidates))
    return Cost(tuning=model.priced(tuning), asking=model.priced(asked(task.test)))


def _predict(arm: Arm, task: Task, model: Local, seed: int) -> Cost:
    view, blank = task.view(), _Blank(model)
    prepared = evaluate.prepare(arm.strategy, view, seed, blank, NoJournal())
    shape, speed = shape_of(model.network), _speed(model.network)
    preparing = _asking(blank, 1, 1, shape, speed)

    def asked(examples: Sequence[Example]) -> Amount:
        sample, counted = examples[:SAMPLE], _Blank(model)
        _hold(arm, view, prepared, sample, counted)
        return _asking(counted, len(sample), len(examples), shape, speed)

    dev = asked(task.dev)
    tuning, training = (preparing + dev).scaled(len(arm.candidates)), Amount()
    for method, attached in zip(arm.methods, without_storage(model.network, arm.methods), strict=True):
        if isinstance(method, Reads):
            material = material_of(method.reading, model.tokenizer, model.context)
            lessons = [lesson.ids for lesson in material.lessons[:SAMPLE]]
            number, targets = len(material.lessons), method.reading.block
        else:
            able = [example for example in task.train if lacking(arm.strategy, example) is None]
            taught = [lesson for e in able[:SAMPLE] for lesson in arm.strategy.teach(e, view, prepared)]
            lessons = [tuple(model.tokenise_lesson(lesson)[0]) for lesson in taught]
            number, targets = len(able) * len(taught) // min(SAMPLE, len(able)), 3
        course = _course(method, attached, lessons, number, targets, speed)
        course += Amount(peak_bytes=_training_peak(model, method, attached, lessons, targets))
        rates, epochs = 1 if method.rate else len(method.grid), float(method.epochs)
        if method.budget is not None and course.tokens_in:
            share = min(1.0, method.budget / (1 + overhead(rates)) / course.tokens_in)
            course, epochs = course.scaled(share), epochs * share
        # After every epoch of a run to the end dev is asked; that is time, its tokens are on no bill.
        judged = Amount() if isinstance(method, Reads) else Amount(seconds=math.ceil(epochs) * (dev.seconds or 0.0))
        training += course + judged
        tuning += course.scaled(overhead(rates)) + judged.scaled(min(rates, FINALISTS) - 1)
    return Cost(Amount(), tuning, training, asked(task.test))


def _hold(
    arm: Arm, view: TaskView, prepared: Any, examples: Sequence[Example], counting: _Blank | _BlankEndpoint
) -> None:
    """The conversations of these examples, with what answers nothing and counts."""
    flows = {example.id: arm.strategy.ask(example.question, view, prepared) for example in examples}
    evaluate.converse(flows, counting, NoJournal())


def _asking(counted: _Blank, sample: int, questions: int, shape: Shape, speed: _Speeds) -> Amount:
    """The sample's tokens scaled to all questions, the shared beginning once."""
    items = counted.items
    if not items:
        return Amount()
    depth = shared_length([item.trunk for item in items]) if len(items) > 1 else 0
    factor, written = questions / sample, counted.written
    own = sum(item.tokens(depth) for item in items)
    rows = sum(1 + sum(len(branch) - 1 for branch in item.branches) for item in items)
    read: float = forward_flops(shape, depth, depth * depth // 2, 0)
    read += factor * forward_flops(shape, own, own * (depth + TILE), rows)
    wrote = factor * forward_flops(shape, written, written * (depth + TILE), written)
    return Amount(
        tokens_in=round(factor * sum(len(item.trunk) for item in items)),
        tokens_out=round(factor * counted.written),
        calls=round(factor * len(items)),
        flops=read + wrote,
        seconds=read / speed.reading + wrote / speed.writing,
        peak_bytes=asking_peak(counted.model, items, counted.written),
    )


def _course(
    method: Method, attached: Any, lessons: Sequence[Sequence[int]], number: int, targets: int, speed: _Speeds
) -> Amount:
    """All steps at one learning rate; the beginning that lessons share is computed once a step, the head on so many
    targets of each."""
    settings = Settings(rate=0.0, epochs=method.epochs, batch=method.batch)
    steps, shape = total_steps(number, settings), shape_of(attached)
    virtual = getattr(attached, "virtual_tokens", 0)
    depth = virtual + (shared_length([list(lesson) for lesson in lessons]) if len(lessons) > 1 else 0)
    mean = virtual + sum(map(len, lessons)) / len(lessons)
    tokens = round(settings.epochs * number * (mean - depth) + steps * depth)
    work = (shape, tokens, tokens * (depth + TILE), settings.epochs * number * targets)
    flops = float(forward_flops(*work) + backward_flops(*work))
    return Amount(seconds=flops / speed.training, tokens_in=round(settings.epochs * number * mean), flops=flops)


def _training_peak(model: Local, method: Method, attached: Any, lessons: Sequence[Sequence[int]], targets: int) -> int:
    taught = [TokenLesson(tuple(ids), max(1, len(ids) - targets)) for ids in lessons if len(ids) > 1]
    return training_peak(model, attached, taught * -(-method.batch // len(taught)), method.batch)


def _speed(network: Any) -> _Speeds:
    """From the product of this network's own widest layer."""
    import torch

    weights = [p for p in network.get_decoder().parameters() if p.ndim == 2 and p.is_floating_point()]
    narrow = [weight for weight in weights if weight.shape[0] < 32_000]  # without the embedding
    weight = max(narrow or weights, key=lambda p: p.numel())
    bare = _product_speed(tuple(weight.shape), weight.dtype, weight.device)
    share = _FLOAT32 if weight.dtype == torch.float32 else _SHORTER
    return _Speeds(bare * share.reading, bare * share.writing, bare * share.training)


@cache
def _product_speed(shape: tuple[int, int], dtype: Any, device: Any) -> float:
    import torch

    from opportune.products import linear

    rows = torch.ones(512, shape[1], dtype=dtype, device=device)
    weight = torch.ones(shape, dtype=dtype, device=device)
    work, times = 2.0 * 512 * shape[0] * shape[1], []
    for _ in range(12):
        began = time.perf_counter()
        float(linear(rows, weight)[0, 0])  # reading a value waits for the device
        times.append(time.perf_counter() - began)
    return work / sorted(times)[len(times) // 2]

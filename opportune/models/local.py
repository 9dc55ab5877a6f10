"""A local checkpoint, asked through the token tree where its attention allows it and plainly where it does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from opportune.cost import Amount
from opportune.inference.attention import Prefix
from opportune.inference.decoding import Request, Sample
from opportune.inference.embedding import embed, embed_plainly
from opportune.inference.engine import Engine
from opportune.inference.generation import generate, generate_plainly, groups
from opportune.inference.modes import evaluating
from opportune.inference.prompts import LessonTokens, Prepared, Preparer
from opportune.inference.ranking import rank, rank_plainly
from opportune.inference.tokens import shared_length
from opportune.inference.tree import Item, common_prefix, packs, plant
from opportune.inference.workers import side_by_side
from opportune.types import Completion, Lesson, ModelInfo, Prompt, Usage

_STEPS_TO_PACK = 64  # of decoding: laying the weights out costs about twenty times what it saves in a step
_Run = Callable[[], Sequence[list[float]] | Sequence[list[Sample]]]


@dataclass(frozen=True, slots=True)
class _Work:
    """Prompts that are computed together, the tokens of each by which the bill is shared, and how: `run` gives each
    one's scores or samples."""

    members: list[Prepared]
    tokens: list[int]
    run: _Run


class Local:
    """A transformers network and its tokenizer as a Model. The network's weights must not change during its life."""

    summary: ClassVar[str] = "a local checkpoint: a Hugging Face folder, a GGUF file or a hub name"
    source: ClassVar[str] = "transformers (Wolf et al. 2020); token tree: inference/tree.py"

    def __init__(self, network: Any, tokenizer: Any, info: ModelInfo) -> None:
        self.network, self.tokenizer, self.info = network, tokenizer, info
        config = network.config.get_text_config()
        self.context: int | None = getattr(config, "max_position_embeddings", None)  # tokens
        first = getattr(network.get_input_embeddings(), "size", 0)  # the ids of virtual tokens follow the vocabulary's
        virtual = range(first, first + getattr(network, "virtual_tokens", 0))
        self._preparer = Preparer(tokenizer, self.context, virtual)
        self._engine = Engine(network)
        self._reuses = False

    def with_network(self, network: Any) -> Local:
        """The same tokenizer and name with another network: one that was trained or steered since. Nothing is warm."""
        return Local(network, self.tokenizer, self.info)

    def complete(self, prompts: Sequence[Prompt], known: Mapping[int, Completion]) -> Iterator[tuple[int, Completion]]:
        """Answer all prompts but the known ones, a pack or a decoding group at a time. See types.Model.

        Seconds and FLOPs of a pack are shared out by tokens; what is done once for all (preparing the prompts, reading
        the common prefix) is on the first answer. Raises ModelError for a prompt that cannot fit the context.
        """
        if len(known) >= len(prompts):
            return
        began = time.perf_counter()
        with evaluating(self.network):
            flops = self._engine.flops
            with torch.no_grad():  # never held while suspended: the caller's thread may want gradients
                every = self._works(self._preparer.prepare(prompts))
            first = (time.perf_counter() - began, self._engine.flops - flops)
            began = time.perf_counter()
            works = [work for work in every if any(each.index not in known for each in work.members)]
            with self._writing(every):  # as if nothing were known: what is left must come out as it would have
                for place, (results, flops) in side_by_side(
                    [partial(self._counted, w) for w in works], self._engine.device
                ):
                    work, seconds = works[place], time.perf_counter() - began
                    total = sum(work.tokens)
                    for each, tokens, result in zip(work.members, work.tokens, results, strict=True):
                        if each.index not in known:
                            bill = first[0] + seconds * tokens / total, first[1] + flops * tokens / total
                            first = (0.0, 0.0)
                            yield each.index, _completion(each, result, *bill)
                    began = time.perf_counter()

    def _counted(self, work: _Work) -> tuple[Any, float]:
        """A piece of work's results and FLOPs. Gradients are switched off thread by thread."""
        before = self._engine.flops
        with torch.no_grad():
            results = work.run()
        return results, self._engine.flops - before

    @contextmanager
    def reusing(self) -> Iterator[None]:
        """Within this block, prompts start from any prefix that is warm, as in serving. What is computed then depends
        on what was asked before."""
        self._reuses = True
        try:
            yield
        finally:
            self._reuses = False

    def priced(self, amount: Amount) -> Amount:
        """As it is: a local model's tokens have no price of their own."""
        return amount

    def items(self, prompts: Sequence[Prompt]) -> list[Item]:
        """The prompts as they would be asked, in tokens; nothing is computed."""
        return [each.item for each in self._preparer.prepare(prompts)]

    def next_token(self, prompt: Prompt) -> Tensor:
        """The log-probability of every token where the answer begins: [vocabulary], float32, on the CPU.

        Where the first tokens of all choices reach back into the prompt's last one, the answer begins there, as it
        does when the choices are ranked.
        """
        with evaluating(self.network), torch.no_grad():
            prepared = self._preparer.prepare([prompt])
            trunk = prepared[0].item.trunk
            if self._engine.own:
                prefix = self._prefix(prepared)
                depth = prefix.length if prefix else 0
                hidden, _ = self._engine.forward(plant([trunk[depth:]], depth), prefix)
                logits = self._engine.logits(hidden[-1:])
            else:
                logits, _ = self._engine.plainly(trunk)
            return logits[-1].log_softmax(-1).cpu()

    def tokenise_lesson(self, lesson: Lesson) -> tuple[list[int], int]:
        """A lesson's tokens, rendered as it will be asked: prompt, answer and what ends it; and the index of the first
        one to learn."""
        tokens = self.fitted_lesson(lesson)
        return tokens.ids, tokens.start

    def fitted_lesson(self, lesson: Lesson) -> LessonTokens:
        """The same, with what it lost to the context's limit."""
        return self._preparer.lesson(lesson)

    def _works(self, prepared: Sequence[Prepared]) -> list[_Work]:
        return [work for some in _by_kind(prepared).values() for work in self._pieces(some, self._prefix(some))]

    def _prefix(self, prepared: Sequence[Prepared]) -> Prefix | None:
        if not self._engine.own or prepared[0].prompt.embed:
            return None
        items = [each.item for each in prepared]
        warm = self._engine.kept(_shared_trunk(items)) if self._reuses else []
        return self._engine.prefix(warm or common_prefix(items, self._ends_line))

    def _ends_line(self, token: int) -> bool:
        return str(self.tokenizer.decode([token])).endswith("\n")

    def _pieces(self, prepared: Sequence[Prepared], prefix: Prefix | None) -> list[_Work]:
        """The pieces of work of prompts of one kind, asked after a prefix that all begin with."""
        by_index = {each.index: each for each in prepared}
        depth = prefix.length if prefix else 0

        def work(part: Sequence[Item] | Sequence[Request], run: _Run) -> _Work:
            return _Work([by_index[each.index] for each in part], [each.tokens(depth) for each in part], run)

        if prepared[0].prompt.choices is None and not prepared[0].prompt.embed:
            requests = [self._request(each) for each in prepared]
            teams = groups(requests, depth) if self._engine.own else [[request] for request in requests]
            return [work(team, partial(self._write, team, prefix)) for team in teams]
        items = [each.item for each in prepared]
        heaps = packs(items, depth, self._engine.budget) if self._engine.own else [[item] for item in items]
        if prepared[0].prompt.embed:
            return [work(heap, partial(self._embed, heap)) for heap in heaps]
        return [work(heap, partial(self._rank, heap, prefix)) for heap in heaps]

    @contextmanager
    def _writing(self, works: Sequence[_Work]) -> Iterator[None]:
        """The engine at writing, where so many steps are planned that it pays."""
        steps = [max(map(_to_write, work.members)) for work in works]
        rows = max((len(work.members) for work in works), default=0)
        with self._engine.writing(rows) if sum(steps) >= _STEPS_TO_PACK else nullcontext():
            yield

    def _embed(self, pack: Sequence[Item]) -> list[list[float]]:
        return embed(self._engine, pack) if self._engine.own else [embed_plainly(self._engine, pack[0])]

    def _rank(self, pack: Sequence[Item], prefix: Prefix | None) -> list[list[float]]:
        return rank(self._engine, pack, prefix) if self._engine.own else [rank_plainly(self._engine, pack[0])]

    def _write(self, group: Sequence[Request], prefix: Prefix | None) -> list[list[Sample]]:
        if self._engine.own:
            return generate(self._engine, group, prefix, self.tokenizer)
        return [generate_plainly(self._engine, group[0], self.tokenizer)]

    def _request(self, prepared: Prepared) -> Request:
        prompt, rendered = prepared.prompt, prepared.rendered
        return Request(
            prepared.index,
            prepared.item.trunk,
            rendered.text,
            rendered.before,
            prompt.samples,
            prompt.temperature,
            prompt.max_tokens,
            self._preparer.renderer.stops(prompt),
            self.ends(rendered.chat),
            prompt.seed,
        )

    def ends(self, chat: bool) -> frozenset[int]:
        """The tokens that end an answer: the model's own, and the turn's end in chat."""
        settings = getattr(self.network, "generation_config", None)
        own = getattr(settings, "eos_token_id", None)
        listed = [own] if isinstance(own, int) else list(own or [])
        ends = {*listed, self.tokenizer.eos_token_id} | ({self._preparer.renderer.turn_end()} if chat else set())
        return frozenset(end for end in ends if end is not None)


def _to_write(prepared: Prepared) -> int:
    """Tokens of an answer at most."""
    prompt = prepared.prompt
    return prompt.max_tokens if prompt.choices is None and not prompt.embed else 0


def _shared_trunk(items: Sequence[Item]) -> list[int]:
    """The tokens that all questions begin with."""
    trunks = [item.trunk for item in items]
    return trunks[0][: shared_length(trunks)] if len(trunks) > 1 else trunks[0]


def _by_kind(prepared: Sequence[Prepared]) -> dict[tuple[bool, bool], list[Prepared]]:
    """Prompts to rank, prompts to continue and texts to embed."""
    kinds: dict[tuple[bool, bool], list[Prepared]] = {}
    for each in prepared:
        kinds.setdefault((each.prompt.choices is None, each.prompt.embed), []).append(each)
    return kinds


def _completion(prepared: Prepared, result: Any, seconds: float, flops: float) -> Completion:
    fitted, ranked, embedded = prepared.fitted, prepared.prompt.choices is not None, prepared.prompt.embed
    return Completion(
        prompt=prepared.rendered.text,
        texts=() if ranked or embedded else tuple(sample.text for sample in result),
        scores=tuple(result) if ranked else None,
        vector=tuple(result) if embedded else None,
        usage=Usage(
            tokens_in=len(prepared.encoded.ids),
            tokens_out=0 if ranked or embedded else sum(sample.tokens for sample in result),
            seconds=seconds,
            flops=flops,
        ),
        shots_dropped=fitted.shots_dropped,
        tokens_cut=fitted.tokens_cut,
    )

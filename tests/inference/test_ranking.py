"""Scores from the token tree are those of one sequence at a time, on every architecture and in every packing."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opportune.inference.engine import Engine
from opportune.inference.ranking import rank, rank_plainly
from opportune.inference.tree import Item, common_prefix, packs
from tests.inference.tiny import PLAIN, TREE, network_of, plain_network_of

torch.set_num_threads(1)
tokens = st.integers(3, 12)  # few, so that branches share beginnings


@st.composite
def batches(draw: st.DrawFn) -> list[Item]:
    """Questions after a head that all share, or none, each with choices of one to four tokens."""
    head = draw(st.sampled_from([[], list(range(20, 60)), [*range(20, 37), 9, *range(20, 30)]]))
    trunks = draw(st.lists(st.lists(tokens, min_size=1, max_size=20), min_size=1, max_size=6))
    choices = st.lists(st.lists(tokens, min_size=1, max_size=4), min_size=1, max_size=6)
    return [Item(i, head + trunk, draw(choices)) for i, trunk in enumerate(trunks)]


@cache
def engine_of(name: str) -> Engine:
    return Engine(network_of(name))


@torch.no_grad()
def one_by_one(name: str, item: Item) -> list[float]:
    """The definition: a choice's score is the sum of the log-probabilities of its tokens."""
    network, scores = plain_network_cached(name), []
    for branch in item.branches:
        logits = network(input_ids=torch.tensor([item.trunk + branch]), use_cache=False).logits[0].log_softmax(-1)
        scores.append(sum(float(logits[len(item.trunk) - 1 + i, token]) for i, token in enumerate(branch)))
    return scores


plain_network_cached = cache(plain_network_of)


@pytest.mark.parametrize("name", TREE)
@settings(max_examples=12, deadline=None)
@given(items=batches(), budget=st.sampled_from([1, 16, 40, 512]))
@torch.no_grad()
def test_the_token_tree_scores_as_one_by_one(name: str, items: list[Item], budget: int):
    engine = engine_of(name)
    assert engine.own
    prefix = engine.prefix(common_prefix(items, lambda token: token == 9))
    for pack in packs(items, prefix.length if prefix else 0, budget):
        for item, scores in zip(pack, rank(engine, pack, prefix), strict=True):
            assert scores == pytest.approx(one_by_one(name, item), abs=1e-4)


@pytest.mark.parametrize("name", PLAIN)
@settings(max_examples=8, deadline=None)
@given(items=batches())
@torch.no_grad()
def test_what_the_tree_cannot_express_is_scored_plainly(name: str, items: list[Item]):
    engine = engine_of(name)
    assert not engine.own
    for item in items:
        assert rank_plainly(engine, item) == pytest.approx(one_by_one(name, item), abs=1e-4)


@torch.no_grad()
def test_a_prefix_is_computed_once_and_the_same_at_any_time():
    engine = Engine(network_of("llama"))
    head = list(range(20, 60))
    first = engine.prefix(head)
    assert first is not None
    assert engine.prefix(head) is first
    spent = engine.flops
    for other in range(5):
        engine.prefix(head[other + 1 :])
    again = engine.prefix(head)
    assert engine.flops > spent
    assert again is not None
    assert again is not first  # it had to make room
    assert all(torch.equal(a, b) for a, b in zip(first.keys, again.keys, strict=True))

"""Batched decoding writes what transformers writes one by one."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from opportune.inference import generation
from opportune.inference.decoding import Request, Sample
from opportune.inference.engine import Engine
from opportune.inference.generation import generate, generate_plainly, groups
from tests.inference.tiny import PLAIN, TREE, network_of, plain_network_of, tokenizer_of

torch.set_num_threads(1)
TOKENIZER = tokenizer_of()
HEAD = list(range(20, 70))


def request(index: int, ids: list[int], **options: Any) -> Request:
    settings = {"samples": 1, "temperature": 0.0, "max_tokens": 12, "stops": (), "ends": frozenset({2}), "seed": 0}
    return Request(index, ids, str(ids), "", **{**settings, **options})


def tails(count: int) -> list[list[int]]:
    chance = random.Random(0)
    return [[chance.randrange(3, 400) for _ in range(chance.randrange(1, 15))] for _ in range(count)]


@cache
def engine_of(name: str) -> Engine:
    return Engine(network_of(name))


@torch.no_grad()
def written(name: str, requests: list[Request], depth: int = len(HEAD)) -> dict[int, list[Sample]]:
    engine = engine_of(name)
    prefix = engine.prefix(requests[0].ids[:depth])
    found = {}
    for group in groups(requests, depth):
        for each, samples in zip(group, generate(engine, group, prefix, TOKENIZER), strict=True):
            found[each.index] = samples
    return found


@torch.no_grad()
def expected(name: str, each: Request) -> Sample:
    output = (
        plain_network_of(name)
        .generate(
            torch.tensor([each.ids]), max_new_tokens=each.max_tokens, do_sample=False, eos_token_id=sorted(each.ends)
        )[0, len(each.ids) :]
        .tolist()
    )
    return Sample(TOKENIZER.decode([token for token in output if token not in each.ends]), len(output))


@pytest.mark.parametrize("depth", [0, len(HEAD)])
@pytest.mark.parametrize("name", TREE)
def test_greedy_is_token_for_token_what_transformers_generates(name: str, depth: int):
    # Some answers end early on one of these tokens, the others run on.
    requests = [
        request(i, HEAD + tail, max_tokens=6 + i % 9, ends=frozenset(range(2, 40))) for i, tail in enumerate(tails(9))
    ]
    found = written(name, requests, depth)
    wanted = {each.index: [expected(name, each)] for each in requests}
    assert found == wanted
    assert len({samples[0].tokens for samples in found.values()}) > 1


@pytest.mark.parametrize("name", TREE)
def test_buffers_that_grow_on_the_way_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(generation, "_GROWTH", 3)
    requests = [request(i, HEAD + tail, max_tokens=4 + 3 * i, ends=frozenset({1})) for i, tail in enumerate(tails(5))]
    assert written(name, requests) == {each.index: [expected(name, each)] for each in requests}


@pytest.mark.parametrize("name", PLAIN)
@torch.no_grad()
def test_plain_decoding_is_what_transformers_generates(name: str):
    for i, tail in enumerate(tails(3)):
        each = request(i, HEAD + tail)
        assert generate_plainly(engine_of(name), each, TOKENIZER) == [expected(name, each)]


def test_greedy_does_not_depend_on_what_is_asked_beside_it():
    requests = [request(i, HEAD + tail) for i, tail in enumerate(tails(80))]
    together = written("llama", requests)
    assert together[7] == written("llama", [requests[7]])[7]
    assert together[8] == written("llama", [requests[8], replace(requests[3], temperature=1.0)])[8]


def test_samples_have_their_own_seeded_streams():
    base = request(0, [*HEAD, 5], samples=5, temperature=1.0)
    first = written("llama", [base])[0]
    assert len({sample.text for sample in first}) == 5
    assert written("llama", [base, request(1, [*HEAD, 6])])[0] == first
    assert written("llama", [replace(base, samples=2)])[0] == first[:2]
    assert written("llama", [replace(base, seed=1)])[0] != first


def test_greedy_samples_are_all_the_same():
    samples = written("llama", [request(0, [*HEAD, 5], samples=3)])[0]
    assert samples == [samples[0]] * 3


def test_sampling_follows_the_probabilities():
    count = 1200
    each = request(0, [*HEAD, 5], samples=count, temperature=0.5, max_tokens=1, ends=frozenset())
    found = written("llama", [each])[0]
    with torch.no_grad():
        logits = plain_network_of("llama")(input_ids=torch.tensor([each.ids])).logits[0, -1]
    chances = (logits / 0.5).softmax(-1)
    for token in chances.topk(3).indices.tolist():
        text = TOKENIZER.decode([token])
        share = sum(float(chances[other]) for other in range(420) if TOKENIZER.decode([other]) == text)
        seen = sum(sample.text == text for sample in found) / count
        assert seen == pytest.approx(share, abs=4 * (share * (1 - share) / count) ** 0.5 + 1e-3)


def test_the_text_is_cut_before_the_first_stop_and_writing_ends_there():
    free = request(0, [*HEAD, 5], max_tokens=40, ends=frozenset())
    text, tokens = (sample := written("llama", [free])[0][0]).text, sample.tokens
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    stopped = written("llama", [replace(free, stops=("never there", stop))])[0][0]
    assert stopped.text == text[: text.index(stop)]
    assert stopped.tokens < tokens


def test_groups_keep_to_their_bounds_and_depend_on_the_requests_alone():
    requests = [request(i, HEAD * (1 + i % 40), samples=1 + i % 3, temperature=0.7) for i in range(150)]
    planned = groups(requests, 0)
    assert sorted(each.index for group in planned for each in group) == list(range(150))
    assert all(sum(each.rows for each in group) <= 64 for group in planned)
    assert groups(list(reversed(requests)), 0) == planned
    huge = request(0, HEAD, samples=100, temperature=1.0)
    assert groups([huge], 0) == [[huge]]


@pytest.mark.parametrize(("asked", "sizes"), [(64, [64]), (65, [33, 32]), (100, [50, 50]), (150, [50, 50, 50])])
def test_groups_are_of_like_size_so_that_side_by_side_none_waits_long(asked: int, sizes: list[int]):
    assert [len(group) for group in groups([request(i, HEAD) for i in range(asked)], 0)] == sizes

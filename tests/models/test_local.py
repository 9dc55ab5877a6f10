"""A local model from prompts to completions: scores, texts, what is known already, the bill, lessons."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from opportune.errors import ModelError
from opportune.models.local import Local
from opportune.types import Completion, Lesson, Message, ModelInfo, Prompt
from tests.inference.tiny import CHATML, network_of, plain_network_of, tokenizer_of

torch.set_num_threads(1)
INFO = ModelInfo("tiny", "", 0, "", "float32", "cpu")
LABELS = ("card arrival", "charged twice", "location")
SHOTS = tuple(
    message
    for i in range(6)
    for message in (
        Message("user", f"Text: message number {i} about a card\nLabel:", shot=True),
        Message("assistant", LABELS[i % 3], shot=True),
    )
)


@cache
def local(name: str = "llama", *, chat: bool = False, bos: bool = False) -> Local:
    return Local(network_of(name), tokenizer_of(bos=bos, template=CHATML if chat else None), INFO)


def question(i: int) -> Message:
    return Message("user", f"Text: where is my thing {i * 37 % 101}?\nLabel:", cut=(6, 6 + len(str(i * 37 % 101)) + 18))


def asked(count: int, **options: Any) -> list[Prompt]:
    return [Prompt((*SHOTS, question(i)), **{"choices": LABELS, **options}) for i in range(count)]


def written(count: int, **options: Any) -> list[Prompt]:
    return asked(count, choices=None, max_tokens=8, **options)


def answers(model: Local, prompts: list[Prompt], known: dict[int, Completion] | None = None) -> dict[int, Completion]:
    return dict(model.complete(prompts, known or {}))


def content(completions: dict[int, Completion]) -> dict[int, Completion]:
    """Without what differs from run to run."""
    return {
        i: replace(each, usage=replace(each.usage, seconds=0.0, flops=0.0)) for i, each in sorted(completions.items())
    }


@torch.no_grad()
def score(name: str, model: Local, text: str, answer: str, *, chat: bool) -> float:
    """The log-probability of an answer's tokens after a text, by transformers alone."""
    ids = model.tokenizer(text, add_special_tokens=not chat)["input_ids"]
    whole = model.tokenizer(text + answer, add_special_tokens=not chat)["input_ids"]
    assert whole[: len(ids)] == ids
    logits = plain_network_of(name)(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
    return float(sum(logits[i - 1, whole[i]] for i in range(len(ids), len(whole))))


@pytest.mark.parametrize(
    ("name", "chat", "bos"), [("llama", False, False), ("gemma2", True, True), ("bloom", False, True)]
)
def test_choices_get_the_log_probability_of_their_tokens(name: str, chat: bool, bos: bool):
    model = local(name, chat=chat, bos=bos)
    prompts = asked(5)
    found = answers(model, prompts)
    assert sorted(found) == list(range(5))
    for i in (0, 4):
        gap = "" if chat else " "
        expected = [score(name, model, found[i].prompt, gap + label, chat=chat) for label in LABELS]
        assert found[i].scores == pytest.approx(expected, abs=1e-4)
        assert found[i].texts == ()
        assert (found[i].shots_dropped, found[i].tokens_cut, found[i].error) == (0, 0, None)


@pytest.mark.parametrize("chat", [False, True])
def test_choices_that_begin_one_another_are_scored_with_their_end(chat: bool):
    model = local(chat=chat)
    labels = ("card", "card arrival", "location")
    found = answers(model, asked(2, choices=labels))[0]
    gap, end = ("", "<|im_end|>") if chat else (" ", "\n")
    expected = [score("llama", model, found.prompt, gap + label + end, chat=chat) for label in labels]
    assert found.scores == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_what_is_known_is_not_asked_again_and_the_rest_comes_out_the_same(name: str):
    model = local(name)
    prompts = [*asked(20), *written(12, samples=2, temperature=0.8, stop=("zzz",)), *written(3)]
    whole = content(answers(model, prompts))
    assert sorted(whole) == list(range(35))
    known = {i: each for i, each in whole.items() if i % 3}
    rest = content(answers(model, prompts, known))
    assert rest == {i: each for i, each in whole.items() if i not in known}
    assert answers(model, prompts, whole) == {}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_left_is_written_as_if_nothing_were_known(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    model = Local(copy.deepcopy(network_of("llama")).to(dtype), tokenizer_of(), INFO)
    monkeypatch.setattr("opportune.inference.generation._ROWS", 4)
    laid_out, writing = [], model._engine.writing
    monkeypatch.setattr(model._engine, "writing", lambda rows: laid_out.append(rows) or writing(rows))
    prompts = written(40)
    whole = content(answers(model, prompts))
    assert laid_out == [4]
    known = {i: each for i, each in whole.items() if i != 17}  # a single group of ten
    assert content(answers(model, prompts, known)) == {17: whole[17]}
    assert laid_out == [4, 4]
    answers(model, prompts[:4])
    assert laid_out == [4, 4]  # not for so few steps


def test_the_bill_counts_the_whole_prompt_and_is_shared_by_tokens():
    model = Local(network_of("llama"), tokenizer_of(), INFO)
    prompts = asked(8)
    found = list(model.complete(prompts, {}))
    usages = [each.usage for _, each in found]
    for i, each in found:
        assert each.usage.tokens_in == len(model.tokenizer(answers(model, [prompts[i]])[0].prompt)["input_ids"])
        assert (each.usage.tokens_out, each.usage.calls) == (0, 1)
    assert all(usage.seconds > 0 for usage in usages)
    assert usages[0].flops > 3 * usages[1].flops  # it bears the common prefix
    again = [each.usage for _, each in model.complete(prompts, {})]  # the prefix is warm now
    assert [usage.flops for usage in again[1:]] == [usage.flops for usage in usages[1:]]
    assert again[0].flops < usages[0].flops / 3


@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_flops_are_those_that_torch_counts(name: str):
    model = Local(network_of(name), tokenizer_of(), INFO)
    # The counter knows the fused attention of GPUs by this formula, not that of processors.
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def count(query: Any, key: Any, value: Any, *others: Any, **named: Any) -> int:
        return sdpa_flop_count(query, key, value)

    with FlopCounterMode(display=False, custom_mapping={fused: count}) as counter:
        found = answers(model, [*asked(6), *written(3)])
    assert sum(each.usage.flops for each in found.values()) == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_the_prompt_is_computed_once_for_all_choices_and_questions():
    model = Local(network_of("llama"), tokenizer_of(), INFO)
    one = sum(each.usage.flops for each in answers(model, asked(1)).values())
    many = sum(each.usage.flops for each in answers(model, asked(40)).values())
    assert many < 10 * one


def test_generated_answers_stop_at_the_line_s_end_in_plain_text_and_lose_the_space_before_them():
    model = local()
    free = answers(model, written(6, stop=("never there",)))
    cut = answers(model, written(6))
    for i in range(6):
        assert cut[i].texts[0] == free[i].texts[0].partition("\n")[0]
        assert 0 < cut[i].usage.tokens_out <= 8


def test_chat_answers_end_with_the_turn():
    tokenizer = tokenizer_of(template=CHATML)
    network = plain_network_of("llama")
    with torch.no_grad():  # make the turn's end the likeliest token
        network.lm_head.weight.zero_()
        network.lm_head.weight[tokenizer.convert_tokens_to_ids("<|im_end|>")] = 1
        network.model.norm.weight.fill_(1)
    found = answers(Local(network, tokenizer, INFO), written(4))
    ended = [each for each in found.values() if each.usage.tokens_out == 1]
    assert ended
    assert all(each.texts == ("",) for each in ended)


def test_what_is_too_long_is_shortened_and_counted():
    model = local()
    long = Message("user", f"Text: {'word ' * 2000}\nLabel:", cut=(6, 6 + 5 * 2000))
    found = answers(model, [Prompt((*SHOTS * 5, question(1)), choices=LABELS), Prompt((*SHOTS, long), choices=LABELS)])
    limit = network_of("llama").config.max_position_embeddings
    assert 0 < found[0].shots_dropped < 30
    assert found[0].tokens_cut == 0
    assert found[1].shots_dropped == 6
    assert found[1].tokens_cut > 0
    for each in found.values():
        room = max(len(model.tokenizer(" " + label)["input_ids"]) for label in LABELS)
        assert len(model.tokenizer(each.prompt)["input_ids"]) == each.usage.tokens_in <= limit - room
        assert each.usage.tokens_in > limit / 2
    with pytest.raises(ModelError, match="context has room for"):
        answers(model, [Prompt((replace(long, cut=None),), choices=LABELS)])


@pytest.mark.parametrize("chat", [False, True])
def test_a_lesson_is_the_prompt_as_asked_the_target_and_its_end(chat: bool):
    model = local(chat=chat, bos=True)
    prompt = asked(1)[0]
    ids, start = model.tokenise_lesson(Lesson(prompt, "location"))
    text = answers(model, [prompt])[0].prompt
    assert ids[:start] == model.tokenizer(text, add_special_tokens=not chat)["input_ids"]
    assert model.tokenizer.decode(ids[start:]) == ("location<|im_end|>" if chat else " location\n")


def test_another_network_answers_with_the_same_tokenizer():
    other = plain_network_of("qwen2")
    moved = local().with_network(other)
    assert moved.tokenizer is local().tokenizer
    assert moved.network is other
    expected = answers(Local(network_of("qwen2"), tokenizer_of(), INFO), asked(3))
    assert [each.scores for each in answers(moved, asked(3)).values()] == [each.scores for each in expected.values()]


def test_asking_leaves_gradients_and_the_training_mode_as_they_were():
    network = plain_network_of("llama").train()
    model = Local(network, tokenizer_of(), INFO)
    for _ in model.complete(asked(3), {}):
        assert torch.is_grad_enabled()
    assert network.training


def test_a_single_question_starts_from_the_warm_prefix_only_where_that_is_asked_for():
    model = local("gpt2").with_network(network_of("gpt2"))
    many = asked(4)
    answers(model, many)
    cold = answers(model, [many[0]])[0]
    with model.reusing():
        warm = answers(model, [many[0]])[0]
    assert warm.usage.flops < cold.usage.flops / 3
    assert warm.scores == pytest.approx(cold.scores, abs=1e-4)
    assert answers(model, [many[0]])[0].usage.flops == cold.usage.flops

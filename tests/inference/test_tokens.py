"""Fast encoding gives the tokens that the tokenizer gives for the whole text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opportune.inference.tokens import Encoder, shared_length
from tests.inference.tiny import TEXT, tokenizer_of

TOKENIZERS = {
    "bytes": tokenizer_of(),
    "bytes with bos": tokenizer_of(bos=True),
    "spaces": tokenizer_of("spaces", bos=True),
}
WORDS = [*TEXT.split(), "\n", "\n\n", "  ", "ABC" * 30, "1234567", "中文字符" * 20, "<|im_start|>", "<|im_end|>\n", "é"]
texts = st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join)


def full(tokenizer: Any, text: str, chat: bool) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=not chat)["input_ids"]
    return ids


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(head=texts, tails=st.lists(texts, min_size=2, max_size=4), chat=st.booleans())
def test_texts_that_share_a_beginning(tokenizer: Any, head: str, tails: list[str], chat: bool):
    wholes = [head + tail for tail in tails]
    encoded = Encoder(tokenizer).encode(wholes, chat)
    assert [each.ids for each in encoded] == [full(tokenizer, text, chat) for text in wholes]


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(head=texts, others=texts, answers=st.lists(texts, min_size=1, max_size=4), chat=st.booleans())
def test_answers_after_a_context(tokenizer: Any, head: str, others: str, answers: list[str], chat: bool):
    encoder = Encoder(tokenizer)
    for context in encoder.encode([head + others, head], chat):
        for _ in range(2):  # once more from what was kept
            trunk, branches = encoder.continuations(context, answers, chat)
            wholes = [full(tokenizer, context.text + answer, chat) for answer in answers]
            if shared_length([context.ids, *wholes]):
                assert [trunk + branch for branch in branches] == wholes
            else:
                assert trunk == [tokenizer.bos_token_id]
                assert branches == wholes


def test_a_token_across_the_boundary_is_scored_with_every_answer():
    tokenizer = TOKENIZERS["bytes"]
    encoder = Encoder(tokenizer)
    context = encoder.encode(["Text: the l"], chat=False)[0]
    assert full(tokenizer, "Text: the label", False)[-1] != full(tokenizer, "abel", False)[-1]
    trunk, branches = encoder.continuations(context, ["abel", "zzz"], chat=False)
    assert trunk == context.ids[:-1]
    assert [tokenizer.decode(branch) for branch in branches] == [" label", " lzzz"]


def test_only_a_short_tail_is_encoded_again(monkeypatch: pytest.MonkeyPatch):
    encoder, seen = Encoder(TOKENIZERS["bytes"]), 0
    pieces = encoder._pieces

    def counted(texts: Any) -> Any:
        nonlocal seen
        seen += sum(map(len, texts))
        return pieces(texts)

    monkeypatch.setattr(encoder, "_pieces", counted)
    head = " ".join([TEXT] * 10)
    encoder.encode([head + f" question {i}?" for i in range(50)], chat=False)
    assert seen < 2.5 * len(head)


def test_a_tokenizer_without_character_spans_is_asked_for_the_whole():
    class Slow:
        is_fast, bos_token_id, eos_token_id = False, None, 0

        def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
            return {"input_ids": [ord(c) for c in text]}

    encoder = Encoder(Slow())
    first, second = encoder.encode(["long text one", "long text two"], chat=False)
    assert second.ids == [ord(c) for c in "long text two"]
    assert encoder.continuations(first, [" a", " b"], chat=False) == (first.ids, [[32, 97], [32, 98]])


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=5))
def test_shared_length(sequences: list[list[int]]):
    length = shared_length(sequences)
    assert all(each[:length] == sequences[0][:length] for each in sequences)
    longer = {tuple(each[: length + 1]) for each in sequences}
    assert len(longer) > 1 or min(map(len, sequences)) == length

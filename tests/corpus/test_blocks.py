"""Blocks are full, every token is learned once, and no document sees another."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from opportune.corpus.blocks import Blocks, Mix
from opportune.corpus.material import material_of
from opportune.corpus.stream import TokenStream, marks, open_stream, tokenise
from opportune.errors import ModelError, RecipeError
from opportune.reading import Reading
from opportune.training.loss import lesson_loss, lesson_losses, summed_loss
from opportune.training.packing import identity, packs
from tests.corpus.texts import documents, write
from tests.inference.tiny import tokenizer_of
from tests.training.tiny import VOCABULARY, gradients, llama

END = 2


def stream_of(lengths: list[int], opening: int = END) -> TokenStream:
    """Documents of so many tokens and an end, tokens drawn at random."""
    import numpy as np

    draw = torch.Generator().manual_seed(0)
    tokens: list[int] = []
    starts = []
    for length in lengths:
        starts.append(len(tokens))
        tokens += [*torch.randint(3, VOCABULARY, (length,), generator=draw).tolist(), END]
    return TokenStream(np.array(tokens, np.uint32), np.array(starts, np.int64), opening)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 30), st.sampled_from([END, 1]))
@settings(max_examples=200, deadline=None)
def test_every_token_is_learned_once_from_its_own_document_alone(lengths, size, opening):
    stream = stream_of(lengths, opening)
    blocks = Blocks(stream, size)
    lessons = Mix([(blocks, len(blocks))])
    assert [lesson.targets for lesson in lessons[:-1]] == [size] * (len(lessons) - 1)
    parts = [part for lesson in lessons for part in lesson.parts()]
    assert [token for part in parts for token in part.ids[part.start :]] == stream.tokens.tolist()
    assert sum(part.targets for part in parts) == lessons.tokens == len(stream.tokens)
    place = 0
    for part in parts:
        begins = place in stream.starts
        assert part.ids[0] == (opening if begins else stream.tokens[place - 1])
        assert END not in part.ids[1:-1]  # no end of a document within
        place += part.targets


def test_packed_blocks_have_the_loss_and_gradient_of_each_document_alone():
    stream = stream_of([7, 30, 0, 3, 50, 12])
    blocks = Blocks(stream, 16)
    lessons = Mix([(blocks, len(blocks))])[:]
    packed, plain = llama(), llama(own=False)
    total = torch.zeros(())
    for part in (part for lesson in lessons for part in lesson.parts()):
        logits = plain(input_ids=torch.tensor([part.ids])).logits[0, :-1]
        total = total + cross_entropy(logits, torch.tensor(part.ids[1:]), reduction="sum")
    total.backward()
    found = torch.zeros(())
    for pack in packs(lessons, 40):
        part = summed_loss(packed, pack)
        part.backward()
        found = found + part.detach()
    assert float(found) == pytest.approx(float(total.detach()), rel=1e-5)
    reference = gradients(plain)
    for name, gradient in gradients(packed).items():
        assert torch.allclose(gradient, reference[name], atol=1e-4 * float(reference[name].abs().max())), name
    assert sum(lesson_losses(packed, lessons)) == pytest.approx(float(total.detach()), rel=1e-5)
    assert lesson_loss(packed, lessons) == pytest.approx(float(total.detach()) / len(stream.tokens), rel=1e-5)


def test_every_row_of_a_full_pack_is_learned():
    blocks = Blocks(stream_of([100, 31, 200]), 64)
    for pack in packs(Mix([(blocks, len(blocks))])[:2], 128):
        assert len(pack.rows) == 128
        assert sorted(set(pack.rows.tolist())) == list(range(len(pack.ids)))  # what two begin with is there once


def test_a_mix_takes_so_many_of_each_again_from_the_start_and_knows_what_it_is():
    one, other = Blocks(stream_of([40]), 10), Blocks(stream_of([13, 5]), 10)
    mix = Mix([(one, 3), (other, 5)])
    assert len(mix) == 8
    assert mix[3] == mix[5] == mix[-1] == other.block(0)
    assert mix.tokens == sum(lesson.targets for lesson in mix)
    with pytest.raises(IndexError):
        mix[8]
    assert identity(mix) == identity(Mix([(one, 3), (other, 5)])) != identity(Mix([(one, 4), (other, 4)]))
    assert identity(Mix([(Blocks(stream_of([41]), 10), 3)])) != identity(Mix([(one, 3)]))


def test_documents_as_tokens_end_with_the_mark_between_documents(tmp_path):
    tokenizer = tokenizer_of()
    texts = documents(70)
    stream = tokenise(texts, tokenizer)
    assert marks(tokenizer) == (tokenizer.eos_token_id, tokenizer.eos_token_id)
    assert marks(tokenizer_of(bos=True)) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    pieces = [tokenizer.decode(p) for p in (stream.tokens[a:b] for a, b in pairwise(stream.starts))]
    assert pieces == [f"{text}<|eos|>" for text in texts[:-1]]
    assert tokenise(iter(texts), tokenizer, 100).tokens.tolist() == stream.tokens[:100].tolist()
    stream.save(tmp_path)
    assert open_stream(tmp_path).digest() == stream.digest()


def test_a_tokenizer_without_any_mark_is_refused():
    tokenizer = tokenizer_of()
    tokenizer.eos_token = tokenizer.bos_token = None
    with pytest.raises(ModelError, match="neither an end token"):
        tokenise(["a"], tokenizer)


def material(tmp_path, **options):
    corpus, general = tmp_path / "corpus.txt", tmp_path / "general.txt"
    write(corpus, documents(80))
    write(general, documents(20, seed=1))
    known = {"corpus": str(corpus), "general": str(general), "replay": 0.0, "tokens": None, "block": 16}
    return material_of(Reading(**(known | {"field": "text"} | options)), tokenizer_of(), 512)


@pytest.mark.parametrize("replay", [0.05, 0.25, 0.5])
def test_replay_has_the_stated_share(replay, tmp_path):
    whole, mixed = material(tmp_path), material(tmp_path, replay=replay)
    assert mixed.replayed / mixed.tokens == pytest.approx(replay, abs=0.01)
    assert mixed.tokens - mixed.replayed == pytest.approx(whole.tokens, abs=16)  # the corpus whole, replay beside it
    bounded = material(tmp_path, replay=replay, tokens=1600)
    assert bounded.tokens == 1600
    assert bounded.replayed / 1600 == pytest.approx(replay, abs=0.01)


@pytest.mark.parametrize("options", [{"tokens": 40}, {"tokens": 16}, {"block": 512}])
def test_of_what_is_asked_for_there_is_a_block_at_least(options, tmp_path):
    found = material(tmp_path, replay=0.05, **options)
    assert 0 < found.replayed < found.tokens


def test_the_control_reads_as_much_of_general_text_alone(tmp_path):
    control = material(tmp_path, replay=1.0)
    assert control.replayed == control.tokens == pytest.approx(material(tmp_path).tokens, rel=0.02)
    assert control.dev == material(tmp_path).dev
    assert material(tmp_path, replay=1.0, tokens=800).tokens == 800


def test_a_corpus_smaller_than_the_limit_keeps_the_share(tmp_path):
    found = material(tmp_path, replay=0.25, tokens=10**6)
    assert found.tokens < 10**5
    assert found.replayed / found.tokens == pytest.approx(0.25, abs=0.01)


def test_blocks_longer_than_the_context_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="context=1024 is more than the model's context of 512"):
        material(tmp_path, block=1024)

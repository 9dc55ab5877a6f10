"""Embeddings: the mean of the last hidden states, the same from a token tree as from the network's own pass."""

from __future__ import annotations

import pytest
import torch

from opportune.models.local import Local
from opportune.strategies.similarity import embedding
from opportune.types import Message, ModelInfo, Prompt
from tests.inference.tiny import network_of, plain_network_of, tokenizer_of

INFO = ModelInfo("tiny", "", 1, "d", "float32", "cpu")
TEXTS = ["My card has not arrived", "My card was charged twice", "你好", "x" * 40]


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "bloom"])
def test_vectors_are_those_of_the_networks_own_pass(name):
    model = Local(network_of(name), tokenizer_of(), INFO)
    found = dict(model.complete([embedding(text) for text in TEXTS], {}))
    plain = plain_network_of(name)
    for index, text in enumerate(TEXTS):
        ids = torch.tensor([tokenizer_of()(text)["input_ids"]])
        with torch.no_grad():
            states = plain.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0]
        wanted = torch.nn.functional.normalize(states.mean(0), dim=0)
        torch.testing.assert_close(torch.tensor(found[index].vector), wanted, atol=1e-4, rtol=1e-3)
        assert found[index].scores is None
        assert found[index].texts == ()
        assert found[index].usage.tokens_in == ids.shape[1]


def test_texts_to_embed_rank_and_write_can_be_asked_together():
    model = Local(network_of("llama"), tokenizer_of(), INFO)
    ask = Prompt((Message("user", "card"),), format="plain", max_tokens=3)
    rank = Prompt((Message("user", "card"),), choices=("yes", "no"), format="plain")
    found = dict(model.complete([ask, embedding("card"), rank], {}))
    assert found[0].texts
    assert found[1].vector
    assert len(found[2].scores) == 2

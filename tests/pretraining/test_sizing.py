"""The stated rules: shape, vocabulary, tokens, batch, rate."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opportune.errors import UsageError
from opportune.pretraining.network import new_network
from opportune.pretraining.sizing import (
    LARGEST,
    SMALLEST,
    batch_for,
    rate_for,
    read_count,
    size_for,
    tokens_for,
    vocabulary_for,
)


@pytest.mark.parametrize("asked", [300_000, 1_000_000, 10_000_000, 135_000_000, 1_000_000_000, LARGEST])
def test_the_shape_has_the_size_asked_for_and_the_stated_aspect(asked):
    size = size_for(asked, vocabulary_for(asked))
    assert abs(size.parameters - asked) <= 0.1 * asked
    assert 20 <= size.width / size.layers <= 50
    assert size.width % size.heads == 0
    assert size.vocabulary * size.width <= 0.35 * asked


def test_the_size_counted_is_the_size_built():
    size = size_for(300_000, 700)
    network = new_network(size, 64, 0, 0, torch.float32, "cpu")
    assert sum(weight.numel() for weight in network.parameters()) == size.parameters
    assert all(weight.requires_grad for weight in network.parameters())
    again = new_network(size, 64, 0, 0, torch.float32, "cpu")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_known_models_have_about_the_shape_of_the_rule():
    assert (size_for(1_000_000, 1024).layers, size_for(1_000_000, 1024).width) == (4, 128)  # nanoGPT's smallest
    assert vocabulary_for(1_000_000) == 1024
    assert vocabulary_for(10_000_000) == 4096


@given(st.integers(SMALLEST, LARGEST), st.integers(1, 10**12))
def test_no_rule_leaves_its_range(parameters, corpus):
    tokens = tokens_for(parameters, corpus)
    assert tokens <= 4 * corpus
    assert tokens <= 20 * parameters
    assert 1 <= batch_for(parameters, tokens) <= max(1, tokens / 200)
    assert 1e-4 <= rate_for(parameters, tokens) <= 5e-3


@pytest.mark.parametrize(("text", "count"), [("10M", 10**7), ("1.5b", 1_500_000_000), ("500k", 500_000), ("7", 7)])
def test_counts(text, count):
    assert read_count(text, "--tokens") == count


@pytest.mark.parametrize("text", ["", "M", "ten", "-1", "0", "nan", "inf", "10MM"])
def test_what_is_no_count(text):
    with pytest.raises(UsageError, match="is not a count"):
        read_count(text, "--tokens")


@pytest.mark.parametrize("parameters", [SMALLEST - 1, LARGEST + 1])
def test_sizes_out_of_range(parameters):
    with pytest.raises(UsageError, match="out of range: 100k to 10B"):
        vocabulary_for(parameters)

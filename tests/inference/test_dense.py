"""One call of torch's attention computes what the tiles compute."""

from __future__ import annotations

import random

import pytest
import torch

from opportune.inference.attention import Packed, Prefix, tree_plan

HEADS, GROUPS, SIZE = 4, 2, 8


def random_tree(rows: int, shared: int, seed: int) -> list[int]:
    """Parents in depth-first order, the first rows a chain."""
    draw, parents, path = random.Random(seed), list(range(-1, shared - 1)), list(range(shared))
    for row in range(shared, rows):
        path = path[: draw.randint(shared, len(path))] if draw.random() < 0.3 else path
        parents.append(path[-1] if path else -1)
        path.append(row)
    return parents


def depths(parents: list[int], cached: int) -> list[int]:
    found: list[int] = []
    for parent in parents:
        found.append(found[parent] + 1 if parent >= 0 else cached)
    return found


@pytest.mark.parametrize("cached", [0, 5])
@pytest.mark.parametrize("shared", [0, 6, 40])
@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("seed", range(3))
def test_the_same_output_and_gradients(cached: int, shared: int, window: int | None, seed: int) -> None:
    torch.manual_seed(seed)
    parents = random_tree(40, shared, seed)
    plan = tree_plan(parents, depths(parents, cached), shared, tile=8)
    old = [torch.randn(GROUPS, cached, SIZE) for _ in range(2)]
    prefix = Prefix([old[0]], [old[1]], cached) if cached else None
    tensors = [torch.randn(heads, 40, SIZE, requires_grad=True) for heads in (HEADS, GROUPS, GROUPS)]
    packed, weight = Packed(plan, prefix), torch.randn(40, HEADS, SIZE)
    tiled = packed.attend(0, *tensors, 0.3, window, None)
    dense = packed.attend_densely(*tensors, (old[0], old[1]) if cached else None, 0.3, window)
    torch.testing.assert_close(dense, tiled, atol=1e-5, rtol=1e-5)
    expected = torch.autograd.grad((tiled * weight).sum(), tensors)
    found = torch.autograd.grad((dense * weight).sum(), tensors)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_chain_needs_no_mask_and_nothing_else_does_without() -> None:
    chain, fork = list(range(-1, 19)), [*range(-1, 9), 4, *range(10, 19)]
    for parents, masked in ((chain, False), (fork, True)):
        packed = Packed(tree_plan(parents, depths(parents, 0), tile=8))
        tensors = [torch.randn(heads, len(parents), SIZE) for heads in (HEADS, GROUPS, GROUPS)]
        packed.attend_densely(*tensors, None, 0.3, None)
        assert (packed._seen[None] is not None) == masked

"""Tiny networks and lessons for the tests of training."""

from __future__ import annotations

import random
from typing import Any

import torch
import transformers
from torch.nn.functional import cross_entropy

from opportune.inference.attention import fast_norms, use_own_attention
from opportune.training.packing import TokenLesson

torch.set_num_threads(1)

VOCABULARY = 61


def llama(own: bool = True, dtype: torch.dtype = torch.float32) -> Any:
    """The same random network every time."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    network = transformers.LlamaForCausalLM(config).to(dtype).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    if own:
        use_own_attention(network)
        fast_norms(network)
    return network


def lessons(count: int, seed: int = 0, common: int = 5) -> list[TokenLesson]:
    """Prompts that begin alike, some of them equal; the target is decided by the prompt's third own token."""
    draw = random.Random(seed)
    start = tuple(draw.randrange(3, VOCABULARY) for _ in range(common))
    made = []
    for _ in range(count):
        prompt = tuple(draw.randrange(3, 9) for _ in range(draw.randint(3, 12)))
        made.append(TokenLesson((*start, *prompt, 10 + prompt[2], 2), common + len(prompt)))
    return made


def plain_loss(network: Any, made: list[TokenLesson]) -> torch.Tensor:
    """The mean loss per target token, one lesson at a time, by transformers alone."""
    total = torch.zeros(())
    for lesson in made:
        logits = network(input_ids=torch.tensor([lesson.ids])).logits[0, lesson.start - 1 : -1]
        total = total + cross_entropy(logits.float(), torch.tensor(lesson.ids[lesson.start :]), reduction="sum")
    return total / sum(lesson.targets for lesson in made)


def gradients(network: Any) -> dict[str, torch.Tensor]:
    """The gradients there are, by name."""
    return {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}


def moving(network: Any) -> dict[str, torch.Tensor]:
    """A copy of the moving weights, by name."""
    return {name: weight.detach().clone() for name, weight in network.named_parameters() if weight.requires_grad}

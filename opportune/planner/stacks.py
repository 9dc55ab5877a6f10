"""What training software keeps and how fast it is driven: facts of the programs, none of them fitted.

Each was read in the program's code or documentation; docs/planner.md says where. They decide how many bytes stay for
the backward pass, so two programs training the same model with the same method differ by these and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from opportune.errors import UsageError


@dataclass(frozen=True, slots=True)
class Stack:
    """One way of training."""

    name: str
    what: str
    fused_norms: bool = False  # norms keep their input as it is; else RMS norms keep a copy in float32
    fused_gate: bool = False  # the gated activation keeps its two inputs and not what it made of them
    repeats_keys: bool = False  # keys and values are copied to every query head
    adapters_in_float32: bool = False  # every adapted module keeps its input in float32
    float32_over_quantised: bool = False  # activations are float32 where the base is quantised
    logit_bytes: int = 12  # a logit in bfloat16, in float32, and its gradient in float32, with the copy between
    chunks: int = 1  # parts the cross-entropy is computed in
    ties: bool = True  # embedding and head share their weights where the architecture ties them
    compiled: bool = False  # few launches: kernels fused or captured
    quantised_head: bool = False  # the head is quantised with the rest
    composed_gelu: bool = False  # some activation functions are computed in steps that each keep a copy
    own_dropout: bool = True  # every adapted module drops its input by itself; else one for queries, keys and values
    outer_apart: bool = True  # embedding and head are collected one at a time, not with everything outside the layers
    master: bool = False  # float32 weights beside the ones computed with
    attention: float = 0.65  # share of large products' speed that fused attention reaches: FlashAttention-2 (Dao 2023)


STACKS: dict[str, Stack] = {
    stack.name: stack
    for stack in (
        Stack("transformers", "transformers and peft; batches are padded, so that a mask is given and keys repeated",
              repeats_keys=True, adapters_in_float32=True, float32_over_quantised=True, composed_gelu=True),
        Stack("opportune", "this project's own loop: packed lessons, cross-entropy in chunks", chunks=16, master=True),
        Stack("litgpt", "Lightning's LitGPT", repeats_keys=True, float32_over_quantised=True, ties=False,
              quantised_head=True, own_dropout=False, outer_apart=False),
        Stack("torchtune", "PyTorch's torchtune, not compiled"),
        Stack("torchtune-compiled", "PyTorch's torchtune, compiled", fused_norms=True, chunks=8, logit_bytes=6,
              compiled=True),
        Stack("torchtune-compiled-whole", "the same with the loss in one piece", fused_norms=True, logit_bytes=6,
              compiled=True),
        Stack("llm-foundry", "MosaicML's llm-foundry of 2023: sharded, operations one by one, the first FlashAttention",
              fused_norms=True, master=True, attention=0.38),
        Stack("sharded", "fused kernels and sharding: torchtitan, llm-foundry, nanoGPT, llm.c", fused_norms=True,
              compiled=True, master=True),
        Stack("megatron", "Megatron-LM and its bridges", fused_norms=True, compiled=True, master=True),
    )
}  # fmt: skip


def stack_named(name: str) -> Stack:
    """The stack of that name. Raises UsageError with the known ones."""
    if name not in STACKS:
        raise UsageError(f"--software {name!r} is not one of {', '.join(STACKS)}")
    return STACKS[name]

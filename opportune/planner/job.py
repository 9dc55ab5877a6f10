"""A training job: what is trained how, on what, in which pieces. Impossible jobs are refused with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from opportune.errors import UsageError
from opportune.planner.architecture import Architecture
from opportune.planner.hardware import Cluster
from opportune.planner.stacks import STACKS, Stack
from opportune.planner.techniques import Change

Base = Literal["bfloat16", "float16", "float32", "mixed", "nf4", "nf4-double", "int8"]
Checkpoint = Literal["none", "selective", "full"]
Sharding = Literal["none", "optimizer", "gradients", "all"]  # ZeRO 0 to 3
Optimizer = Literal["adamw", "adamw-8bit", "adamw-paged", "lion", "sgd"]

# Bytes a weight of quantised linear layers: 4 bits and a scale per 64 (Dettmers et al. 2023), and that again.
BITS = {"nf4": 0.5 + 4 / 64, "nf4-double": 0.5 + 1 / 64 + 4 / (64 * 256), "int8": 1.0}
STATES = {"adamw": 2.0, "adamw-8bit": 2.0, "adamw-paged": 0.0, "lion": 1.0, "sgd": 0.0}


@dataclass(frozen=True)
class Job:
    """One step and how it is laid out; a step reads `micro` x `accumulate` x data-parallel replicas sequences."""

    architecture: Architecture
    change: Change
    cluster: Cluster
    micro: int = 1  # sequences a device computes at once
    length: int = 1024  # tokens of each, padding included
    accumulate: int = 1  # such batches before a step of the optimizer
    base: Base = "bfloat16"
    optimizer: Optimizer = "adamw"
    checkpoint: Checkpoint = "none"
    sharding: Sharding = "none"
    tensor: int = 1
    pipeline: int = 1
    offload: bool = False  # weights and optimizer in host memory
    fused_step: bool = False  # the optimizer steps inside the backward pass, so that gradients never stay
    stack: Stack = STACKS["transformers"]
    rows: float = 1.0  # share of the tokens that the head reads

    @cached_property
    def replicas(self) -> int:
        """Data-parallel replicas."""
        return self.cluster.count // (self.tensor * self.pipeline)

    @property
    def tokens(self) -> int:
        """Tokens of a step over all devices."""
        return self.micro * self.length * self.accumulate * self.replicas

    @property
    def quantised(self) -> bool:
        """Whether the base's linear weights have fewer than sixteen bits."""
        return self.base in BITS


def check(job: Job) -> Job:
    """The job itself. Raises UsageError where it cannot be laid out so."""
    a, count = job.architecture, job.cluster.count
    if job.tensor * job.pipeline > count or count % (job.tensor * job.pipeline):
        raise UsageError(
            f"tensor={job.tensor} x pipeline={job.pipeline} shards do not divide {count} devices ({job.cluster})"
        )
    if job.pipeline > a.layers:
        raise UsageError(f"pipeline={job.pipeline}: more stages than the {a.layers} layers of {a.name}")
    if a.heads % job.tensor or (job.tensor > 1 and a.ffn % job.tensor):
        raise UsageError(f"tensor={job.tensor} does not divide the {a.heads} heads of {a.name}")
    if job.micro < 1 or job.length < 1 or job.accumulate < 1:
        raise UsageError(f"batch {job.micro} x {job.length} tokens x {job.accumulate}: each at least 1")
    if a.positions and job.length > a.positions:
        raise UsageError(f"length {job.length} is more than the {a.positions} positions that {a.name} has learned")
    if job.quantised and job.change.share:
        raise UsageError(f"base {job.base}: weights that move cannot be quantised; plan lora, or base bfloat16")
    if job.base == "bfloat16" and not job.cluster.device.bfloat16 and not job.cluster.device.cpu:
        raise UsageError(f"{job.cluster.device.name} has no bfloat16 unit: plan float16 or float32")
    return job

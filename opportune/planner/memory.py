"""Peak memory of one device, item by item; docs/planner.md derives each.

Model states follow ZeRO (Rajbhandari et al. 2020), activations `activations.py`, checkpointed layers keep their input
and one layer is whole at a time (Chen et al. 2016; Korthikanti et al. 2022). The peak is either where the backward
pass begins (all activations and logits, no gradients yet) or the optimizer's step (all gradients, no activations).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from opportune.planner.activations import kept
from opportune.planner.architecture import Architecture, count
from opportune.planner.job import BITS, STATES, Job
from opportune.planner.stacks import Stack

CONTEXT = 0.45 * 1024**3  # of a CUDA context: not in what torch allocates, but gone from the card
COMMUNICATION = 0.6 * 1024**3  # buffers of NCCL with more than one device, likewise outside


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on the fullest device at the peak, allocated by the framework."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    adapters: float  # weights, gradients and states of what was added
    gathered: float  # layers collected from the other devices
    workspace: float  # dequantised layers, and what products need beside their results

    @property
    def allocated(self) -> float:
        """All of them."""
        held = self.weights, self.gradients, self.optimizer, self.activations
        return math.fsum((*held, self.logits, self.adapters, self.gathered, self.workspace))


def memory(job: Job, scale: float = 1.0) -> Memory:
    """The account of a job; `scale` multiplies activations (calibration)."""
    states = _states(job)
    activations, logits = _activations(job, scale), _logits(job)
    forward = activations + logits
    gradients = states["gradients"] if job.accumulate > 1 else max(0.0, states["gradients"] - forward)
    if job.fused_step:
        gradients = 2.0 * max(count(job.architecture).layer, count(job.architecture).embedding) / job.tensor
    return Memory(
        weights=states["weights"],
        gradients=gradients,
        optimizer=states["optimizer"],
        activations=activations,
        logits=logits,
        adapters=states["adapters"],
        gathered=_gathered(job),
        workspace=_workspace(job),
    )


def base_weights(a: Architecture, base: str, stack: Stack) -> float:
    """Bytes of all weights as they are kept for computing."""
    c = count(a)
    total = c.total + (c.head if a.tied and not stack.ties else 0)
    if base in BITS:
        small = c.linear + (c.head if stack.quantised_head and not (a.tied and stack.ties) else 0)
        return BITS[base] * small + 2.0 * (total - small)
    return (4.0 if base in ("float32", "mixed") else 2.0) * total


def _moving(job: Job) -> float:
    untied = job.architecture.tied and not job.stack.ties and job.change.head
    return job.change.base + (count(job.architecture).head if untied else 0)


def _states(job: Job) -> dict[str, float]:
    split = job.tensor * job.pipeline
    of_weights = job.replicas if job.sharding == "all" else 1
    of_gradients = job.replicas if job.sharding in ("all", "gradients") else 1
    of_optimizer = job.replicas if job.sharding != "none" else 1
    moving, added = _moving(job), job.change.moving - job.change.base
    wide = job.base in ("float32", "mixed")
    each = 1.0 if job.optimizer == "adamw-8bit" else 4.0 if wide or job.stack.master else 2.0
    optimizer = moving * STATES[job.optimizer] * each
    if job.stack.master and not wide:
        optimizer += 4.0 * moving
    gradients = 0.0 if job.fused_step else moving * (4.0 if wide else 2.0)
    slim = 4.0 if job.stack.adapters_in_float32 or wide else 2.0
    adapters = added * slim * (2 + STATES[job.optimizer])
    weights = base_weights(job.architecture, job.base, job.stack)
    host = 0.0 if job.offload else 1.0
    return {
        "weights": host * weights / split / of_weights,
        "gradients": host * gradients / split / of_gradients,
        "optimizer": host * optimizer / split / of_optimizer,
        "adapters": adapters / split / of_weights,
    }


def _activations(job: Job, scale: float) -> float:
    a, tokens = job.architecture, job.micro * (job.length + job.change.tokens)
    wide = 4 if job.base == "float32" else 2
    each = kept(a, job.change, job.stack, wide, quantised=job.quantised)
    layers = a.layers / job.pipeline
    # The first stage of a pipeline holds as many batches as there are stages.
    flights = min(job.pipeline, job.accumulate)
    whole = job.checkpoint != "full"
    total = layers * flights * (each.layer if whole else each.boundary) + (0.0 if whole else each.layer)
    if job.change.keys:
        total += 4.0 * a.layers * a.key_width * job.change.keys / max(job.length, 1)
    return scale * tokens * (total + each.outside) / job.tensor


def _logits(job: Job) -> float:
    rows = job.micro * job.length * job.rows
    return job.stack.logit_bytes * rows * job.architecture.vocabulary / job.stack.chunks / job.tensor


def _gathered(job: Job) -> float:
    """Two layers at a time and what lies outside them, whole, with the gradients of what moves."""
    if job.replicas == 1 or job.sharding != "all":
        return 0.0
    a, c = job.architecture, count(job.architecture)
    each = BITS.get(job.base, 2.0) + (2.0 if job.change.base else 0.0)
    if job.stack.outer_apart:
        return each * max(2 * c.layer, c.embedding) / job.tensor
    outer = c.embedding + (c.head if not a.tied or not job.stack.ties else 0)
    return each * (2 * c.layer + outer) / job.tensor


def _workspace(job: Job) -> float:
    """Dequantised copies of a layer's largest matrices; a chunk of float32 logits is in the logits already."""
    if not job.quantised:
        return 0.0
    a = job.architecture
    widest = max(a.ffn, a.query_width) * a.hidden * 2.0
    head = count(a).head * 2.0 if job.stack.quantised_head else 0.0
    return max(widest, head)

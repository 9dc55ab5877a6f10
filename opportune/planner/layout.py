"""How a job is divided, whether it fits, and the change that would make it fit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from opportune.errors import UsageError
from opportune.planner.architecture import count
from opportune.planner.calibration import Calibration, Estimate
from opportune.planner.hardware import PER_NODE
from opportune.planner.job import Job, check
from opportune.planner.memory import COMMUNICATION, CONTEXT, Memory, memory
from opportune.planner.timing import step

Verdict = Literal["fits", "may fit", "does not fit"]


@dataclass(frozen=True, slots=True)
class Fit:
    """A job's memory against its device's."""

    memory: Memory
    allocated: Estimate
    reserved: Estimate  # what the allocator holds and the driver takes: what the device must have
    available: float
    verdict: Verdict


def fit(job: Job, calibration: Calibration) -> Fit:
    """It fits where the upper end of the interval of what is reserved is within the device's memory."""
    found = memory(job, calibration.scale)
    allocated = calibration.around(found.allocated, "memory")
    device = job.cluster.device
    outside = 0.0 if device.cpu else CONTEXT + (COMMUNICATION if job.cluster.count > 1 else 0.0)
    reserved = allocated.times(1.0 if device.cpu else calibration.reserved).plus(outside)
    verdict: Verdict = "does not fit"
    if reserved.high <= device.memory:
        verdict = "fits"
    elif reserved.value <= device.memory:
        verdict = "may fit"
    return Fit(found, allocated, reserved, device.memory, verdict)


def lay_out(job: Job, calibration: Calibration, sequences: int) -> Job:
    """The fastest division of so many sequences a step that fits with the fewest splits; else the smallest there is."""
    last = job
    for tensor, pipeline in _splits(job):
        found = []
        for candidate in _kinds(job, sequences, tensor, pipeline):
            for last in candidate:
                if fit(last, calibration).verdict == "fits":
                    found.append(last)
                    break
        if found:
            return min(found, key=lambda one: step(one, calibration.speeds).seconds / one.tokens)
    return last


def _kinds(job: Job, sequences: int, tensor: int, pipeline: int) -> Iterator[Iterator[Job]]:
    """For each way of sharding and checkpointing, the batches from large to small."""
    replicas = job.cluster.count // (tensor * pipeline)
    each = max(1, math.ceil(sequences / replicas))
    shardings: tuple[Any, ...] = (
        ("none",) if replicas == 1 else ("none", "all") if job.change.frozen else ("optimizer", "all")
    )
    for sharding in shardings:
        for checkpoint in ("none", "full") if job.checkpoint == "none" else (job.checkpoint,):
            laid = replace(job, tensor=tensor, pipeline=pipeline, sharding=sharding, checkpoint=checkpoint)
            yield (
                replace(laid, micro=micro, accumulate=max(math.ceil(each / micro), pipeline)) for micro in _micros(each)
            )


def _splits(job: Job) -> Iterator[tuple[int, int]]:
    a, devices = job.architecture, job.cluster.count
    for tensor in (1, 2, 4, 8):
        ways = {1, 2, 4, 8, 16} if tensor == PER_NODE else {1}
        for pipeline in sorted(ways):
            divides = devices % (tensor * pipeline) == 0 and a.heads % tensor == 0 and a.ffn % tensor == 0
            if divides and pipeline <= a.layers:
                yield tensor, pipeline


def _micros(each: int) -> list[int]:
    """Sequences at once, from many to one."""
    return [micro for micro in (32, 16, 8, 4, 2, 1) if micro <= each] or [1]


def advice(job: Job, calibration: Calibration) -> tuple[str, ...]:
    """The changes, alone, after which the job would fit; smallest first. Says so where none of them is enough."""
    found = []
    for words, changed in _remedies(job):
        try:
            verdict = fit(check(changed), calibration).verdict
        except UsageError:
            continue
        if verdict == "fits":
            found.append(words)
    if found:
        return tuple(found)
    held = count(job.architecture).total * 2 / 1e9
    return (f"no single change is enough: the weights alone are {held:,.0f} GB in 16 bits; more or larger devices",)


def _remedies(job: Job) -> Iterator[tuple[str, Job]]:
    if job.micro > 1:
        yield "one sequence at a time", replace(job, micro=1, accumulate=job.accumulate * job.micro)
    if job.checkpoint != "full":
        yield "checkpointed activations", replace(job, checkpoint="full")
        yield (
            "checkpointed activations and one sequence at a time",
            replace(job, checkpoint="full", micro=1, accumulate=job.accumulate * job.micro),
        )
    if job.change.frozen and not job.quantised:
        yield "a base of four bits (nf4)", replace(job, base="nf4", checkpoint="full", micro=1)
    if job.sharding != "all" and job.cluster.count > 1:
        yield "everything sharded over the devices", replace(job, sharding="all", checkpoint="full", micro=1)
    if not job.change.frozen and job.optimizer == "adamw":
        yield "AdamW with states of eight bits", replace(job, optimizer="adamw-8bit", checkpoint="full", micro=1)
    for devices in (2, 4, 8, 16, 64):
        if devices > job.cluster.count and not job.cluster.device.cpu:
            cluster = replace(job.cluster, count=devices)
            yield (
                f"{cluster}, everything sharded",
                replace(job, cluster=cluster, sharding="all", checkpoint="full", micro=1, tensor=1, pipeline=1),
            )

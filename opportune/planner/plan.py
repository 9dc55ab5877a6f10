"""A whole plan of training: memory, layout, time, energy, dollars, each with its interval, and what was assumed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from opportune.errors import UsageError
from opportune.planner import energy
from opportune.planner.architecture import Architecture, count
from opportune.planner.calibration import Calibration, Estimate, Kind, exactly
from opportune.planner.hardware import PER_NODE, Cluster
from opportune.planner.job import Base, Checkpoint, Job, check
from opportune.planner.layout import Fit, advice, fit, lay_out
from opportune.planner.memory import base_weights
from opportune.planner.stacks import stack_named
from opportune.planner.techniques import Change, technique_of
from opportune.planner.timing import Step, step
from opportune.planner.work import READING, TOGETHER, Flops, asking_flops

START = 60.0  # seconds to start programs and processes
CORPUS = ("pretrain", "continual")  # methods whose published runs tell what a cluster loses
DISK = 1.0e9  # bytes a second at which weights are read


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be planned; None is chosen by the planner and said in the assumptions."""

    architecture: Architecture
    method: str
    cluster: Cluster
    tokens: float  # read in training, all passes together
    length: int = 512
    batch: int | None = None  # sequences a step
    micro: int | None = None
    base: Base | None = None
    checkpoint: Checkpoint | None = None
    software: str | None = None
    optimizer: str = "adamw"
    tensor: int | None = None
    pipeline: int | None = None
    questions: int = 0  # asked and answered after training


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds by item; they add up to the whole."""

    computing: float
    optimizer: float
    evaluation: float
    start: float
    lost: float  # restarts, stragglers, waiting: the rest of the goodput

    @property
    def total(self) -> float:
        """All items."""
        return self.computing + self.optimizer + self.evaluation + self.start + self.lost


@dataclass(frozen=True, slots=True)
class Plan:
    """What it will cost."""

    request: Request
    change: Change
    job: Job
    fit: Fit
    advice: tuple[str, ...]
    steps: int
    step: Step
    times: Times
    seconds: Estimate
    flops: Estimate
    joules: Estimate
    dollars: Estimate | None
    host_cores: int
    host_memory: float
    assumptions: tuple[str, ...]


def plan(request: Request, calibration: Calibration) -> Plan:
    """The plan of a request. Raises UsageError where it is impossible."""
    if request.tokens < 1:
        raise UsageError(f"--tokens {request.tokens:g}: at least 1")
    change = technique_of(request.method).change(request.architecture)
    job = _job(request, change, calibration)
    found = fit(job, calibration)
    per_step = step(job, calibration.speeds)
    steps = max(1, math.ceil(request.tokens / job.tokens))
    times = _times(request, job, per_step, steps, calibration)
    seconds = _interval(times, request, job, calibration)
    work = per_step.flops.total * steps
    return Plan(
        request=request,
        change=change,
        job=job,
        fit=found,
        advice=() if found.verdict == "fits" else advice(job, calibration),
        steps=steps,
        step=per_step,
        times=times,
        seconds=seconds,
        flops=exactly(work),
        joules=energy.joules(job.cluster, seconds),
        dollars=energy.dollars(job.cluster, seconds),
        host_cores=(job.cluster.device.cores or 1) if job.cluster.device.cpu else 8 * job.cluster.count,
        host_memory=found.reserved.value if job.cluster.device.cpu else _host_memory(job),
        assumptions=tuple(_assumptions(request, job, times)),
    )


def _host_memory(job: Job) -> float:
    """Bytes of the hosts together: the weights as read; twice the devices' memory where states are offloaded."""
    weights = base_weights(job.architecture, job.base, job.stack)
    return max(16e9 * job.cluster.nodes, 1.2 * weights, 2 * job.cluster.count * job.cluster.device.memory * job.offload)


def software_for(request: Request) -> str:
    """This project's own loop on processors, peft on one machine, sharded kernels from there on."""
    if request.software:
        return request.software
    if request.cluster.device.cpu:
        return "opportune"
    if request.method.startswith(CORPUS) or request.cluster.count > PER_NODE:
        return "sharded"
    return "transformers"


def batch_of(request: Request) -> int:
    """Sequences a step: what was asked; 16 for tuning; half a million to four million tokens for pretraining."""
    if request.batch is not None:
        return request.batch
    if not request.method.startswith(CORPUS):
        return 16
    size = count(request.architecture).active
    tokens: float = min(max(5e5 * (size / 1e8) ** 0.45, 1.3e5), 4e6)
    return max(1, round(tokens / request.length))


def _job(request: Request, change: Change, calibration: Calibration) -> Job:
    device = request.cluster.device
    base: Base = request.base or device.base
    values: dict[str, Any] = {"checkpoint": request.checkpoint} if request.checkpoint else {}
    job = Job(
        request.architecture,
        change,
        request.cluster,
        length=request.length,
        base=base,
        optimizer=request.optimizer,  # type: ignore[arg-type]
        stack=stack_named(software_for(request)),
        **values,
    )
    batch = batch_of(request)
    _check_batch(request, batch)
    given = [request.tensor, request.pipeline, request.micro]
    if any(value is not None for value in given):
        return check(_as_given(request, job, batch))
    check(job)
    return check(lay_out(job, calibration, batch, request.checkpoint, exact=request.batch is not None))


def _check_batch(request: Request, batch: int) -> None:
    if batch < 1:
        raise UsageError(f"--batch {batch}: at least 1 sequence a step")
    if request.length > request.architecture.context * 64:
        raise UsageError(f"--length {request.length}: {request.architecture.name} reads {request.architecture.context}")


def _as_given(request: Request, job: Job, batch: int) -> Job:
    tensor, pipeline, micro = request.tensor or 1, request.pipeline or 1, request.micro or 1
    laid = check(replace(job, tensor=tensor, pipeline=pipeline, micro=micro))
    if batch % (micro * laid.replicas):
        raise UsageError(
            f"--batch {batch} does not divide into {laid.replicas} replicas x {micro} sequences at once; "
            f"give a multiple of {micro * laid.replicas}"
        )
    sharding = "none" if laid.replicas == 1 else "all"
    return replace(laid, accumulate=batch // (micro * laid.replicas), sharding=sharding)  # type: ignore[arg-type]


def _times(request: Request, job: Job, per_step: Step, steps: int, calibration: Calibration) -> Times:
    real = job.cluster.device.step_factor or 1.0
    computing = (per_step.seconds - per_step.optimizer) * steps * real
    optimizer = per_step.optimizer * steps * real
    weights = base_weights(request.architecture, job.base, job.stack)
    start = (5.0 if job.cluster.device.cpu else START) + weights / DISK / max(1, job.cluster.nodes)
    busy = computing + optimizer
    lost = _whole(request, job, per_step.flops, steps, busy, calibration) - busy
    return Times(computing, optimizer, _evaluation(request, job, weights), start, lost)


def _whole(request: Request, job: Job, each: Flops, steps: int, busy: float, calibration: Calibration) -> float:
    """Seconds of the steps with what is lost between them."""
    whole = busy / goodput(job, calibration)
    if job.cluster.count <= 2 * PER_NODE or not request.method.startswith(CORPUS):
        return whole
    work = (each.forward + each.backward) * steps
    reached = calibration.share * job.cluster.device.tflops_16bit * 1e12 * job.cluster.count
    return max(busy, averaged(whole, work / reached))


def averaged(law: float, share: float) -> float:
    """Of two estimates of a long run, by the law of its steps and by the share of the peak that such runs reach, the
    middle of their logarithms: equal weights are hard to beat (Bates & Granger 1969; Clemen 1989)."""
    return math.sqrt(law * share)


def _evaluation(request: Request, job: Job, weights: float) -> float:
    """Seconds of reading each question once; a batch of them reads the weights once."""
    many, length, cluster = request.questions, request.length, job.cluster
    work = asking_flops(request.architecture, many * length, many * length**2 / 2, many)
    reading = math.ceil(many / TOGETHER) * weights / cluster.device.bandwidth
    return max(work / (READING * cluster.device.speed(job.base)), reading) / cluster.count


def goodput(job: Job, calibration: Calibration) -> float:
    """Share of the time that ends up in the model."""
    return calibration.goodput if job.cluster.count > 2 * PER_NODE else calibration.alone


def kind_of(request: Request, job: Job) -> Kind:
    """Which records the interval is taken from."""
    if job.cluster.count > 2 * PER_NODE:
        return "run"
    return "peft" if job.change.frozen else "step"


def _interval(times: Times, request: Request, job: Job, calibration: Calibration) -> Estimate:
    return calibration.around(times.total, kind_of(request, job))


def _assumptions(request: Request, job: Job, times: Times) -> Iterable[str]:
    yield f"{request.tokens:,.0f} tokens are read in all, in sequences of {request.length}"
    yield f"{job.micro * job.accumulate * job.replicas:,} sequences a step ({job.tokens:,} tokens)"
    yield f"{request.questions:,} questions are asked after training" if request.questions else "no evaluation"
    yield f"software: {job.stack.what}"
    yield f"weights in {job.base}, {job.optimizer}; activations {_checkpoint(job)}"
    busy = times.computing + times.optimizer
    yield f"{busy / (busy + times.lost):.0%} of the time ends up in the model (goodput)"
    yield energy.price_note(job.cluster)
    drawn = " to ".join(f"{share:.0%}" for share in energy.DRAWN[::2])
    yield f"devices draw {drawn} of their design power; the hall adds {energy.HALL[0]} to {energy.HALL[2]} times"
    if job.cluster.device.notes and job.cluster.device.cpu:
        yield f"{job.cluster.device.name}: {job.cluster.device.notes}"


def _checkpoint(job: Job) -> str:
    return {"none": "all kept", "selective": "kept but for attention", "full": "computed twice (checkpointed)"}[
        job.checkpoint
    ]


def to_json(found: Plan) -> dict[str, Any]:
    """The plan as JSON-like values; bytes, seconds, joules and dollars, each with low and high."""
    job, a = found.job, found.job.architecture
    return {
        "model": {"name": a.name, "parameters": count(a).total, "active": count(a).active, "layers": a.layers,
                  "hidden": a.hidden},
        "method": {"name": found.request.method, "trainable": found.change.moving},
        "hardware": {"device": job.cluster.device.name, "count": job.cluster.count, "host_cores": found.host_cores,
                     "host_memory": found.host_memory},
        "layout": {"micro_batch": job.micro, "accumulate": job.accumulate, "replicas": job.replicas,
                   "tensor": job.tensor, "pipeline": job.pipeline, "sharding": job.sharding,
                   "checkpoint": job.checkpoint, "base": job.base, "software": job.stack.name},
        "memory": {"breakdown": asdict(found.fit.memory), "allocated": asdict(found.fit.allocated),
                   "reserved": asdict(found.fit.reserved), "available": found.fit.available,
                   "verdict": found.fit.verdict, "advice": list(found.advice)},
        "steps": found.steps,
        "time": {"items": asdict(found.times), "seconds": asdict(found.seconds)},
        "flops": asdict(found.flops),
        "joules": asdict(found.joules),
        "dollars": None if found.dollars is None else asdict(found.dollars),
        "assumptions": list(found.assumptions),
    }  # fmt: skip

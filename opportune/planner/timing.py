"""Seconds of a training step, from what the hardware moves and multiplies; the few constants are fitted on records.

products      operations / speed of large products, which small ones reach less: speed x T / (T + half)
attention     its own products, at a lower share of the same speed
elementwise   bytes that norms, activations, residuals and the loss move / bandwidth
weights       reading them once forward and once or twice backward / bandwidth: products are never faster
launches      what the host needs to start the kernels, where that is longer than all of the above
exchange      collecting shards, summing gradients and activations over links, less what computing hides
bubble        (p - 1) / m of a pipeline with p stages and m batches (Narayanan et al. 2021)
optimizer     20 bytes a moving parameter with 16-bit weights (28 with 32-bit) / bandwidth
"""

from __future__ import annotations

from dataclasses import dataclass

from opportune.planner.activations import kept
from opportune.planner.architecture import count
from opportune.planner.hardware import PER_NODE
from opportune.planner.job import BITS, Job
from opportune.planner.memory import base_weights
from opportune.planner.work import Flops, Load, flops

NETWORK = 200e9  # bytes a second between machines of eight devices, all adapters together: 1,600 Gbit/s ...
FASTER = 400e9  # ... and twice that where the devices' own links are of the fourth generation or later
PCIE = 20e9  # bytes a second between devices of one machine without a faster link


@dataclass(frozen=True, slots=True)
class Speeds:
    """The constants, fitted by `benchmarks/planner.py`; see calibration.json."""

    products: float = 0.85  # share of the measured speed of large products
    half: float = 300.0  # tokens at which a product of width 1,000 reaches half its speed
    attention: float = 1.0  # of fused attention, over what its authors report
    moved: float = 2.5  # bytes moved for each byte kept, in fused programs
    moved_apart: float = 4.0  # the same where every operation is a kernel of its own
    launch: float = 2.5e-3  # seconds a layer, forward and backward, where kernels are launched one by one
    launch_fused: float = 0.4e-3
    adapter: float = 0.6e-3  # seconds a layer for each adapted module
    exposed: float = 0.3  # share of the exchange that computing does not hide
    exposed_tensor: float = 0.8


@dataclass(frozen=True, slots=True)
class Step:
    """Seconds of one step of the optimizer, by what they are spent on."""

    products: float
    attention: float
    elementwise: float
    waiting: float  # launches and reading weights beyond the above
    exchange: float
    bubble: float
    optimizer: float
    flops: Flops  # of all devices in one step

    @property
    def seconds(self) -> float:
        """All of them."""
        parts = (self.products, self.attention, self.elementwise, self.waiting, self.exchange, self.bubble)
        return sum(parts) + self.optimizer


def step(job: Job, s: Speeds) -> Step:
    """One step."""
    a, change, device = job.architecture, job.change, job.cluster.device
    load = Load(job.micro, job.length, round(job.micro * job.length * job.rows), causal=True)
    recompute = {"none": 0.0, "selective": 0.0, "full": 1.0}[job.checkpoint]
    work = flops(a, change, load, recompute)
    split = job.tensor * job.pipeline
    tokens = load.under(change).tokens
    peak = device.matmul if job.base != "float32" else 1e12 * (device.tflops_32bit or device.tflops_16bit)
    speed = peak * s.products * _reach(tokens, a.hidden / job.tensor, s)
    products = (work.total - work.attention) / split / speed
    attention = work.attention / split / (peak * s.attention * job.stack.attention)
    elementwise = _moved(job, tokens, recompute, s) / split / device.bandwidth
    computing = products + attention + elementwise
    floor = max(_launches(job, s) / job.pipeline, _reading(job) / split / device.bandwidth)
    waiting = max(0.0, floor - computing)
    each = computing + waiting
    exchange = _exchange(job, tokens, each, s)
    bubble = (job.pipeline - 1) / job.accumulate * (each + exchange) if job.pipeline > 1 else 0.0
    many = job.accumulate
    whole = Flops(*(value * many * job.replicas for value in (work.forward, work.backward, work.again, work.attention)))
    return Step(products * many, attention * many, elementwise * many, waiting * many, exchange * many, bubble * many,
                _optimizer(job), whole)  # fmt: skip


def _reach(tokens: float, width: float, s: Speeds) -> float:
    """Share of the speed that products of so many rows and so wide reach."""
    size = tokens * width / 1000.0
    return size / (size + s.half)


def _moved(job: Job, tokens: float, recompute: float, s: Speeds) -> float:
    a = job.architecture
    each = kept(a, job.change, job.stack, 4 if job.base == "float32" else 2, quantised=job.quantised)
    rate = s.moved if job.stack.compiled else s.moved_apart
    layers = a.layers * each.layer * (1 + recompute / 3)
    loss = 2.0 * job.stack.logit_bytes * a.vocabulary * job.rows
    return tokens * (rate * (layers + each.outside) + loss)


def _launches(job: Job, s: Speeds) -> float:
    if job.cluster.device.cpu:
        return 0.0
    again = 4 / 3 if job.checkpoint == "full" else 1.0
    if job.stack.compiled:
        return s.launch_fused * job.architecture.layers * again
    layer = s.launch + s.adapter * (len(job.change.adapted) + len(job.change.scaled))
    return layer * job.architecture.layers * again


def _reading(job: Job) -> float:
    """Bytes of weights read in one pass: forward, backward for inputs, and written as gradients where they move."""
    weights = base_weights(job.architecture, job.base, job.stack)
    extra = 2.0 * count(job.architecture).linear * 2 if job.base in BITS else 0.0  # dequantised, then read
    return weights * (2 + (0 if job.change.frozen else 1)) + extra


def _exchange(job: Job, tokens: float, computing: float, s: Speeds) -> float:
    """Seconds of one batch that the exchange adds."""
    device, a = job.cluster.device, job.architecture
    near = (device.link_gb_s or 0.0) * 1e9 or PCIE
    total = 0.0
    if job.tensor > 1:
        link = near if job.tensor <= PER_NODE else min(near, _network(near))
        moved = 2.0 * tokens * a.hidden * 2 * (job.tensor - 1) / job.tensor
        passes = 4 * (4 / 3 if job.checkpoint == "full" else 1.0)
        total += s.exposed_tensor * passes * a.layers / job.pipeline * moved / (0.8 * link)
    if job.replicas > 1:
        link = near if job.cluster.count <= PER_NODE else min(near, _network(near))
        share = (job.replicas - 1) / job.replicas / (job.tensor * job.pipeline)
        # Experts stay where they are, and their tokens travel.
        stay = count(a).expert
        sums = 2.0 * 2 * max(job.change.moving - stay, 0) / job.accumulate
        gathers = 2.0 * 2 * (count(a).total - stay) if job.sharding == "all" else 0.0
        moved = (sums / (2 if job.sharding == "all" else 1) + gathers) * share / (0.8 * link)
        if a.experts is not None:  # at most four machines for a token, one byte there and two back (DeepSeek-AI 2024)
            sites = min(a.experts.active, 4) * (a.layers - a.experts.dense)
            split = job.tensor * job.pipeline
            moved += 6.0 * tokens * a.hidden * sites / split / (0.8 * link / PER_NODE)
        total += s.exposed * moved + max(0.0, (1 - s.exposed) * moved - computing)
    if job.offload:
        total += 3 * base_weights(a, job.base, job.stack) / job.replicas / PCIE
    return total


def _network(near: float) -> float:
    return FASTER if near >= 450e9 else NETWORK


def _optimizer(job: Job) -> float:
    ways = job.tensor * job.pipeline * (job.replicas if job.sharding != "none" else 1)
    wide = job.base in ("float32", "mixed") or job.stack.master
    each = (28.0 if wide else 20.0) + (24.0 if job.offload else 0.0)
    bandwidth = job.cluster.device.bandwidth if not job.offload else PCIE
    return each * job.change.moving / ways / bandwidth

"""Fitting the planner's constants on records, and predicting each record from the others."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from benchmarks.planner_records import Record, architecture, cluster_of, job_of, objection, run_flops, run_share
from opportune.planner.architecture import Architecture
from opportune.planner.calibration import Calibration
from opportune.planner.catalogue import of_size
from opportune.planner.hardware import PER_NODE, Cluster
from opportune.planner.job import Job
from opportune.planner.layout import lay_out
from opportune.planner.memory import memory
from opportune.planner.plan import Request, averaged, batch_of
from opportune.planner.stacks import STACKS
from opportune.planner.techniques import technique_of
from opportune.planner.timing import Speeds, step

_NAMES = [item.name for item in fields(Speeds)]
# How far a constant may sensibly be from its first guess, in powers of e.
_LOOSE = np.array([0.15, 0.7, 0.4, 0.5, 0.5, 0.5, 0.7, 0.7, 0.7, 0.7])
_SCALES = np.linspace(0.9, 1.2, 31)
MONTH = 30 * 86400.0  # a run that does not say on how many devices is assumed to take so long ...
REACHED = 0.4  # ... at this share of the peak
EIGHT_BIT = 1.3  # times faster: half of the products at twice the speed


@dataclass(frozen=True, slots=True)
class Prediction:
    """One figure of one record, predicted without its group."""

    record: Record
    kind: str  # memory, step, peft, run
    measured: float | None  # None: it ran out of memory
    predicted: float
    low: float = 0.0
    high: float = 0.0

    @property
    def error(self) -> float:
        """(Predicted - measured) / measured."""
        return self.predicted / self.measured - 1 if self.measured else 0.0

    @property
    def residual(self) -> float:
        """log(measured / predicted)."""
        return math.log((self.measured or self.predicted) / self.predicted)


def usable(records: Sequence[Record]) -> list[Record]:
    """Those whose figures can be true."""
    return [record for record in records if not record.flag and not objection(record)]


# ---- time ------------------------------------------------------------------------------------------------------------

Timed = list[tuple[Record, Job]]


def timed(records: Sequence[Record]) -> Timed:
    """Records with seconds a step, as jobs."""
    return [(record, job_of(record, timed=True)) for record in records if record.seconds]


def fit_speeds(data: Timed) -> Speeds:
    """Robust least squares of the logarithms; sources weigh less the more records they have, guesses hold constants."""
    from scipy.optimize import least_squares

    first = np.log([getattr(Speeds(), name) for name in _NAMES])
    measured = np.log([record.seconds for record, _ in data if record.seconds])
    counts = Counter(record.source for record, _ in data)
    weight = np.array([min(1.0, 3 / math.sqrt(counts[record.source])) for record, _ in data])

    def misfit(point: Any) -> Any:
        found = np.log([step(job, _speeds(point)).seconds for _, job in data])
        return np.concatenate([weight * (found - measured), 0.5 * (point - first) / _LOOSE])

    done = least_squares(misfit, first, loss="soft_l1", f_scale=0.1, max_nfev=25)
    return _speeds(done.x)


def _speeds(point: Any) -> Speeds:
    return Speeds(**{name: float(value) for name, value in zip(_NAMES, np.exp(point), strict=True)})


# ---- memory ----------------------------------------------------------------------------------------------------------


def fit_memory(records: Sequence[Record]) -> tuple[float, float]:
    """The multiplier of activations, and what the allocator holds over what is allocated."""
    data = [record for record in records if record.memory]
    allocated = [(r, job_of(r)) for r in data if not r.reserved]
    reserved = [(r, job_of(r)) for r in data if r.reserved]
    counts = Counter(record.source for record, _ in allocated)

    def misfit(scale: float) -> float:
        errors = [abs(math.log(memory(j, scale).allocated / (r.memory or 1))) / counts[r.source] for r, j in allocated]
        return math.fsum(errors) if errors else abs(scale - 1)

    scale = float(min(_SCALES, key=misfit))
    ratios = [(record.memory or 1) / memory(job, scale).allocated for record, job in reserved]
    # Two observations' worth of a guess: a few per cent are lost to fragments.
    return scale, max(1.0, statistics.median([*ratios, 1.05, 1.05]))


def predict_memory(record: Record, scale: float, reserved: float) -> float:
    """Peak bytes, of the kind that the record measured."""
    return memory(job_of(record), scale).allocated * (reserved if record.reserved else 1.0)


# ---- whole runs ------------------------------------------------------------------------------------------------------


def run_architecture(record: Record) -> Architecture:
    """What was trained; a made-up architecture of that size where it is not known."""
    return architecture(record) if "architecture" in record.fields else of_size(f"{record.fields['parameters']:.0f}")


def ideal_hours(record: Record, speeds: Speeds, calibration: Calibration) -> tuple[float, bool]:
    """Device-hours of a run if no time were lost, and whether it ran on more than two machines."""
    a, f = run_architecture(record), record.fields
    cluster = Cluster(cluster_of(record).device, _power_of_two(devices_of(record)))
    length = min(int(f.get("length", 2048)), a.positions or 10**9)
    request = Request(a, f["method"], cluster, f["tokens"], length=length)
    change = technique_of(f["method"]).change(a)
    whole = Job(a, change, cluster, length=length, stack=STACKS["sharded"])
    job = lay_out(whole, calibration, batch_of(request), f.get("checkpoint"))
    seconds = step(job, speeds).seconds / job.tokens * float(f["tokens"]) * cluster.count
    return seconds / 3600 / _quicker(record), cluster.count > 2 * PER_NODE


def devices_of(record: Record) -> float:
    """What it ran on; where it does not say, as many as end it within a month, but a machine's worth at least."""
    if "devices" in record.fields:
        return float(record.fields["devices"])
    rate = REACHED * 1e12 * cluster_of(record).device.tflops_16bit
    return max(float(PER_NODE), run_flops(record) / rate / MONTH)


def _quicker(record: Record) -> float:
    """How much faster products of eight bits make it."""
    return EIGHT_BIT if record.fields.get("eight_bit") else 1.0


def _power_of_two(number: float) -> int:
    return 1 << max(0, round(math.log2(number)))


def fit_runs(records: Sequence[Record], start: Calibration) -> Calibration:
    """With the goodput of clusters, the share of the peak that they reach, and the goodput of one or two machines."""
    shares: dict[bool, list[float]] = {True: [], False: []}
    reached = []
    for record in records:
        hours, many = ideal_hours(record, start.speeds, start)
        shares[many].append(hours / float(record.fields["device_hours"]))
        if many:
            reached.append(run_share(record) / _quicker(record))
    # One machine seldom waits for others: four observations' worth of a guess. What clusters lose, only records tell.
    alone = statistics.median([*shares[False], *[0.97] * 4])
    goodput = min(statistics.median([*shares[True], 0.85]), 1.0)
    share = statistics.median(reached) if reached else start.share
    return replace(start, goodput=goodput, share=share, alone=min(alone, 1.1))


def predict_run(record: Record, found: Calibration) -> float:
    """Device-hours of a whole run, as `plan` has them for one on so many devices."""
    hours, many = ideal_hours(record, found.speeds, found)
    if not many:
        return hours / found.alone
    peak = cluster_of(record).device.tflops_16bit * 1e12 * _quicker(record)
    return max(hours, averaged(hours / found.goodput, run_flops(record) / found.share / peak / 3600))


# ---- leaving out -----------------------------------------------------------------------------------------------------


def leave_out(
    records: Sequence[Record], group: Callable[[Record], str], one: Callable[..., list[Prediction]]
) -> list[Prediction]:
    """Every record predicted from a fit without its group."""
    found: list[Prediction] = []
    for name in dict.fromkeys(group(record) for record in records):
        rest = [record for record in records if group(record) != name]
        found += one(rest, [record for record in records if group(record) == name])
    return found


def with_intervals(found: Sequence[Prediction], group: Callable[[Record], str]) -> list[Prediction]:
    """Each with the interval that the other groups' residuals give."""
    done = []
    for item in found:
        others = [p for p in found if group(p.record) != group(item.record) and p.measured]
        low, high = range_of(others, group)
        done.append(replace(item, low=item.predicted * low, high=item.predicted * high))
    return done


def range_of(found: Sequence[Prediction], group: Callable[[Record], str]) -> tuple[float, float]:
    """Measured / predicted within which nine in ten lie, every group weighing the same up to its number of records."""
    if not found:
        return 0.5, 2.0
    counts = Counter(group(p.record) for p in found)
    weights = np.array([1 / math.sqrt(counts[group(p.record)]) for p in found])
    residuals = np.array([p.residual for p in found])
    order = np.argsort(residuals)
    places = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    low, high = np.interp([0.05, 0.95], places, residuals[order])
    return float(np.exp(low)), float(np.exp(high))


def as_file(calibration: Calibration) -> Mapping[str, Any]:
    """What calibration.json holds."""
    found = asdict(calibration)
    found["speeds"] = {name: float(f"{value:.4g}") for name, value in found["speeds"].items()}
    for name in ("scale", "reserved", "goodput", "share", "alone"):
        found[name] = round(found[name], 4)
    found["ranges"] = {kind: [round(low, 4), round(high, 4)] for kind, (low, high) in calibration.ranges.items()}
    return found

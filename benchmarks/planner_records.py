"""Published measurements, each with its source: what the planner is fitted on and judged by (planner_records.json)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from opportune.planner.architecture import Architecture, count
from opportune.planner.catalogue import find
from opportune.planner.families import read_config
from opportune.planner.hardware import Cluster, cluster
from opportune.planner.job import Job, check
from opportune.planner.memory import memory
from opportune.planner.stacks import stack_named
from opportune.planner.techniques import technique_of
from opportune.planner.work import Load, flops

_SHIPPED = Path(__file__).with_name("planner_records.json")
HIGHEST = 0.75  # of a device's peak: nobody computes a transformer faster
_JOB = ("micro", "length", "accumulate", "base", "optimizer", "checkpoint", "sharding", "tensor", "pipeline", "offload",
        "fused_step", "rows")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Record:
    """One published measurement."""

    id: str
    source: str
    family: str
    kind: Literal["memory", "step", "peft", "run"]
    fields: dict[str, Any]  # as in the file

    @property
    def memory(self) -> float | None:
        """Measured peak bytes of a device."""
        return self.fields.get("memory")

    @property
    def seconds(self) -> float | None:
        """Measured seconds a step."""
        return self.fields.get("seconds")

    @property
    def reserved(self) -> bool:
        """Whether memory is what the allocator held rather than what was allocated."""
        return self.fields.get("memory_kind") == "reserved"

    @property
    def ran_out(self) -> bool:
        """Whether the job ran out of memory."""
        return bool(self.fields.get("out_of_memory"))

    @property
    def flag(self) -> str:
        """Why the figure cannot be true, or cannot be compared; empty where it can."""
        return str(self.fields.get("flag", ""))

    @property
    def group(self) -> str:
        """What is left out together: the source; for the comparison of PEFT methods, the method."""
        return f"{self.source}: {self.fields['group']}" if "group" in self.fields else self.source


def load(path: Path = _SHIPPED) -> tuple[Record, ...]:
    """All records of a file in the format of planner_records.json."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return tuple(Record(row["id"], row["source"], row["family"], row["kind"], row) for row in rows)


@cache
def shipped() -> tuple[Record, ...]:
    """The records that come with the project."""
    return load()


def architecture(record: Record) -> Architecture:
    """What was trained."""
    named = record.fields["architecture"]
    return find(named) if isinstance(named, str) else read_config(named, record.id)


def job_of(record: Record, *, timed: bool = False) -> Job:
    """The record as a job; `timed` with the mean length of its batches, else with the longest."""
    f = record.fields
    a = architecture(record)
    values = {name: f[name] for name in _JOB if name in f}
    if timed and "mean_length" in f:
        values["length"] = round(padded(f["mean_length"], values["micro"], values["length"]))
    change = technique_of(f["method"]).change(a)
    stack = stack_named(f["software"])
    return check(Job(a, change, cluster_of(record), stack=stack, **values))


def padded(mean: float, sequences: int, longest: float) -> float:
    """Expected length of the longest of some sequences, whose lengths spread by about half their mean (exponential
    beyond half the mean): what a padded batch computes. At most the limit."""
    spread = 0.5 * mean
    return min(mean - spread + spread * sum(1 / i for i in range(1, sequences + 1)), longest)


def cluster_of(record: Record) -> Cluster:
    """What it ran on."""
    return cluster(record.fields["hardware"])


def objection(record: Record) -> str:
    """Why the figure cannot be true: below what must be held, or faster than the device is; empty where it can."""
    if record.kind == "run":
        return _run_objection(record)
    job = job_of(record, timed=True)
    if record.memory is not None:
        m = memory(job_of(record))
        held = m.weights + m.optimizer
        if record.memory < held:
            return f"below weights and optimizer states: {record.memory / 1e9:.1f} of {held / 1e9:.1f} GB"
    if record.seconds is not None and not job.offload:
        load = Load(job.micro, job.length, causal=True)
        work = flops(job.architecture, job.change, load).total * job.accumulate / (job.tensor * job.pipeline)
        share = work / record.seconds / (job.cluster.device.tflops_16bit * 1e12)
        if share > HIGHEST:
            return f"{share:.0%} of the device's peak"
    return ""


def _run_objection(record: Record) -> str:
    share = run_share(record)
    limit = HIGHEST * (2 if record.fields.get("eight_bit") else 1)
    return f"{share:.0%} of the device's peak" if share > limit else ""


def run_flops(record: Record) -> float:
    """Model FLOPs of a whole run: 6 N a token, and attention where the widths are known."""
    f = record.fields
    if "architecture" not in f:
        return 6.0 * float(f["parameters"]) * float(f["tokens"])
    a = architecture(record)
    length = float(f.get("length", 2048))
    per_token = 6.0 * count(a).active + 12.0 * a.layers * a.query_width * length / 2
    return per_token * float(f["tokens"])


def run_share(record: Record) -> float:
    """Share of the devices' 16-bit peak that a whole run reached."""
    peak = cluster_of(record).device.tflops_16bit * 1e12
    return run_flops(record) / (float(record.fields["device_hours"]) * 3600 * peak)

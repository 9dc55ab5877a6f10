"""The comparison of ways to train at three sizes: what each needs of processors, GPUs, time, energy and money."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from opportune.errors import UsageError
from opportune.planner.architecture import count
from opportune.planner.calibration import Calibration
from opportune.planner.catalogue import of_size
from opportune.planner.data import CONTINUAL, PER_PARAMETER
from opportune.planner.hardware import Cluster, Table
from opportune.planner.plan import Plan, Request, plan

SIZES = ("100M", "10B", "150B")
GPU, PROCESSOR = "h100", "cpu-96core"
TUNING_TOKENS = 50e6  # 50,000 examples of 500 tokens, read twice
LENGTH = {"pretrain": 2048, "continual": 2048}
YEAR = 365 * 86400.0
LONGEST = 90 * 86400.0  # a training that takes longer gets more devices


@dataclass(frozen=True, slots=True)
class Way:
    """One column of the comparison."""

    title: str
    method: str


WAYS = (
    Way("pretraining", "pretrain"),
    Way("full fine-tuning", "full"),
    Way("PEFT (IA3)", "ia3"),
    Way("soft prompting", "prompt-tuning:tokens=100"),
    Way("continual pretraining", "continual"),
    Way("LoRA", "lora:rank=16"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One size and way."""

    size: str
    way: Way
    plan: Plan  # on GPUs
    processor: Plan | None  # on processors alone; None where the model does not fit or it takes more than a year


def grid(calibration: Calibration, table: Table) -> list[Row]:
    """All rows, every plan on the fewest devices that it fits on and that end within ninety days."""
    return [_row(size, way, calibration, table) for size in SIZES for way in WAYS]


def tokens_of(way: Way, parameters: int) -> float:
    """How much is read: the assumptions of the table."""
    if way.method == "pretrain":
        return PER_PARAMETER * parameters
    return CONTINUAL if way.method == "continual" else TUNING_TOKENS


def _row(size: str, way: Way, calibration: Calibration, table: Table) -> Row:
    a = of_size(size)
    length = LENGTH.get(way.method, 512)
    request = Request(a, way.method, Cluster(table[GPU]), tokens_of(way, count(a).total), length=length)
    found = _smallest(request, calibration, table)
    processor: Plan | None
    try:
        processor = plan(replace(request, cluster=Cluster(table[PROCESSOR])), calibration)
    except UsageError:
        processor = None
    if processor and (processor.fit.verdict == "does not fit" or processor.seconds.low > YEAR):
        processor = None
    return Row(size, way, found, processor)


def _smallest(request: Request, calibration: Calibration, table: Table) -> Plan:
    last: Plan | None = None
    for devices in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192):
        try:
            last = plan(replace(request, cluster=Cluster(table[GPU], devices)), calibration)
        except UsageError:
            continue
        if last.fit.verdict == "fits" and last.seconds.value <= LONGEST:
            return last
    if last is None:
        raise UsageError(f"{request.method} on {request.architecture.name} fits no number of {GPU}")
    return last


def assumptions(rows: Sequence[Row]) -> tuple[str, ...]:
    """What holds for the whole table."""
    first = rows[0].plan
    return (
        f"pretraining reads {PER_PARAMETER:g} tokens a parameter (Hoffmann et al. 2022), in sequences of 2,048; "
        f"continual pretraining {CONTINUAL / 1e9:g} billion; every kind of tuning "
        f"{TUNING_TOKENS / 1e6:g} million in sequences of 512 (50,000 examples of 500 tokens, twice)",
        f"GPUs: the smallest power of two of {first.job.cluster.device.what or first.job.cluster.device.name} on which "
        "the upper end of the memory interval fits and the training ends within ninety days",
        "processors alone: one server of 96 cores with a bfloat16 unit and 768 GB (assumed figures; probe your own); a "
        "dash where the model does not fit or it would take more than a year",
        "intervals are of 90 %: the range that held the published records of the kind when their source was left out",
        "energy: 54 to 75 % of the design power, hosts and hall included; dollars: price, spread and time together",
        "architectures are made up to the size by the rule of --parameters; widths are in --json",
    )

"""The cheapest hardware that fits, of whatever is planned; where none does, what each lacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from opportune.errors import UsageError
from opportune.planner.calibration import Estimate
from opportune.planner.hardware import Cluster, Table

COUNTS = (1, 2, 4, 8, 16, 64, 256, 1024)  # of one accelerator


class Room(Protocol):
    """What is held against what there is."""

    @property
    def reserved(self) -> Estimate:
        """Bytes that a device must have."""
        ...

    @property
    def available(self) -> float:
        """Bytes that it has."""
        ...

    @property
    def verdict(self) -> str:
        """Whether the one is within the other."""
        ...


class Planned(Protocol):
    """A plan on some hardware."""

    @property
    def fit(self) -> Room:
        """Its memory."""
        ...

    @property
    def dollars(self) -> Estimate | None:
        """Its price, where one is known."""
        ...


P = TypeVar("P", bound=Planned)


def offered(table: Table) -> list[Cluster]:
    """Every device of a table, accelerators in several numbers."""
    return [Cluster(device, n) for device in table.values() for n in (COUNTS if not device.cpu else (1,))]


def choose(make: Callable[[Cluster], P], clusters: Iterable[Cluster], what: str) -> P:
    """The plan that fits and costs least; one without a price only where nothing else fits.

    Raises what is refused on every cluster alike, and UsageError with a word on each device where nothing fits.
    """
    fitting: list[P] = []
    lacking: dict[str, str] = {}  # device -> why the last and largest number of it will not do
    refusals: list[UsageError] = []
    tried = 0
    for cluster in clusters:
        tried += 1
        try:
            plan = make(cluster)
        except UsageError as error:
            refusals.append(error)
            lacking[cluster.device.name] = f"{cluster}: {error}"
            continue
        if plan.fit.verdict == "fits":
            fitting.append(plan)
        else:
            need, there = plan.fit.reserved.high / 1e9, plan.fit.available / 1e9
            lacking[cluster.device.name] = f"{cluster} needs {need:,.0f} of {there:,.0f} GB"
    if refusals and len(refusals) == tried and len({str(error) for error in refusals}) == 1:
        raise refusals[0]
    if not fitting:
        raise UsageError(f"{what} fits none of the hardware: " + "; ".join(lacking.values()))
    return min(fitting, key=lambda plan: math.inf if plan.dollars is None else plan.dollars.value)

"""The cheapest plan of a training, as the command line chooses it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from opportune.planner.calibration import Calibration
from opportune.planner.choosing import choose
from opportune.planner.hardware import Cluster
from opportune.planner.plan import Plan, Request, plan


def cheapest(request: Request, clusters: Iterable[Cluster], calibration: Calibration) -> Plan:
    return choose(lambda cluster: plan(replace(request, cluster=cluster), calibration), clusters, "it")

"""Nobody watches a pretraining."""

from __future__ import annotations

from opportune.pretraining.order import Plan


class Quiet:
    """Watches and shows nothing."""

    def stage(self, name: str) -> None:
        return None

    def planned(self, plan: Plan) -> None:
        return None

    def step(self, step: int, loss: float, seconds: float) -> None:
        return None

    def validated(self, loss: float) -> None:
        return None

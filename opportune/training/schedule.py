"""How large each step is: warm-up, constant, linear decay to nothing (WSD, Hu et al. 2024; Bergsma et al. 2025).

Until the decay begins a step does not depend on how long the run will be after it, so that a short probe of a rate is
the beginning of the full run and can be continued.
"""

from __future__ import annotations


def rate_at(step: int, steps: int, peak: float, warmup: float, decay: float) -> float:
    """The learning rate of step 0, 1, ... of a run of `steps`; `warmup` and `decay` are fractions of the run."""
    rising = (step + 1) / max(1, round(warmup * steps))
    falling = (steps - step) / max(1, round(decay * steps))
    return peak * min(1.0, rising, falling)

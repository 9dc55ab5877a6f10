"""What `opportune plan` shows of measurements: this machine probed, predictions beside what runs took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer


def probed() -> dict[str, Any]:
    """The device `this machine`, where it was measured."""
    from opportune.planner.probe import kept

    device = kept()
    return {} if device is None else {device.name: device}


def probe(as_json: bool) -> None:
    """Measure this machine and print what was found."""
    import json
    from dataclasses import asdict

    from opportune.planner import probe as measuring

    device = measuring.probe()
    if as_json:
        typer.echo(json.dumps(asdict(device), ensure_ascii=False))
        return
    typer.echo(
        f"this machine: {device.what}; matrix products {device.tflops_16bit * 1000:,.0f} GFLOP/s in 16 bits, "
        f"{(device.tflops_32bit or 0) * 1000:,.0f} in 32; memory {device.memory_gb:.1f} GB at "
        f"{device.bandwidth_gb_s:.1f} GB/s; a real step takes {device.step_factor:.2f} times what these alone give\n"
        "kept; use it with --hardware 'this machine'"
    )


def ledger(runs: Path, as_json: bool) -> None:
    """Print predicted against measured of all runs."""
    import json

    from opportune import ledger as predictions
    from opportune.report.ledger_text import print_ledger
    from opportune.store import Store

    with Store.open(runs, create=False) as store:
        found = predictions.read(store)
    if as_json:
        typer.echo(json.dumps(predictions.to_json(found), ensure_ascii=False))
    else:
        print_ledger(found)

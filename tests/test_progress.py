"""The live view: what it says is left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opportune.cli import progress
from opportune.cost import Amount, Cost
from opportune.records import ArmRecord, RunRecord


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def arm(name, seconds):
    predicted = Cost(asking=Amount(seconds=seconds))
    return ArmRecord("r", name, 0, 0, name, "m", {"recipe": name}, predicted=predicted)


def test_what_was_left_out_or_failed_is_neither_waited_for_nor_a_measure(clock, capsys):
    out, failing, whole, last = arms = [arm("out", 3600.0), arm("failing", 60.0), arm("whole", 60.0), arm("last", 60.0)]
    config = {"models": [], "machine_price": None}
    view = progress.LiveView()
    view.begin(RunRecord("r", "k", "", "toy", config), arms)
    view.end(replace(out, status="failed", reason="not run"))
    assert "about 3 min" in capsys.readouterr().err.splitlines()[-1]
    clock[0] += 1.0
    view.end(replace(failing, status="failed", reason="no"))
    assert "about 2 min" in capsys.readouterr().err.splitlines()[-1]
    clock[0] += 120.0
    view.end(replace(whole, status="done"))
    assert (
        "about 2 min" in capsys.readouterr().err.splitlines()[-1]
    )  # the last one takes twice as long as predicted too
    clock[0] += 120.0
    view.end(replace(last, status="done"))
    assert "nearly done" in capsys.readouterr().err.splitlines()[-1]

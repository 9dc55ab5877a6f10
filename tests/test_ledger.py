"""Predicted beside measured: the ledger's errors and its correction; the budget of a run."""

import pytest

from opportune.budget import left_out, seconds_of
from opportune.cost import Amount, Cost
from opportune.errors import UsageError
from opportune.ledger import corrected, entries, errors, factors, to_json
from opportune.records import ArmRecord


def arm(predicted, measured, *, hash="h", status="done", used=None):
    bills = [Cost(training=Amount(seconds=value)) if value is not None else None for value in (predicted, measured)]
    resolved = {"recipe": "lora", "ledger": {"training": used}} if used else {"recipe": "lora"}
    return ArmRecord("r", hash, 0, 0, "lora", "tiny", resolved, status, None, bills[0], bills[1] or Cost())


def test_an_entry_is_what_was_predicted_and_what_it_took():
    [entry] = entries(arm(10.0, 12.0))
    assert (entry.item, entry.figure, entry.ratio) == ("training", "seconds", 1.2)
    assert entries(arm(None, 12.0)) == []
    assert entries(arm(10.0, 12.0, status="failed")) == []


def test_the_correction_approaches_what_was_measured_with_use():
    found = [entry for _ in range(3) for entry in entries(arm(10.0, 20.0))]
    few, many = factors(found[:1])["training"], factors(found * 10)["training"]
    assert 1.0 < few < many <= 2.0
    assert many == pytest.approx(2.0)
    bill = corrected(Cost(training=Amount(seconds=10.0), asking=Amount(seconds=1.0)), {"training": many})
    assert bill.training.seconds == pytest.approx(20.0)
    assert bill.asking.seconds == 1.0


def test_a_corrected_prediction_that_was_right_keeps_the_correction():
    found = entries(arm(20.0, 20.0, used=2.0)) * 20
    assert factors(found)["training"] == pytest.approx(2.0)
    assert errors(found)["training seconds"]["median_error"] == 0.0
    assert to_json(found)["entries"][0]["ratio"] == 1.0


def test_arms_that_pass_the_budget_are_left_out_with_the_reason():
    items = [arm(60.0, None, hash="a", status="pending"), arm(600.0, None, hash="b", status="pending"),
             arm(50.0, None, hash="c", status="pending"), arm(600.0, 1.0, hash="d")]  # fmt: skip
    out = left_out(items, 120.0)
    assert set(out) == {("b", 0)}
    assert "10.0 min predicted" in out["b", 0]
    assert left_out(items, 1e9) == {}


def test_a_budget_is_a_time():
    assert [seconds_of(text) for text in ("20m", "90s", "1.5h", "3")] == [1200, 90, 5400, 180]
    for bad in ("", "soon", "-3m", "0"):
        with pytest.raises(UsageError, match="not a time"):
            seconds_of(bad)

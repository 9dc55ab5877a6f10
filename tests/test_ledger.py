"""Predicted beside measured: the ledger's errors and its correction; the budget of a run."""

from dataclasses import replace

import pytest

from opportune.budget import dollar_limit, left_out, seconds_of, time_limit
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
             arm(50.0, None, hash="c", status="pending")]  # fmt: skip
    out = left_out(items, [time_limit(120.0)])
    assert set(out) == {("b", 0)}
    assert "10.0 min predicted" in out["b", 0]
    assert left_out(items, [time_limit(1e9)]) == {}
    assert left_out(items, []) == {}


@pytest.mark.parametrize("took", [1.0, 55.0, 2000.0])
def test_the_same_budget_leaves_out_the_same_arms_wherever_the_run_was_interrupted(took):
    """However long those that ran took."""
    begun = [arm(60.0, None, hash="a", status="pending"), arm(100.0, None, hash="b", status="pending"),
             arm(50.0, None, hash="c", status="pending"), arm(20.0, None, hash="d", status="pending")]  # fmt: skip
    out = left_out(begun, [time_limit(120.0)])
    assert set(out) == {("b", 0), ("d", 0)}
    ends = [arm(60.0, took, hash="a"), arm(100.0, None, hash="b", status="failed"), arm(50.0, took, hash="c"), begun[3]]
    for interrupted in range(5):
        assert left_out(ends[:interrupted] + begun[interrupted:], [time_limit(120.0)]) == out
    under_way = [ends[0], ends[1], replace(begun[2], status="running"), begun[3]]
    assert left_out(under_way, [time_limit(120.0)]) == out
    assert left_out(ends, [time_limit(1e3)]) == {}


def test_dollars_are_counted_in_order_on_what_earlier_sittings_paid():
    def priced(dollars, hash):
        return replace(arm(1.0, None, hash=hash, status="pending"), predicted=Cost(asking=Amount(dollars=dollars)))

    items = [priced(0.5, "a"), priced(2.0, "b"), priced(0.4, "c"), arm(9.0, None, hash="free", status="pending")]
    assert set(left_out(items, [dollar_limit(1.0, 0.0, {})])) == {("b", 0)}
    assert set(left_out(items, [dollar_limit(1.0, 0.2, {})])) == {("b", 0), ("c", 0)}
    # What an arm has paid already it does not pay again.
    assert set(left_out(items, [dollar_limit(1.0, 0.2, {("a", 0): 0.2})])) == {("b", 0)}
    both = left_out(items, [time_limit(5.0), dollar_limit(1.0, 0.0, {})])
    assert set(both) == {("b", 0), ("free", 0)}
    assert "the cap of $1" in both["b", 0]


def test_a_budget_is_a_time():
    assert [seconds_of(text) for text in ("20m", "90s", "1.5h", "3")] == [1200, 90, 5400, 180]
    for bad in ("", "soon", "-3m", "0"):
        with pytest.raises(UsageError, match="not a time"):
            seconds_of(bad)

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opportune.cost import Amount
from opportune.report import numbers

UNITS = {"µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}


def read_duration(text: str) -> float:
    return sum(float(number.replace(",", "")) * UNITS[unit] for number, unit in re.findall(r"([\d.,]+) (\w+)", text))


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-5, 1e7))
def test_a_duration_says_what_it_was(seconds: float) -> None:
    assert read_duration(numbers.duration(seconds)) == pytest.approx(seconds, rel=0.051)


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 1e7))
def test_a_duration_never_reads_60_seconds_or_minutes(seconds: float) -> None:
    assert not re.search(r"\b(60 s|60 min|60\.0|1000 ms|1000 µs)", numbers.duration(seconds))


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-5, 1e6), st.floats(1e-5, 1e6))
def test_longer_reads_longer(one: float, other: float) -> None:
    shorter, longer = sorted((one, other))
    assert read_duration(numbers.duration(shorter)) <= read_duration(numbers.duration(longer)) * (1 + 1e-9)


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-8, 1e6))
def test_money_keeps_what_counts(dollars: float) -> None:
    assert float(numbers.money(dollars).replace("$", "").replace(",", "")) == pytest.approx(
        dollars, rel=0.06, abs=0.005
    )
    assert numbers.money(dollars) != "$0.00"


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**15))
def test_memory_and_counts_stay_below_their_base(value: int) -> None:
    assert float(numbers.memory(value).split()[0]) < 1024
    assert float(re.sub(r"[a-zA-Z]", "", numbers.count(value))) < 1000


@settings(deadline=None, max_examples=50)
@given(st.floats(-1, 1))
def test_a_difference_shows_its_sign_and_zero_has_no_minus(value: float) -> None:
    text = numbers.difference(value)
    assert text[0] in "+−"
    assert text != "−0.00"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (numbers.duration(1.234), "1.2 s"),
        (numbers.duration(184), "3 min 04 s"),
        (numbers.duration(59.96), "1 min 00 s"),
        (numbers.duration(7500), "2 h 05 min"),
        (numbers.memory(1.3 * 2**30), "1.3 GiB"),
        (numbers.memory(640 * 2**20), "640 MiB"),
        (numbers.money(0.0021), "$0.0021"),
        (numbers.money(0), "$0.00"),
        (numbers.count(999.6), "1.0k"),
        (numbers.flops(3.4e12), "3.4 TFLOP"),
        (numbers.rate(3e-4), "3e-4"),
        (numbers.rate(2.5e-3), "2.5e-3"),
        (numbers.interval(0.65, 0.78), "[0.65, 0.78]"),
        (numbers.probability(0.0312), "0.031"),
        (numbers.probability(1e-9), "<0.001"),
        (numbers.probability(1.0), "1.00"),
        (numbers.bill(Amount(seconds=90)), "1 min 30 s"),
        (numbers.bill(Amount(seconds=90, dollars=0.05)), "$0.05"),
    ],
)
def test_examples(written: str, expected: str) -> None:
    assert written == expected


@pytest.mark.parametrize(
    "write",
    [
        numbers.duration,
        numbers.memory,
        numbers.money,
        numbers.count,
        numbers.flops,
        numbers.joules,
        numbers.score,
        numbers.difference,
        numbers.probability,
        numbers.rate,
    ],
)
def test_unknown_is_a_dash(write: object) -> None:
    assert callable(write)
    assert write(None) == "—"

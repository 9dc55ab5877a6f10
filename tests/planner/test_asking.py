"""Prompting plans: what a device must hold to answer, on every hardware asked for, and the cheapest that holds it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opportune.cli.main import main
from opportune.planner import asking, calibration, hardware
from opportune.planner.answer_memory import hold
from opportune.planner.architecture import count
from opportune.planner.catalogue import find

LLAMA, LARGE = find("llama-3.1-8b"), find("llama-3.1-70b")
FITTED = calibration.shipped()
EACH = asking.Asked(calls=1.0, tokens_in=400.0, tokens_out=20.0, shared=300.0)


def asked(cluster="l40s", a=LLAMA, each=EACH, **options):
    return asking.plan_asking("k-shot:k=4", a, hardware.cluster(cluster), each, FITTED, **options)


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["plan", *arguments])
    return stop.value.code, capsys.readouterr()


def test_a_model_larger_than_the_device_does_not_fit_and_what_would_is_said():
    found = asked("t4")
    assert found.fit.verdict == "does not fit"
    assert found.fit.reserved.value > 2 * count(LLAMA).total
    assert any("nf4" in line for line in found.advice)
    assert asked("t4", base="nf4").fit.verdict == "fits"
    assert asked("h100").fit.verdict == "fits"
    assert asked("h100").advice == ()


def test_weights_are_split_over_the_devices_that_hold_them():
    assert asked("h100", LARGE).fit.verdict == "does not fit"
    eight = asked("h100x8", LARGE)
    assert eight.fit.verdict == "fits"
    assert eight.fit.held.weights < 2 * count(LARGE).total / 2


@settings(deadline=None, max_examples=30)
@given(tokens=st.integers(100, 20_000), written=st.integers(1, 2000), more=st.integers(1, 5000))
def test_longer_prompts_and_answers_never_need_less(tokens, written, more):
    def need(read, out):
        return hold(LLAMA, read, out, "bfloat16", 1, 16).total

    assert need(tokens + more, written) > need(tokens, written)
    assert need(tokens, written + more) > need(tokens, written)
    # Keys and values of 16 sequences in 16 bits: 2 x 2 bytes x layers x key width.
    grown = need(tokens, written + more) - need(tokens, written)
    assert grown == pytest.approx(16 * more * 4 * 32 * 1024)


def test_questions_are_planned_on_every_device_of_a_list(capsys):
    code, said = run(capsys, "--model", "llama-3.1-8b", "--method", "k-shot:k=4", "--hardware", "t4,h100", "--json")
    one, other = json.loads(said.out)["plans"]
    assert code == 0
    assert (one["hardware"]["device"], other["hardware"]["device"]) == ("t4", "h100")
    assert (one["memory"]["verdict"], other["memory"]["verdict"]) == ("does not fit", "fits")
    assert sum(one["memory"]["breakdown"].values()) == pytest.approx(one["memory"]["allocated"]["value"])


def test_the_cheapest_device_for_questions_holds_the_model(capsys):
    code, said = run(capsys, "--model", "llama-3.1-70b", "--method", "zero-shot", "--hardware", "cheapest", "--json")
    (best,) = json.loads(said.out)["plans"]
    assert code == 0
    assert best["memory"]["verdict"] == "fits"
    table = hardware.shipped()
    each = asking.count_asking("zero-shot", asking.made_up(60, 1, 10))
    for name in ("a100", "h100", "h200"):
        for number in (1, 2, 4, 8):
            other = asking.plan_asking("zero-shot", LARGE, hardware.Cluster(table[name], number), each, FITTED)
            if other.fit.verdict == "fits":
                assert best["per_1000_questions"]["dollars"]["value"] <= other.dollars.value * (1 + 1e-9)


def test_the_verdict_is_printed(capsys):
    code, said = run(capsys, "--model", "llama-3.1-8b", "--method", "zero-shot", "--hardware", "t4")
    assert code == 0
    assert "does not fit" in said.out
    assert "nf4" in said.out

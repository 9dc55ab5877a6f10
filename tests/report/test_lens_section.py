from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from opportune.comparison import of_run
from opportune.metrics.accuracy import Accuracy
from opportune.records import Facts, OutcomeRecord
from opportune.report import lens_section
from opportune.report.page import write_report
from opportune.rows import Comparison
from opportune.schema import to_json
from opportune.scoring import Sample, sample
from opportune.shift import Shift, shift_of
from opportune.store import Store
from opportune.types import Example

from .synthetic import ARMS, LABELS, Plan, make_run

ASKED = [ARMS[0], ARMS[2], ARMS[4], ARMS[8]]
chances = st.lists(st.floats(0.01, 1), min_size=3, max_size=3)


def put_content_free(store: Store, run: str, hash: str, shares: dict[str, float]) -> None:
    arm = next(arm for arm in store.arms(run) if arm.hash == hash)
    store.put_arm(replace(arm, facts=replace(arm.facts, content_free=shares)))


def skewed(labels: tuple[str, ...] = LABELS) -> dict[str, float]:
    rest = 0.5 / (len(labels) - 1)
    return {label: 0.5 if label == labels[0] else rest for label in labels}


def outcome(number: int, scores: dict[str, float] | None, seed: int = 0, *, failed: bool = False) -> OutcomeRecord:
    answer = max(scores, key=lambda label: scores[label]) if scores and not failed else None
    status = "failed" if failed else "ok"
    return OutcomeRecord("r", "h", seed, "test", f"e{number}", answer, "", status, None if failed else 1.0, scores)


def made(outcomes: list[OutcomeRecord], targets: list[str], groups: list[str] | None = None) -> Sample:
    examples = [Example(f"e{n}", "x", target, group=groups[n] if groups else None) for n, target in enumerate(targets)]
    found = sample(Accuracy(), outcomes, examples)
    assert found is not None
    return found


def logs(values: list[float]) -> dict[str, float]:
    return {label: math.log(value / sum(values)) for label, value in zip("abc", values, strict=True)}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(chances, st.sampled_from("abc")), min_size=3, max_size=30))
def test_the_figures_are_those_of_the_distributions(rows: list[tuple[list[float], str]]) -> None:
    outcomes = [outcome(n, logs(values)) for n, (values, _) in enumerate(rows)]
    targets = [target for _, target in rows]
    shift = shift_of(made(outcomes, targets), outcomes, "abc", [None])
    assert shift is not None
    rights = [values["abc".index(target)] / sum(values) for values, target in rows]
    assert shift.right.value == pytest.approx(sum(rights) / len(rights))
    assert 0 <= shift.right.low <= shift.right.value <= shift.right.high <= 1
    assert shift.entropy == pytest.approx(sum(entropy(values, base=2) for values, _ in rows) / len(rows))
    assert shift.most == pytest.approx(math.log2(3))
    assert sum(shift.spread) == pytest.approx(1)
    answers, expected = Counter(o.answer for o in outcomes), Counter(targets)
    bias = sum(abs(answers[label] - expected[label]) for label in "abc") / 2 / len(rows)
    assert shift.bias == pytest.approx(bias)
    assert shift.content_free is None


def test_content_free_shares_are_averaged_over_seeds_and_held_against_even_ones() -> None:
    outcomes = [outcome(n, logs([0.2, 0.3, 0.5]), seed) for seed in (0, 1) for n in range(4)]
    shares = [{"a": 0.9, "b": 0.1, "c": 0.0}, {"a": 0.7, "b": 0.1, "c": 0.2}]
    shift = shift_of(made(outcomes, list("abca")), outcomes, "abc", shares)
    assert shift is not None
    assert shift.content_free == pytest.approx({"a": 0.8, "b": 0.1, "c": 0.1})
    assert shift.content_free_bias == pytest.approx(0.8 - 1 / 3)
    assert shift.content_free_divergence == pytest.approx(entropy([0.8, 0.1, 0.1], [1 / 3] * 3, base=2))


def test_a_failed_call_widens_the_interval_and_is_left_out_of_the_mean() -> None:
    whole = [outcome(n, logs([0.2, 0.3, 0.5])) for n in range(20)]
    broken = [replace(o, status="failed", score=None, answer=None, choice_scores=None) for o in whole[:5]] + whole[5:]
    one, other = (shift_of(made(o, ["c"] * 20), o, "abc", []) for o in (whole, broken))
    assert one is not None
    assert other is not None
    assert one.right.value == other.right.value == pytest.approx(0.5)
    assert (one.right.low, one.right.high) == pytest.approx((0.5, 0.5))
    assert other.right.low < 0.45
    assert other.right.high > 0.55


def test_votes_and_baselines_tell_no_distribution() -> None:
    votes = [outcome(n, {"a": 0.6, "b": 0.4}) for n in range(5)]
    assert shift_of(made(votes, ["a"] * 5), votes, "abc", []) is None
    nothing = [outcome(n, None) for n in range(5)]
    assert shift_of(made(nothing, ["a"] * 5), nothing, "abc", []) is None


def test_questions_may_have_choices_of_their_own() -> None:
    outcomes = [outcome(0, {"x": math.log(0.5), "y": math.log(0.5)}), outcome(1, logs([0.25, 0.25, 0.5]))]
    shift = shift_of(made(outcomes, ["y", "c"]), outcomes, None, [])
    assert shift is not None
    assert shift.right.value == pytest.approx(0.5)
    assert shift.entropy == pytest.approx((1 + 1.5) / 2)
    assert (shift.labels, shift.bias, shift.content_free_bias) == ((), None, None)


def shifts(comparison: Comparison) -> dict[str, Shift]:
    return {row.recipe: row.shift for row in comparison.rows if row.shift is not None}


def test_only_what_asks_a_model_has_a_shift(store: Store) -> None:
    found = shifts(of_run(store, make_run(store, arms=ASKED)))
    assert list(found) == ["zero-shot", "k-shot:k=8", "lora:rank=16"]
    assert found["lora:rank=16"].right.value > found["zero-shot"].right.value


def test_the_json_has_the_distribution(store: Store) -> None:
    run = make_run(store, arms=ASKED)
    put_content_free(store, run, "hashzero-shot", skewed())
    rows = json.loads(json.dumps(to_json(of_run(store, run)), allow_nan=False))["rows"]
    assert rows[0]["distribution"] is None
    assert set(rows[1]["distribution"]) == {
        *("right", "entropy_bits", "most_bits", "label_bias"),
        *("content_free", "content_free_bias", "content_free_bits"),
    }
    assert rows[1]["distribution"]["content_free_bias"] == pytest.approx(0.4)
    assert rows[2]["distribution"]["content_free"] is None


def test_the_page_has_the_section_with_its_plots(store: Store, tmp_path: Path) -> None:
    run = make_run(store, arms=ASKED)
    put_content_free(store, run, "hashk-shot:k=8", skewed())
    page = write_report(store, run, tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'id="distribution"' in page
    assert 'href="#distribution"' in page
    section = page.split('id="distribution"')[1].split("</section>")[0]
    assert section.count('<svg role="img"') == 4
    assert "Label bias on inputs that say nothing" in section
    assert "0.40" in section  # half of the probability on one label of ten, where a tenth is due
    assert "majority" not in section
    assert "Dashed: 0.10" in section
    assert "style=" not in section


def test_without_probabilities_there_is_no_section(store: Store, tmp_path: Path) -> None:
    page = write_report(store, make_run(store, arms=[ARMS[0]]), tmp_path / "report.html").read_text(encoding="utf-8")
    assert "distribution" not in page.split('id="data"')[0].replace(str(tmp_path), "")


def test_no_bias_without_content_free_answers(store: Store) -> None:
    section = lens_section.html(of_run(store, make_run(store, arms=ASKED)))
    assert section is not None
    assert "asked nothing" not in section
    assert section.count("<figure>") == 2


def test_names_are_escaped_and_many_labels_leave_twenty(store: Store) -> None:
    hostile = "</svg><script>alert('1')</script>"
    labels = (hostile, *(f"label {i}" for i in range(30)))
    run = make_run(store, arms=[Plan(hostile, 0.6, 0, 0.01), ARMS[2]], labels=labels, tests=93)
    put_content_free(store, run, f"hash{hostile}", skewed(labels))
    section = lens_section.html(of_run(store, run))
    assert section is not None
    assert "<script" not in section
    assert section.count("The 20 of 31 labels that deviate most.") == 2


@pytest.mark.parametrize("seeds", [1, 3])
def test_an_unfinished_run_and_several_seeds_have_a_section(store: Store, seeds: int) -> None:
    found = of_run(store, make_run(store, arms=ASKED, seeds=seeds, done=2, failed=0.1))
    section = lens_section.html(found)
    assert section is not None
    for arm in lens_section.numbered(found):
        assert 0 <= arm.shift.right.low <= arm.shift.right.value <= arm.shift.right.high <= 1


def test_facts_know_content_free_inputs() -> None:
    assert Facts(content_free={"a": 1.0}).content_free == {"a": 1.0}

"""Metrics against references, and the cases where people disagree with a naive comparison."""

from __future__ import annotations

import collections
import math
import re
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from opportune.errors import RecipeError
from opportune.metrics import TABLE, metric_named, resolved_name
from opportune.types import Example, Metric

ALONE = [name for name in TABLE if name not in ("python", "rubric")]  # those that need no option
ON_TEXT = [name for name in ALONE if name != "json-fields"]
LABELS = ("refund", "return", "lost parcel", "other")


def example(target: str) -> Example:
    return Example("id", "question", target)


def score(name: str, answer: str, target: str) -> float:
    return metric_named(name).score(answer, example(target))


def squad_f1(prediction: str, truth: str) -> float:
    """The SQuAD evaluation script's own steps, one by one (Rajpurkar et al. 2016)."""

    def tokens(text: str) -> list[str]:
        text = "".join(character for character in text.lower() if character not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split()).split()

    found, wanted = tokens(prediction), tokens(truth)
    same = sum((collections.Counter(found) & collections.Counter(wanted)).values())
    if not found or not wanted:
        return float(found == wanted)
    if same == 0:
        return 0.0
    precision, recall = same / len(found), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("name", ALONE)
def test_every_metric_scores_the_target_itself_as_one(name):
    metric = metric_named(name)
    target = '{"total":12}' if name == "json-fields" else "12"
    assert isinstance(metric, Metric)
    assert metric.score(target, example(target)) == 1
    assert metric.figure([target, target], [example(target), example(target)]) == 1


@pytest.mark.parametrize("name", ON_TEXT)
def test_an_unparsed_answer_counts_as_wrong(name):
    assert metric_named(name).figure([None, "12"], [example("12"), example("12")]) < 1
    assert metric_named(name).figure([None], [example("12")]) == 0


@pytest.mark.parametrize("name", ALONE)
def test_no_examples_have_no_figure(name):
    assert math.isnan(metric_named(name).figure([], []))


def test_an_unknown_metric_is_refused_with_the_known_ones_listed():
    with pytest.raises(RecipeError, match=r"'bleu'.*accuracy.*token-f1"):
        metric_named("bleu")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("F1 score", "unknown metric 'F1 score'"),
        ("accuracy:k=3", "accuracy: unknown option 'k'; it has none"),
        ("json-fields:fields=total", "json-fields:fields=total should be a list in brackets"),
        ("json-fields:fields=[a", r"metric 'json-fields:fields=\[a': at character 22: expected"),
        ("json-fields:fields=[a]+chrf", "one metric is expected"),
        ("json-fields:fields=[a]@smollm2-135m", "one metric is expected"),
    ],
)
def test_what_is_no_metric_is_refused_in_one_line(name, expected):
    with pytest.raises(RecipeError, match=expected) as caught:
        metric_named(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*ALONE, "json-fields:fields=[a,b.c]", 'multilabel-f1:separator=";"'])
def test_a_resolved_name_is_the_same_metric(name):
    metric = metric_named(name)
    assert metric_named(resolved_name(metric)) == metric
    assert resolved_name(metric_named(resolved_name(metric))) == resolved_name(metric)
    assert resolved_name(metric).partition(":")[0] == name.partition(":")[0]


@pytest.mark.parametrize("name", ["accuracy", "exact-match", "macro-f1"])
def test_case_spacing_and_the_encoding_of_accents_do_not_matter_but_words_do(name):
    assert score(name, "  Lost   PARCEL\n", "lost parcel") == 1
    assert score(name, "cafe\u0301", "caf\u00e9") == 1
    assert score(name, "lost parcels", "lost parcel") == 0


answers_and_targets = st.lists(
    st.tuples(st.sampled_from((*LABELS, "never a target")), st.sampled_from(LABELS)), min_size=1, max_size=40
)


@given(answers_and_targets)
def test_macro_f1_is_that_of_scikit_learn_over_the_labels_among_the_targets(pairs):
    answers, targets = [answer for answer, _ in pairs], [target for _, target in pairs]
    figure = metric_named("macro-f1").figure(answers, [example(target) for target in targets])
    reference = f1_score(targets, answers, labels=sorted(set(targets)), average="macro", zero_division=0)
    assert figure == pytest.approx(reference)


@given(answers_and_targets, st.sets(st.integers(0, 39)))
def test_macro_f1_takes_an_unparsed_answer_for_a_miss_that_claims_no_label(pairs, unparsed):
    examples = [example(target) for _, target in pairs]
    answers = [None if index in unparsed else answer for index, (answer, _) in enumerate(pairs)]
    elsewhere = ["never a target" if answer is None else answer for answer in answers]
    metric = metric_named("macro-f1")
    assert metric.figure(answers, examples) == pytest.approx(metric.figure(elsewhere, examples))


def test_macro_f1_is_not_the_mean_of_its_scores_and_says_so():
    metric = metric_named("macro-f1")
    examples = [example("refund")] * 9 + [example("return")]
    answers = ["refund"] * 10
    assert sum(map(metric.score, answers, examples)) == 9
    assert metric.figure(answers, examples) == pytest.approx((18 / 19 + 0) / 2)
    assert not metric.additive


@given(answers_and_targets, st.sets(st.integers(0, 39)), st.data())
def test_the_fast_macro_f1_of_a_resample_is_the_figure_of_its_examples(pairs, unparsed, data):
    examples = [example(target) for _, target in pairs]
    answers = [None if index in unparsed else f" {answer.upper()}" for index, (answer, _) in enumerate(pairs)]
    places = data.draw(st.lists(st.integers(0, len(pairs) - 1), min_size=1, max_size=50))
    metric = metric_named("macro-f1")
    drawn = metric.figure([answers[place] for place in places], [examples[place] for place in places])
    assert metric.resampler(answers, examples)(np.array(places)) == pytest.approx(drawn, abs=1e-12)


words = st.lists(st.sampled_from(["the", "A", "cat", "Cat,", "dog!", "an", "can't", "...", "theatre", "été"])).map(
    " ".join
)


@given(words, words)
def test_token_f1_is_that_of_squad(answer, target):
    assert score("token-f1", answer, target) == pytest.approx(squad_f1(answer, target))


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        ("The total is $1,000.", "1000"),
        ("48 + 24 = 72.", "72"),
        ("first 3, then 72", "72"),
        ("12,345,678 people", "12345678"),
        ("50 %", "50%"),
        ("-$3.50", "-3.5"),
        ("(-7)", "-7"),
        ("−4", "-4"),
        (".5", "0.50"),
        ("2e5", "200000"),
        ("0.3333333", "0.33333333"),
        ("0", "0.0"),
        ("from 3-5", "5"),
    ],
)
def test_numeric_match_finds_the_same_last_number(answer, target):
    assert score("numeric-match", answer, target) == 1


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        ("72 clips, not 73", "72"),
        ("seventy-two", "72"),
        ("5", "-5"),
        ("1.001", "1"),
        ("1,23", "123"),
        ("", "0"),
        ("4", "four"),
    ],
)
def test_numeric_match_does_not_take_another_number_for_the_same(answer, target):
    assert score("numeric-match", answer, target) == 0


@given(st.floats(-1e9, 1e9).filter(lambda number: abs(number) > 1e-3))
def test_numeric_match_allows_one_part_in_a_million(number):
    assert score("numeric-match", repr(number * (1 + 5e-7)), repr(number)) == 1
    assert score("numeric-match", repr(number * (1 + 5e-6)), repr(number)) == 0


@given(st.text())
def test_any_answer_is_scored_between_zero_and_one(answer):
    for name in ALONE:
        assert 0 <= score(name, answer, "the 12 cats") <= 1

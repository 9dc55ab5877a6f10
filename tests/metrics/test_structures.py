"""Metrics of answers with structure: sets of labels, JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from opportune.errors import RecipeError
from opportune.metrics import metric_named
from opportune.types import Example

LABELS = ("late", "broken", "too dear", "rude")
SETS = st.sets(st.sampled_from(LABELS), min_size=1)


def example(target: str) -> Example:
    return Example("id", "question", target)


def score(name: str, answer: str, target: str) -> float:
    return metric_named(name).score(answer, example(target))


@given(st.lists(st.tuples(SETS, SETS), min_size=1, max_size=20), st.randoms())
def test_multilabel_f1_is_the_example_based_one_of_scikit_learn(pairs, random):
    binary = MultiLabelBinarizer(classes=LABELS).fit([])
    reference = f1_score(
        binary.transform([wanted for _, wanted in pairs]),
        binary.transform([found for found, _ in pairs]),
        average="samples",
    )
    answers = [" , ".join(random.sample(sorted(found), len(found))).upper() for found, _ in pairs]
    examples = [example(", ".join(sorted(wanted))) for _, wanted in pairs]
    assert metric_named("multilabel-f1").figure(answers, examples) == pytest.approx(reference)


@pytest.mark.parametrize(
    ("name", "answer", "target", "expected"),
    [
        ("multilabel-f1", "late, late, ,", "late", 1),
        ("multilabel-f1", '["late", "too, dear"]', '["too, dear","late"]', 1),
        ("multilabel-f1", "[late]", "late", 0),
        ("multilabel-f1", "", "late", 0),
        ('multilabel-f1:separator=";"', "late; too, dear", "too, dear;late", 1),
        ('multilabel-f1:separator="\\n"', "late\nrude", "late", pytest.approx(2 / 3)),
    ],
)
def test_labels_are_separated_as_asked(name, answer, target, expected):
    assert score(name, answer, target) == expected


def test_a_separator_is_needed():
    with pytest.raises(RecipeError, match="separator is empty"):
        metric_named('multilabel-f1:separator=""')


BILL = {"total": 12.5, "currency": "EUR", "paid": True, "lines": [1, {"sku": "a"}], "note": None, "by": {"city": "Ulm"}}


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, 0),
        ({"total": 12.50000001, "currency": " eur "}, 0),
        ({"extra": 1}, 0),
        ({"total": "12.5"}, 1),
        ({"total": 13, "currency": "USD"}, 2),
        ({"paid": 1}, 1),
        ({"lines": [{"sku": "a"}, 1]}, 1),
        ({"lines": [1]}, 1),
        ({"lines": [1, {"sku": "A"}]}, 0),
        ({"by": {"city": "Ulm", "zip": 1}}, 1),
        ({"by": None}, 1),
        ({"note": "late"}, 1),
    ],
)
def test_json_fields_counts_the_fields_that_are_right(changes, wrong):
    answer = "Here you are:\n```json\n" + json.dumps({**BILL, **changes}, indent=2) + "\n```"
    assert score("json-fields", answer, json.dumps(BILL)) == pytest.approx(1 - wrong / 6)


def test_a_missing_field_is_as_good_as_null():
    assert score("json-fields", '{"a": 1}', '{"a": 1, "b": null}') == 1
    assert score("json-fields", '{"a": 1}', '{"a": 1, "b": 2}') == 0.5


def test_whole_numbers_of_any_length_are_compared():
    long = "1" * 400
    assert score("json-fields", f'{{"total": {long}}}', '{"total": 5.5}') == 0
    assert score("json-fields", f'{{"total": {long}}}', f'{{"total": {long}}}') == 1


def test_only_the_named_fields_are_looked_at():
    name = "json-fields:fields=[total,by.city]"
    assert score(name, '{"total": 12.5, "by": {"city": "ulm"}}', json.dumps(BILL)) == 1
    assert score(name, '{"total": 12.5, "by": "ulm"}', json.dumps(BILL)) == 0.5


def test_named_fields_that_the_target_lacks_are_not_looked_at():
    name = "json-fields:fields=[total,discount,by.zip]"
    assert score(name, '{"total": 1}', '{"total": 2}') == 0
    assert score(name, '{"total": 2, "discount": 3}', '{"total": 2}') == 1
    assert score(name, '{"total": 2}', '{"total": 2, "by": {"zip": null}}') == 1


@pytest.mark.parametrize("answer", ["", "12.5", "[1]", '{"total": 12.5', "null"])
def test_an_answer_without_an_object_has_nothing_right(answer):
    assert score("json-fields", answer, json.dumps(BILL)) == 0


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3) |
                    st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=8))  # fmt: skip
def test_any_object_has_all_of_itself_right(value):
    assert score("json-fields", json.dumps({"value": value}), json.dumps({"value": value}, ensure_ascii=False)) == 1

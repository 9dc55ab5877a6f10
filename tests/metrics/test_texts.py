"""Metrics of free text against the libraries' own scores, by other ways into them."""

from __future__ import annotations

import re

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from opportune.metrics import metric_named
from opportune.types import Example

WORDS = st.lists(
    st.sampled_from(["the", "Cat,", "sat", "on", "mat.", "a", "x-ray", "don't", "2", "--", "Mats"]), max_size=12
).map(" ".join)
FULL = WORDS.filter(lambda text: re.search(r"\w", text) is not None)


def score(name: str, answer: str, target: str) -> float:
    return metric_named(name).score(answer, Example("id", "question", target))


@given(FULL, FULL)
def test_rouge_l_is_that_of_rouge_score(answer, target):
    reference = RougeScorer(["rougeL"], use_stemmer=False).score(target, answer)["rougeL"].fmeasure
    assert score("rouge-l", answer, target) == pytest.approx(reference)


def test_rouge_l_by_hand_and_in_any_script():
    # police killed the gunman / the gunman police killed: two of four words in order (Lin 2004, section 2)
    assert score("rouge-l", "the gunman police killed", "police killed the gunman") == 0.5
    assert score("rouge-l", "größe zählt", "Größe zählt nicht") == pytest.approx(0.8)
    assert score("rouge-l", "кошка спит", "Кошка спит.") == 1
    assert score("rouge-l", "gr zählt e", "größe zählt") == pytest.approx(0.4)
    assert score("rouge-l", "", "word") == score("rouge-l", "word", "...") == 0
    assert score("rouge-l", "!", "...") == 1


@given(WORDS, FULL)
def test_chrf_is_that_of_sacrebleu(answer, target):
    reference = sacrebleu.sentence_chrf(answer, [target]).score / 100
    assert score("chrf", answer, target) == pytest.approx(reference)


def test_chrf_by_hand():
    # "ab" of "abc": precision 1 and 1, recall 2/3 and 1/2 of one and two characters; three have no precision
    assert score("chrf", "abc", "abc") == 1
    assert score("chrf", "xyz", "abc") == 0
    assert score("chrf", "a", "ab") == pytest.approx(5 * 1 * 0.5 / (4 * 1 + 0.5))


@pytest.mark.parametrize(
    ("answer", "target", "expected"),
    [
        ("It is Paris, of course.", "paris", 1),
        ("It is  new\nYork", "New York", 1),
        ("It's Obama's.", "Obama", 1),
        ("Parisian", "Paris", 0),
        ("I can't", "can", 0),
        ("3.5 kg", "3", 0),
        ("3, or so", "3", 1),
        ("1,300", "300", 0),
        ("(b) it is", "(b)", 1),
        ("a+b", "+", 1),
        ("", "Paris", 0),
    ],
)
def test_contains_wants_words_of_their_own(answer, target, expected):
    assert score("contains", answer, target) == expected


@settings(max_examples=50)
@given(WORDS, FULL, WORDS)
def test_contains_finds_whatever_stands_there(before, target, after):
    assert score("contains", f"{before} {target.upper()} {after}", target) == 1

"""Numbers and words of any script: what one rule finds, the others recognise."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.errors import TaskError
from opportune.metrics import metric_named
from opportune.tasks.load import task_from_records
from opportune.types import Example
from opportune.values import is_number, last_number, numbers

ZEROS = "٠۰०০๐０"  # Arabic, Persian, Devanagari, Bengali, Thai, fullwidth


def score(name: str, answer: str, target: str) -> float:
    return metric_named(name).score(answer, Example("id", "question", target))


@given(st.sampled_from(ZEROS), st.decimals(0, 10**6, places=2))
def test_digits_of_any_script_are_numbers(zero, value):
    written = f"{value:,.2f}".translate({48 + digit: chr(ord(zero) + digit) for digit in range(10)})
    assert is_number(written)
    assert last_number(written) == float(value)
    assert score("numeric-match", f"≈ {value}", written) == score("numeric-match", written, str(value)) == 1


def test_signs_that_go_with_such_digits_are_read():
    assert numbers("١٬٢٣٤٫٥ and －３．５％") == ["1234.5", "-3.5"]
    assert is_number("٪") is is_number("²") is False
    assert is_number("٣٠٪")


def test_a_target_without_a_number_that_could_match_is_refused():
    rows = [{"input": f"question {n}", "target": str(n)} for n in range(20)] + [{"input": "area", "target": "m²"}]
    with pytest.raises(TaskError, match="the target 'm²' holds no number"):
        task_from_records(rows, metric="numeric-match")


@pytest.mark.parametrize(
    ("answer", "target", "expected"),
    [
        ("राम की किताब", "कि", 0),
        ("राम की किताब", "की", 1),
        ("राम की किताब", "क", 0),
        ("首都は東京です。", "東京", 1),
        ("首都は東京です。", "京都", 0),
        ("これはAIです", "AI", 1),
        ("これはAIMです", "AI", 0),
        ("เทคโนโลยีAI", "AI", 1),
        ("ข้าวกี่", "ก", 0),  # a vowel sign belongs to its letter
        ("3月", "3", 1),
        ("答案是'東京'的", "東京", 1),
        ("서울은", "서울", 0),  # Hangul has spaces
        ("❤️Paris", "Paris", 1),
        ("cafe\N{COMBINING ACUTE ACCENT}", "cafe", 0),
        ("q\N{COMBINING CARON}a", "a", 0),
    ],
)
def test_contains_knows_where_words_end(answer, target, expected):
    assert score("contains", answer, target) == expected


def test_words_keep_their_combining_marks():
    assert score("rouge-l", "की", "का") == 0
    assert score("rouge-l", "राम की किताब", "राम का किताब") == pytest.approx(2 / 3)
    assert score("rouge-l", "می‌خواهم", "می خواهم") == 0  # parted by a joiner, it is one word


def test_a_character_is_a_word_in_scripts_without_spaces():
    assert score("rouge-l", "我住在北京。", "我在北京") == pytest.approx(2 * 4 / 9)
    assert score("rouge-l", "กินข้าว", "กินข้าว") == 1
    assert score("token-f1", "東京です。", "東京") == pytest.approx(2 * 2 / 6)
    assert score("token-f1", "12月3日", "12月") == pytest.approx(2 * 2 / 6)
    assert score("rouge-l", "한국어 문장", "한국어 글") == 0.5
    assert score("rouge-l", "๑๒", "๑๓") == 0


@pytest.mark.parametrize("name", ["rouge-l", "token-f1", "contains", "exact-match"])
def test_the_encoding_of_accents_is_no_matter(name):
    assert score(name, unicodedata.normalize("NFD", "Größe für Ängste"), "größe für ängste") == 1

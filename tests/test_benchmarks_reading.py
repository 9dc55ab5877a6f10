"""What the benchmarks of continual pretraining and pretraining rest on."""

from __future__ import annotations

import random

import pytest

from benchmarks.continual import FIELDS, _header, _mistyped, _questions
from benchmarks.pretraining import NANOGPT, _figures

PEP = """PEP: {number}
Title: {title}
Author: {author} <a@b.c>, Someone Else
Status: {status}
Created: 01-Jan-{year}

Abstract
========

Status: not this one
"""
KNOWN = [
    {"number": 8, "title": "Style Guide", "author": "Guido", "status": "Active", "year": 2001},
    {"number": 20, "title": "The Zen of Python", "author": "Tim", "status": "Final", "year": 2004},
    {"number": 30, "title": "Another", "author": "Ada", "status": "Rejected", "year": 1999},
    {"number": 40, "title": "One More", "author": "Eve", "status": "Withdrawn", "year": 2010},
]


def test_questions_are_read_off_the_headers_and_each_has_its_answer_among_its_choices():
    documents = [PEP.format(**known) for known in KNOWN]
    pools = {field: sorted({_header(text)[field] for text in documents}) for field in FIELDS}
    asked = list(_questions(documents, pools))
    assert len(asked) == 16
    assert [question["target"] for question in asked[:4]] == ["Style Guide", "Guido", "Active", "2001"]
    for question in asked:
        assert question["choices"].count(question["target"]) == 1
        assert len(set(question["choices"])) == 4
        assert question["paraphrase"] != question["plain"]
    assert asked == list(_questions(documents, pools))
    assert not list(_questions(["no header at all"], pools))


def test_typing_errors_keep_letters_numbers_and_short_words():
    text = "What is the status of PEP 481, Migrate Python somewhere else?"
    wrong = _mistyped(text, random.Random(0))
    assert wrong != text
    assert sorted(wrong) == sorted(text)
    assert "481" in wrong


def test_the_published_figure_is_compared_in_bits_per_character():
    assert NANOGPT["bits_per_character"] == pytest.approx(2.712, abs=1e-3)
    curve = [{"seconds": 10.0, "loss": 4.0}, {"seconds": 20.0, "loss": 3.0}, {"seconds": 30.0, "loss": 2.9}]
    amounts = {"measured": {"seconds": 33.0}, "predicted": {"seconds": 30.0}}
    found = _figures({"loss": 3.0, "bits_per_character": 2.4, "curve": curve, "out": "x", **amounts})
    assert [point["bits_per_character"] for point in found["curve"]] == pytest.approx([3.2, 2.4, 2.32])
    assert found["seconds_to_nanogpt"] == 20.0

"""Answers read out of what models write: round trips, the cases where people disagree with a naive reading."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from opportune.errors import RecipeError
from opportune.models.scripted import Scripted
from opportune.spec import parse
from opportune.strategies.extracting import cue, extract, shape_of
from opportune.types import Question
from tests.toy import toy_task

from .talk import strategy, sums, talk

BANKING = ("card", "arrival", "card arrival", "card_not_working", "top-up failed")
LETTERS = ("A", "B", "C", "D")


def number(text, **options):
    return extract(text, "number", shape="number", choices=None, **options)


def choice(text, choices=BANKING, **options):
    return extract(text, "choice", shape="choice", choices=choices, **options)


def marked(text, marker=""):
    return extract(text, f"marker:{marker}" if marker else "marker", shape="text", choices=None)


def json_field(text, shape="text", choices=None, field=""):
    return extract(text, f"json:{field}" if field else "json", shape=shape, choices=choices)


# ---- what the task's answers are ------------------------------------------------------------------------------------


def test_the_shape_of_answers_is_told_by_the_training_examples():
    assert shape_of(toy_task("choice").view()) == "choice"
    assert shape_of(sums().view()) == "number"
    task = sums()
    worded = replace(task, train=(*task.train, replace(task.train[0], id="worded", target="about 5")))
    assert shape_of(worded.view()) == "text"
    assert shape_of(replace(task, train=()).view()) == "text"


def test_the_cues_are_those_of_kojima_and_are_markers_themselves():
    assert cue("number") == "Therefore, the answer (arabic numerals) is"
    assert cue("text") == cue("choice") == "Therefore, the answer is"
    assert number(f"2 and 3 are added. {cue('number')} 5.") == "5"
    assert choice(f"A card or an arrival. {cue('choice')} card arrival.") == "card arrival"
    assert marked(f"It is on the Seine. {cue('text')} Paris.") == "Paris"


# ---- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 bags of 3. The answer is 6. There were 2 bags.", "6"),
        ("The answer is 5 + 6 = 11 apples.", "11"),
        ("The answer is x = 5 = 5.0", "5"),
        ("The answer is 72 clips, of which 24 in May, as 24 + 48 = 72.", "72"),
        ("The answer is $1,234.50.", "1234.5"),
        ("**Answer:** 12 %", "12"),
        ("**Answer**: -4", "-4"),
        ("The answer is: \\boxed{2e5}", "200000"),
        ("So we get \\boxed{\\frac{3}{1}} no, \\boxed{42}", "42"),
        ("The answer is:\n\n3.0", "3"),
        ("The answer is the number of apples.\nThat is 9.", "9"),
        ("The answer is 1.\nThe answer is 2.", "2"),
        ("The answer is 7. The answer is", "7"),
        ("the ANSWER  is 3.5.", "3.5"),
        ("48 / 2 = 24 and 48 + 24 = 72.", "72"),
        ("72", "72"),
        ("−4", "-4"),
        ("0.0", "0"),
        ("no idea", None),
        ("", None),
    ],
)
def test_numbers_are_found_where_a_reader_finds_them(text, expected):
    assert number(text) == expected


WORDS = st.lists(
    st.sampled_from(["We", "have 3", "bags", "of 2.5", "kg", "and", "\n", "so", "$7", "it", "holds."]), max_size=12
).map(" ".join)
DECIMALS = st.decimals(-(10**9), 10**9, allow_nan=False, places=3)


def spelt(value: Decimal) -> list[str]:
    plain = format(value, "f")
    return [plain, f"{value:,f}", f"{plain}%", f"**{plain}**", f"\\boxed{{{plain}}}", f"{plain} apples"]


@given(WORDS, DECIMALS, st.integers(0, 5), st.sampled_from([".", "", ".\n", " because of 4 reasons.", ". I am 9"]))
def test_any_number_after_the_marker_is_found_however_it_is_spelt(before, value, spelling, after):
    found = number(f"{before} The answer is {spelt(value)[spelling]}{after}")
    assert found is not None
    assert Decimal(found) == value
    assert not found.endswith((".0", "."))
    assert "," not in found


@given(st.one_of(DECIMALS, st.floats(allow_nan=False, allow_infinity=False)))
def test_the_plainest_form_is_the_same_number_and_stays_as_it_is(value):
    found = number(f"The answer is {value}")
    assert found is not None
    assert float(found) == float(value)
    assert number(found) == found


@given(st.text(alphabet="0123456789,.-+−eE$€ %=()", max_size=30))
def test_no_spelling_of_digits_breaks_the_reading(text):
    found = number(text)
    assert found is None or number(found) == found


# ---- choices --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is card arrival.", "card arrival"),  # the longest, though two others stand in it
        ("The answer is: **Card Arrival**", "card arrival"),
        ('Answer: "card-arrival"', "card arrival"),
        ("The answer is card not working because the card is broken.", None),  # two named after the marker
        ("The answer is card not working. The arrival is fine.", "card_not_working"),
        ("The answer is card or arrival", None),
        ("First arrival, then card. The answer is card.", "card"),
        ("It could be arrival. Or rather card", "card"),  # without a marker the last one named
        ("cards are discarded", None),
        ("The answer is none of these.", None),
        ("Top-up failed", "top-up failed"),
        ("The answer is \\boxed{\\text{top up failed}}", "top-up failed"),
        ("", None),
    ],
)
def test_choices_are_words_of_their_own_and_the_longest_wins(text, expected):
    assert choice(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is (B).", "B"),
        ("The answer is (b)", "B"),
        ("The answer is B. Because it fits, as A does not.", "B"),
        ("Answer: C) the third", "C"),
        ("**D**", "D"),
        ("A dog barks, a cat does not, so B", "B"),
        ("A dog barks", None),
        ("A is right", "A"),
        ("The answer is A.", "A"),
        ("The answer is (A) or (B).", None),
        ("ABBA", None),
    ],
)
def test_letters_are_read_as_letters_where_the_choices_are_such(text, expected):
    assert choice(text, LETTERS) == expected


def test_a_letter_is_no_choice_where_the_choices_are_words():
    assert choice("The answer is (B).") is None


def test_a_sentence_does_not_end_within_a_choice_or_a_number():
    assert choice("The answer is St. Louis. Not Rome.", ("St. Louis", "Rome")) == "St. Louis"
    assert choice("The answer is yes. Really. No doubt.", ("Yes. Really", "No")) == "Yes. Really"
    assert choice("The answer is yes. Really or no.", ("Yes. Really", "No")) is None
    assert choice("The answer is 3.5", ("3", "3.5")) == "3.5"
    assert choice("The answer is 3.5", ("3", "5")) is None
    assert choice("I can't.", ("can", "not")) is None


LABELS = st.text(st.characters(categories=["L", "N", "P", "Zs"], max_codepoint=0x2FF), min_size=1, max_size=12)
LABELS = LABELS.map(lambda label: " ".join(label.split())).filter(lambda label: any(map(str.isalnum, label)))
LABEL_LISTS = st.lists(LABELS, min_size=2, max_size=6, unique_by=lambda label: label.casefold())
PLAIN_LABELS = st.lists(
    st.lists(st.sampled_from(["card", "top", "up", "lost", "pin", "7", "été"]), min_size=1, max_size=3).map(" ".join),
    min_size=2,
    max_size=6,
    unique=True,
)


@given(PLAIN_LABELS, st.data(), WORDS, st.sampled_from([".", "", "!", ".\nThat is all", ". Good."]))
def test_any_choice_after_the_marker_is_found(choices, data, before, after):
    wanted = data.draw(st.sampled_from(choices))
    written = data.draw(st.sampled_from([wanted, wanted.upper(), f"**{wanted}**", wanted.replace(" ", "-")]))
    assert choice(f"{before}. The answer is {written}{after}", tuple(choices)) == wanted


@given(LABEL_LISTS, st.data())
def test_a_choice_alone_is_found_whatever_it_is_made_of(choices, data):
    wanted = data.draw(st.sampled_from(choices))
    assume(not all(len(label) == 1 and label.isascii() and label.isalpha() for label in choices))
    assume(not any(other != wanted and wanted.casefold() in other.casefold() for other in choices))
    assert choice(wanted, tuple(choices)) == wanted


@given(LABEL_LISTS, st.text(max_size=60), st.sampled_from(["auto", "choice", "marker", "json"]))
def test_what_is_no_choice_is_never_returned(choices, text, how):
    text = f"{text} The answer is {text}" + json.dumps({"answer": choices[0]})
    found = extract(text, how, shape="choice", choices=choices)
    assert found is None or found in choices


# ---- after a marker -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I think. The answer is Paris. It is large.", "Paris"),
        ("The answer is Rome. No, wait: the answer is Paris!", "Paris"),
        ("Answer: Paris\nQuestion: what else?", "Paris"),
        ("The answer is 3.5 m. Not 4.", "3.5 m"),
        ("The answer is J. R. R. Tolkien. He wrote it.", "J. R. R. Tolkien"),
        ("The answer is Dr. Smith.", "Dr. Smith"),
        ("The answer is U.S. Army.", "U.S. Army"),
        ("The answer is Paris... I think.", "Paris"),
        ("The answer is **“Paris”**.", "Paris"),
        ("The answer is **Paris.**", "Paris"),
        ("**Answer:**\n\n`nk`", "nk"),
        ("The answer is $x + 1$.", "x + 1"),
        ("The answer is \\boxed{f(x) = {2}^{3}} as shown.", "f(x) = {2}^{3}"),
        ("Thinking. \\boxed{Paris}", "Paris"),
        ("The answer is", None),
        ("The answers are many", None),
        ("Paris", None),
    ],
)
def test_what_follows_the_last_marker_up_to_the_end_of_its_sentence(text, expected):
    assert marked(text) == expected


def test_another_marker_is_looked_for_as_it_is_written():
    assert marked("3 + 4 is 7\n#### 7", marker="####") == "7"
    assert marked("FINAL   result: 7 apples.", marker="final result:") == "7 apples"
    assert marked("The answer is 7", marker="####") is None


PLAIN = st.lists(st.sampled_from(["nk", "Paris", "blue", "3.5", "of", "Lake", "Thun"]), min_size=1, max_size=4)


@given(WORDS, PLAIN.map(" ".join), st.sampled_from([".", "", "\nmore", ". More 4.", "!"]))
def test_any_words_after_the_marker_are_found(before, words, after):
    assert marked(f"{before} The answer is {words}{after}") == words


# ---- JSON -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ('Sure:\n```json\n{"answer": "Paris", "sure": true}\n```\n{"answer": "Rome"}', {}, "Paris"),
        ('{"a": {"b": [1, 2.50]}}', {"field": "a.b"}, "[1,2.5]"),
        ('{"sure": true}', {"field": "sure"}, "true"),
        ('{not json} {"answer": 7}', {}, "7"),
        ('{"answer": "a { in a text"}', {}, "a { in a text"),
        ('{"answer": null}', {}, None),
        ('{"answer": ""}', {}, None),
        ('{"answer": "cut o', {}, None),
        ('{"other": 1}', {}, None),
        ("none", {}, None),
        ("[1]", {}, None),
        ("{" * 3000, {}, None),
    ],
)
def test_a_field_of_the_first_object(text, options, expected):
    assert json_field(text, **options) == expected


def test_a_field_or_a_marked_text_must_hold_what_the_task_asks_for():
    assert json_field('{"answer": "The label is Card Arrival"}', "choice", BANKING) == "card arrival"
    assert json_field('{"answer": "other"}', "choice", BANKING) is None
    assert json_field('{"answer": "$1,000"}', "number") == "1000"
    assert extract("The answer is unknown, not 5... 6", "marker", shape="number", choices=None) == "5"
    assert extract("No marker, 6", "marker", shape="number", choices=None) is None


# ---- auto -----------------------------------------------------------------------------------------------------------


def test_auto_follows_the_task():
    assert extract("The answer is card, 5", "auto", shape="choice", choices=BANKING) == "card"
    assert extract("The answer is card, 5", "auto", shape="number", choices=None) == "5"
    text = {"shape": "text", "choices": None}
    assert extract(" Paris, 5.\n", "auto", **text) == "Paris, 5."
    assert extract("Hm. The answer is Paris.", "auto", **text) == "Paris"
    assert extract("Hm. The answer is Paris.", "text", **text) == "Hm. The answer is Paris."
    assert extract("Long reasoning that ends nowhere.", "auto", needs_marker=True, **text) is None
    assert extract("Hm. The answer is Paris.", "auto", needs_marker=True, **text) == "Paris"
    assert extract("  ", "auto", **text) is None


# ---- as an option of a recipe ---------------------------------------------------------------------------------------

WRITING = ("chain-of-thought", "least-to-most", "step-back", "template")


def test_a_field_may_be_named():
    assert json_field('{"label": "nk", "answer": "no"}', field="label") == "nk"
    assert json_field('{"found": {"label": "nk"}}', field="found.label") == "nk"


@pytest.mark.parametrize(
    ("extract", "said", "expected"),
    [
        ("marker:####", "30 + 3 is 34, no:\n#### 33", "33"),
        ('"marker:Final result:"', "The answer is 30 and 3. Final result: 33.", "33"),
        ("json:result.sum", '{"answer": 1, "result": {"sum": 33}}', "33"),
        ("json", '{"answer": 1, "result": {"sum": 33}}', "1"),
    ],
)
def test_a_recipe_names_the_marker_or_the_field(extract, said, expected):
    recipe = f"template:final=text,extract={extract}"
    assert talk(recipe, Scripted({"": said}), Question("Add 30 and 3."), sums()).text == expected
    assert str(parse(str(parse(recipe)))) == str(parse(recipe))


def test_what_the_cue_has_announced_needs_no_marker_of_ones_own():
    model = Scripted(["30 and 3 are added.", " 33."])
    recipe = "chain-of-thought:k=0,extract=marker:####"
    assert talk(recipe, model, Question("Add 30 and 3."), sums()).text == "33"


@pytest.mark.parametrize("name", WRITING)
@pytest.mark.parametrize("extract", ["words", "marker:", "number:5", '"json: "'])
def test_a_way_of_reading_that_there_is_not_is_one_line(name, extract):
    with pytest.raises(RecipeError, match=rf"{name}:extract=.* is not one of auto, .*marker:WORDS, json:FIELD"):
        strategy(f"{name}:extract={extract}")


@pytest.mark.parametrize(
    ("text", "choices", "expected"),
    [
        ("Therefore, the answer is 東京です。", ("東京", "京都"), "東京"),
        ("Therefore, the answer is 東京。京都ではない。", ("東京", "京都"), "東京"),
        ("答案是B。", LETTERS, "B"),
        ("答案是BMW", LETTERS, None),
        ("उत्तर: की", ("कि", "की"), "की"),
        ("the answer is मधु मक्खी", ("मधु-मक्खी", "मक्खी"), "मधु-मक्खी"),
        ("the answer is cafe\N{COMBINING ACUTE ACCENT}", ("cafe", "café"), "café"),
    ],
)
def test_choices_of_any_script_are_found(text, choices, expected):
    assert choice(text, choices) == expected


def test_a_marker_and_the_end_of_a_sentence_may_be_of_any_script():
    assert marked("所以答案是東京。京都不是。", "答案是") == "東京"
    assert number("Therefore, the answer is १२३") == "123"

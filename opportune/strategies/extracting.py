"""From what a model wrote to its answer: after a marker, a number, one of the choices, a field of JSON.

Shared by all strategies that generate, so that two of them differ in how they ask, never in how they are read. What
cannot be read is None, and the caller keeps the text (`Answer.raw`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Literal, TypeAlias

from opportune.errors import RecipeError
from opportune.types import TaskView
from opportune.values import boundaries, compact, field_of, first_object, is_number, normalise, numbers
from opportune.words import between, edges

Extract: TypeAlias = str
"""How to read an answer, as `extract` has it: a word, of marker and json also with what to look for (marker:WORDS)."""
Shape: TypeAlias = Literal["choice", "number", "text"]
_Found: TypeAlias = tuple[int, int, str]
"""Where a choice is named (from, to), and which."""

MARKER, FIELD = "answer is", "answer"
_WAYS = ("auto", "text", "number", "choice", "marker", "json")
_WRAPPING = " \t\r\n*_`\"'“”‘’«»"  # markdown and quotes around an answer
_BOXED = r"\\boxed\s*\{"
_STOPS = ".!?。！？।"
_END = re.compile(r"\n|[。！？।]+|[.!?]+(?=[\"'”’»)*_`]*(?:\s|\Z))")
_INITIAL = re.compile(r"(?<!\w)(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|vs|No)\Z")  # "J. Smith": the name goes on
_CAPITAL = re.compile(r"\.\s+[A-Z]")
_LONGEST_ABBREVIATION = 20  # characters
_DOTTED = re.compile(r"(?<!\w)(?:[^\W\d_]\.)+[^\W\d_]\Z")  # "U.S."
_EQUATION = re.compile(r"(?:(?![,;:]\s)[^=])*=")  # "5 + 6 = 11", with no aside before the equals sign
_ARTICLE = re.compile(r"\s+(?!is\b)[a-z]")  # "A dog", "I think": no choice of a letter


def shape_of(task: TaskView) -> Shape:
    """What an answer to this task looks like: one of its choices, a number where every training target is one, text."""
    if task.kind == "choice":
        return "choice"
    return "number" if task.train and all(is_number(example.target) for example in task.train) else "text"


def cue(shape: Shape) -> str:
    """The words that ask for the final answer after the reasoning (Kojima et al. 2022); put before what the model
    continues with, they are the marker that `extract` looks for."""
    return "Therefore, the answer (arabic numerals) is" if shape == "number" else "Therefore, the answer is"


def check(owner: str, how: Extract) -> None:
    """Raises RecipeError, naming the strategy `owner`, for a way of reading that there is not."""
    way, colon, named = how.partition(":")
    if way not in _WAYS or (colon and (way not in ("marker", "json") or not named.strip())):
        raise RecipeError(f"{owner}:extract={how} is not one of {', '.join(_WAYS)}, marker:WORDS, json:FIELD")


def announced(how: Extract) -> Extract:
    """The way to read a text that begins with our own words for "the answer is"."""
    return "marker" if how.startswith("marker") else how


def extract(
    text: str,
    how: Extract,
    *,
    shape: Shape,
    choices: Sequence[str] | None,
    needs_marker: bool = False,
) -> str | None:
    """The answer in a text, None when there is none.

    `how` is one of these words; marker:WORDS looks for other words than "answer is", json:FIELD for another field than
    "answer".

    text     the whole text, but for space around it
    marker   what follows the last marker up to the end of its sentence or line, without quotes, markdown, \\boxed{}
    number   the first number after the last marker (the result, of an equation), else the last number of the text; in
             its plainest form
    choice   the one choice named in the sentence after the last marker, none where it names two; without any there, the
             last one named in the text
    json     the field (dots lead inwards) of the first JSON object
    auto     choice or number where the task's answers are such; else what follows the marker, and without a marker the
             whole text, unless `needs_marker` (after reasoning the whole text is no answer)

    What `marker` and `json` find must itself hold a choice or a number where the task's answers are such.
    """
    how, _, named = how.partition(":")
    marker, field = named if named and how == "marker" else MARKER, named or FIELD
    if how == "auto":
        how = shape if shape != "text" else "marker" if needs_marker or _after(text, marker) is not None else "text"
    if how == "text":
        return text.strip() or None
    if how == "number":
        return _number(text, marker)
    if how == "choice":
        return _choice(text, tuple(choices or ()), marker)
    found = _json_field(text, field) if how == "json" else _marked(text, marker)
    if found is None or shape == "text":
        return found
    return _first_number(found) if shape == "number" else _only(found, tuple(choices or ()))


# ---- the marker -----------------------------------------------------------------------------------------------------


def _marked(text: str, marker: str) -> str | None:
    rest = _after(text, marker)
    return None if rest is None else _clean(rest[: _sentence_end(rest)]) or None


def _after(text: str, marker: str) -> str | None:
    """What follows the last marker that anything follows, from its first word on; None without such a marker."""
    for found in reversed(list(_marker_pattern(marker).finditer(text))):
        rest = text[found.end() :]
        if found.group().endswith("{"):
            rest = _to_closing_brace(rest)
        rest = rest.lstrip(_WRAPPING + ":：")
        if rest.strip(_WRAPPING + _STOPS):
            return rest
    return None


@lru_cache(maxsize=64)
def _marker_pattern(marker: str) -> re.Pattern[str]:
    """The marker in any case and spacing, or \\boxed{; "answer is" also as "answer:" and "answer (...) is"."""
    words = [re.escape(word) for word in marker.split()]
    if len(words) > 1 and words[-1].lower() == "is":
        aside = r"[*_\"'`]*\s*(?:\([^()\n]*\)\s*)?"
        written = r"\s+".join(words[:-1]) + aside + r"(?:is\b|[:：])"
    else:
        written = r"\s+".join(words)
    before, _ = edges(first=marker[:1], last=marker[-1:])
    return re.compile(f"{before}{written}|{_BOXED}", re.IGNORECASE)


def _to_closing_brace(text: str) -> str:
    depth = 1
    for place, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return text[:place]
    return text


def _sentence_end(text: str, named: Sequence[_Found] = ()) -> int:
    """Where the first sentence or line ends: not within a choice or a number, nor after an initial or abbreviation."""
    within = {place for start, end, _ in named for place in range(start, end)}
    ends = {end for _, end, _ in named}
    for found in _END.finditer(text):
        place = found.start()
        if place in within:
            continue
        near = max(0, place - _LONGEST_ABBREVIATION)
        goes_on = _INITIAL.search(text, near, place) and _CAPITAL.match(text, place)
        abbreviated = found.group() == "." and (goes_on or _DOTTED.search(text, near, place))
        if not abbreviated or place in ends:
            return place
    return len(text)


def _clean(text: str) -> str:
    text = text.strip(_WRAPPING)
    return text[1:-1].strip() if len(text) > 2 and text[0] == text[-1] == "$" else text


# ---- numbers --------------------------------------------------------------------------------------------------------


def _number(text: str, marker: str) -> str | None:
    rest = _after(text, marker)
    found = None if rest is None else _first_number(rest)
    return found or next(reversed(numbers(text)), None)


def _first_number(text: str) -> str | None:
    """The result where the first sentence is an equation, else the first number of the text."""
    sentence = text[: _sentence_end(text)]
    results = numbers(sentence.rpartition("=")[2]) if _EQUATION.match(sentence) else []
    return next(iter(results or numbers(text)), None)


# ---- choices --------------------------------------------------------------------------------------------------------


def _choice(text: str, choices: tuple[str, ...], marker: str) -> str | None:
    rest = _after(text := _composed(text), marker)
    if rest is not None:
        named = _first_sentence_names(rest, choices)
        if named:
            return named.pop() if len(named) == 1 else None
    last = [choice for start, end, choice in _named(text, choices) if not _is_article(text, start, end)]
    return last[-1] if last else None


def _only(text: str, choices: tuple[str, ...]) -> str | None:
    named = {choice for _, _, choice in _named(_composed(text), choices)}
    return named.pop() if len(named) == 1 else None


def _first_sentence_names(text: str, choices: tuple[str, ...]) -> set[str]:
    found = list(_named(text, choices))
    end = _sentence_end(text, found)
    return {choice for start, _, choice in found if start < end}


def _named(text: str, choices: tuple[str, ...]) -> Iterator[_Found]:
    """Every place where a choice is named as words of its own; where several begin, the longest."""
    if not choices:
        return
    by_text = {normalise(choice): choice for choice in choices}
    by_words = {_words(choice): choice for choice in reversed(choices)}
    for found in _choices_pattern(choices).finditer(text):
        written = found.group().strip("() \t") if _are_letters(choices) else found.group()
        choice = by_text.get(normalise(written)) or by_words.get(_words(written))
        if choice is not None:
            yield found.start(), found.end(), choice


@lru_cache(maxsize=1024)
def _choices_pattern(choices: tuple[str, ...]) -> re.Pattern[str]:
    if _are_letters(choices):
        # In any case within brackets; else as they are, since "a" is a word.
        any_case = "".join(letter.lower() + letter.upper() for letter in choices)
        before, after = edges(first=choices[0], last=choices[0])
        return re.compile(rf"\(\s*[{any_case}]\s*\)|{before}(?<!['’])[{''.join(choices)}](?!['’]){after}")
    longest_first = sorted(map(_composed, choices), key=len, reverse=True)
    # Written once for all neighbours of one kind: what makes a word's boundary is long.
    ways = [
        f"{before}(?:{'|'.join(map(_loose, alike))}){after}"
        for (before, after), alike in groupby(longest_first, boundaries)
    ]
    return re.compile("|".join(ways), re.IGNORECASE)


def _are_letters(choices: Sequence[str]) -> bool:
    return all(len(choice) == 1 and choice.isascii() and choice.isalpha() for choice in choices)


def _is_article(text: str, start: int, end: int) -> bool:
    return text[start:end] in ("A", "a", "I") and _ARTICLE.match(text, end) is not None


def _loose(choice: str) -> str:
    """A regular expression for a choice, its words joined by spaces, hyphens or underscores alike."""
    return r"[\s_-]+".join(re.escape(word) for word in between().split(choice))


def _words(text: str) -> str:
    return between().sub(" ", _composed(text).casefold())


def _composed(text: str) -> str:
    """With accents encoded in one way."""
    return unicodedata.normalize("NFC", text)


# ---- JSON -----------------------------------------------------------------------------------------------------------


def _json_field(text: str, field: str) -> str | None:
    value = field_of(first_object(text), field)
    if value is None:
        return None
    return value.strip() or None if isinstance(value, str) else compact(value)

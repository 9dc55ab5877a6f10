"""Values written within free text: numbers, JSON objects, words at their boundaries.

Tasks ask whether a target is a number, strategies read answers out of what a model wrote, metrics compare the two: all
of them by these rules, so that what one finds the other recognises.
"""

from __future__ import annotations

import json
import re
import unicodedata
from decimal import Decimal
from functools import lru_cache
from typing import Any

from opportune.words import LETTER, edges, joins

# A sign only where no word or number ends before it ("3-5" holds 3 and 5); commas only between groups of three digits.
_NUMBER = re.compile(
    r"(?:(?<![\w.)])[-−+])?[$€£]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII
)
_ONLY_A_NUMBER = re.compile(r"[-−+]?[$€£]?(?=\.?\d)(\d+|\d{1,3}(,\d{3})+)?(\.\d+)?\s*%?", re.ASCII)
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_SIGNS = {"٫": ".", "٬": ",", "．": ".", "－": "-", "＋": "+", "٪": "%", "％": "%"}  # Arabic and fullwidth
_MOST_DIGITS = 30  # a power of ten beyond is not written out


def numbers(text: str) -> list[str]:
    """All numbers of a text, in its order, each in its plainest form: 1,000.50 and $1000.5 are both 1000.5.

    Signs of currency are dropped, 2e5 is written out, zeros at the end of a fraction go; digits may be of any script.
    """
    return [_plainest(found) for found in _NUMBER.findall(_in_ascii(text))]


def last_number(text: str) -> float | None:
    """The last number in a text, None when there is none."""
    found = numbers(text)
    return float(found[-1]) if found else None


def is_number(text: str) -> bool:
    """Whether the whole text is one number, perhaps with a sign of currency or percent."""
    return _ONLY_A_NUMBER.fullmatch(_in_ascii(text)) is not None


def first_object(text: str) -> dict[str, Any] | None:
    """The first JSON object that stands whole in a text, whatever is around it; None when there is none."""
    decoder, place = json.JSONDecoder(), text.find("{")
    while place >= 0:
        try:
            found: dict[str, Any] = decoder.raw_decode(text, place)[0]
            return found
        except (ValueError, RecursionError):
            place = text.find("{", place + 1)
    return None


def field_of(value: Any, path: str) -> Any:
    """What stands at a path such as "address.city"; None where nothing does."""
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def has_field(value: Any, path: str) -> bool:
    """Whether anything stands there, be it null."""
    outer, _, last = path.rpartition(".")
    inner = field_of(value, outer) if outer else value
    return isinstance(inner, dict) and last in inner


def compact(value: Any) -> str:
    """A JSON-like value as one line of JSON without spaces; what JSON does not know (a date) as text."""
    return json.dumps(
        value,
        ensure_ascii=False,
        separators=(",", ":"),
        default=lambda other: float(other) if isinstance(other, Decimal) else str(other),
    )


@lru_cache(maxsize=65536)  # a bootstrap compares the same texts a thousand times
def normalise(text: str) -> str:
    """The text without what no reader would call a difference: case, spacing, how accents are encoded."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def bounded(text: str) -> str:
    """A regular expression for a text as words of its own: not within a longer word, nor "3" within "3.5"."""
    before, after = boundaries(text)
    return before + re.escape(text) + after


def boundaries(text: str) -> tuple[str, str]:
    """Regular expressions of what must hold before and after a text, so that it stands as words of its own."""
    first, last = text[:1], text[-1:]
    before, after = edges(first=first, last=last)
    if first.isdigit():
        before += r"(?<!\d[.,])"
    if last.isdigit():
        after += r"(?![.,]\d)"
    elif joins(last):
        after += rf"(?!['’](?!s\b){LETTER})"  # "can't" does not say "can"
    return before, after


def _in_ascii(text: str) -> str:
    """The text with the digits of every script, and the signs that go with them, as ASCII has them."""
    return _NOT_ASCII.sub(lambda found: _SIGNS.get(found[0]) or str(unicodedata.decimal(found[0], found[0])), text)


def _plainest(found: str) -> str:
    written = re.sub(r"[$€£,+]", "", found).replace("−", "-")
    try:
        value = Decimal(written)
    except ArithmeticError:  # an exponent beyond all bounds
        return written
    if not value:
        return "0"
    if abs(value.adjusted()) > _MOST_DIGITS:
        return str(value)
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text

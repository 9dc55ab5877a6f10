"""What a word is, in any script: with its combining marks; a character each where a script has no spaces between words.

As regular expressions, which know by themselves neither: to `re`, a vowel sign of Devanagari ends a word, and a whole
Chinese sentence is one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

# Inside brackets: Thai, Lao, Myanmar, Khmer (but for their digits, which form numbers), Han, Hiragana, Katakana.
_SPACELESS = (
    "\u0e00-\u0e4f\u0e81-\u0ecf\u0edc-\u0edf\u1000-\u103f\u104a-\u108f\u109a-\u109f\ua9e0-\ua9ef\ua9fa-\ua9fe"
    "\uaa60-\uaa7f\u1780-\u17df\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b\u3041-\u3096"
    "\u3099-\u30ff\u31f0-\u31ff\uff66-\uff9f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U0001aff0-\U0001b16f"
    "\U00020000-\U000323af"
)
LETTER = rf"[^\W{_SPACELESS}]"
"""A character of a word, mark aside, in a script that parts its words by spaces; digits of any script among them."""
_JOINERS = "\u200c\u200d"  # within words of Persian and of India
_ORNAMENTS = ("\u20d0-\u20ff", "\ufe00-\ufe0f")  # marks by their category, but of symbols and emoji
_LAST_MARK = 0x1FFFF  # but for more variation selectors, which are ornaments


def words(text: str) -> list[str]:
    """The words of a text, without punctuation."""
    return _word().findall(unicodedata.normalize("NFC", text))


def apart(text: str) -> str:
    """The text with spaces around every character of a script that has none between words."""
    return _lone().sub(r" \g<0> ", text)


@cache
def edges(*, first: str, last: str) -> tuple[str, str]:
    """What must hold before and after a text that begins and ends with these characters, so that it is not within a
    longer word; empty where it does not end with a word's character."""
    joined, marks = _marks()
    # Cased or not is no matter here, and would take long to compile.
    before = rf"(?-i:(?<!{LETTER})(?<![{joined}]))" if joins(first) else ""
    if joins(last):
        return before, rf"(?-i:(?!{LETTER}|[{joined}{marks}]))"
    return before, rf"(?-i:(?![{joined}{marks}]))" if re.match(rf"\w|[{marks}]", last) else ""


def joins(character: str) -> bool:
    """Whether a word goes on with it, as it does not with a character of a script without spaces, or punctuation."""
    joined, _ = _marks()
    return re.match(rf"{LETTER}|[{joined}]", character) is not None


@cache
def between() -> re.Pattern[str]:
    """Spaces, hyphens or underscores between two words."""
    joined, marks = _marks()
    return re.compile(rf"(?:(?<=[^\W_])|(?<=[{joined}{marks}]))[\s_-]+(?=[^\W_])")


@cache
def _word() -> re.Pattern[str]:
    joined, _ = _marks()
    letter = rf"[^\W_{_SPACELESS}]"
    return re.compile(rf"{letter}+(?:[{joined}]+{letter}*)*|{_lone().pattern}")


@cache
def _lone() -> re.Pattern[str]:
    joined, marks = _marks()
    return re.compile(rf"(?=[^\W_])[{_SPACELESS}][{joined}{marks}]*")


@cache
def _marks() -> tuple[str, str]:
    """Combining marks, to stand inside brackets: those of scripts with spaces, and the others."""
    ornament = re.compile(f"[{''.join(_ORNAMENTS)}]")
    found = [chr(code) for code in range(0x300, _LAST_MARK) if unicodedata.category(chr(code)) in ("Mn", "Mc")]
    found = [mark for mark in found if not ornament.match(mark)]
    spaceless = set(re.findall(f"[{_SPACELESS}]", "".join(found)))
    return _ranges(mark for mark in found if mark not in spaceless) + _JOINERS, _ranges(sorted(spaceless))


def _ranges(characters: Iterable[str]) -> str:
    spans: list[list[str]] = []
    for character in characters:
        if spans and ord(spans[-1][1]) + 1 == ord(character):
            spans[-1][1] = character
        else:
            spans.append([character, character])
    return "".join(f"{first}-{last}" for first, last in spans)

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from opportune.report.transcript import Shelf, inert_json

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(
    ["head\nshot\nquestion one", "head\nshot\nquestion two", "head\nother", "\n\n", "x" * 2000, "</script>\u2028&"]
)


def unpack(shelf: Shelf) -> list[str]:
    """What report.js does."""
    pieces, rows = list(shelf.pieces), list[list[int]]()
    for shared, *rest in shelf.packed:
        rows.append((rows[-1][:shared] if rows else []) + rest)
    return ["".join(pieces[number] for number in row) for row in rows]


@settings(deadline=None, max_examples=50)
@given(st.lists(texts))
def test_packed_prompts_come_back(prompts: list[str]) -> None:
    shelf = Shelf()
    places = [shelf.number(prompt) for prompt in prompts]
    unpacked = unpack(shelf)
    assert [unpacked[place] for place in places] == prompts
    assert len(shelf.packed) == len(set(prompts))


def test_a_shared_head_is_kept_once() -> None:
    shelf = Shelf()
    head = "".join(f"Text: shot {i}\nLabel: yes\n" for i in range(100))
    for question in range(50):
        shelf.number(f"{head}Text: question {question}\nLabel:")
    assert len(json.dumps([shelf.packed, list(shelf.pieces)])) < 2 * len(head) + 50 * 60


@settings(deadline=None, max_examples=50)
@given(st.recursive(texts | st.none() | st.floats(allow_nan=False, allow_infinity=False), st.lists))
def test_json_is_inert_and_unchanged(value: object) -> None:
    text = inert_json({"value": value})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"value": value}

"""`--try all-prompts`: every way of asking, end to end on a tiny network, on closed answers and on free text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opportune.api import compare
from opportune.recipe import GROUPS, fitting
from opportune.store import Store
from tests.toy import toy_task


def whole(kind):
    """The toy task with targets that are no secret."""
    task = toy_task(kind)
    return replace(task, test=tuple(replace(e, target="fruit") for e in task.test))


@pytest.mark.parametrize("kind", ["choice", "text"])
def test_every_strategy_ends_with_sane_outcomes(kind, model, tmp_path):
    task = whole(kind)
    found = compare(task, recipes=["all-prompts"], models=[model], dtype="float32", runs=tmp_path)
    assert [row.recipe for row in found.rows] == list(fitting(GROUPS["all-prompts"], task))
    for row in found.rows:
        assert (row.status, row.reason, row.failed, row.n) == ("done", None, 0, 4), row.recipe
        assert row.score is not None
        assert 0 <= row.score.low <= row.score.value <= row.score.high <= 1
        assert row.measured.asking.calls is None or row.measured.asking.calls >= row.n
    with Store.open(tmp_path, create=False) as store:
        run = store.latest_run().id
        outcomes, calls = store.outcomes(run), store.calls(run)
    assert len(outcomes) == len(found.rows) * 8  # dev and test
    for outcome in outcomes:
        assert (outcome.status == "unparsed") == (outcome.answer is None)
        assert outcome.score is not None
        assert outcome.status == "ok" or outcome.score == 0
        if kind == "choice" and outcome.answer is not None:
            assert outcome.answer in ("fruit", "tool")
    assert all(call.error is None for call in calls)
    unparsed = {row.recipe: row.unparsed for row in found.rows}
    by_hash = {row.hash: row.recipe for row in found.rows}
    for outcome in outcomes:
        if outcome.split == "test":
            unparsed[by_hash[outcome.hash]] -= outcome.status == "unparsed"
    assert set(unparsed.values()) == {0}


class Notes:
    """Keeps what a run tells."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)

    def __getattr__(self, name):
        return lambda *given: None


def test_of_a_group_what_needs_more_examples_than_there_are_is_left_out_and_told(model, tmp_path):
    task, told = whole("choice"), Notes()
    task = replace(task, train=task.train[:3])
    found = compare(task, recipes=["all-prompts"], models=[model], dtype="float32", runs=tmp_path, watcher=told)
    assert {row.status for row in found.rows} == {"done"}
    assert not any("k=4" in row.recipe or "k=8" in row.recipe for row in found.rows)
    (note,) = told.notes
    assert note.startswith("left out, for 3 training examples are too few: k-shot:k=8, ")
    assert "self-consistency:n=5,of=(chain-of-thought:k=4,max_tokens=64)" in note

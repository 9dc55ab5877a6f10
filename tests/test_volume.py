"""What arms cost at a volume, and where training breaks even."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.volume import Line, at_volume, break_evens, sentence

PROMPT = Line("k-shot", 0.0, 0.05, 0.40, False)
TRAINED = Line("lora", 100.0, 0.01, 0.01, True)


def test_training_pays_from_where_the_lines_cross():
    kept, anew = break_evens([PROMPT, TRAINED])
    assert kept.questions == pytest.approx(100 / 0.04)
    assert TRAINED.total(kept.questions) == pytest.approx(PROMPT.total(kept.questions))
    assert kept.low < kept.questions < kept.high
    assert anew.questions < kept.questions  # without a cache prompting is dearer
    assert "2,500 questions" in sentence(kept)
    assert "without a shared-prefix cache" in sentence(anew)


def test_training_that_asks_no_cheaper_never_pays():
    dear = Line("full", 10.0, 0.06, 0.06, True)
    kept, _ = break_evens([PROMPT, dear])
    assert kept.questions is None
    assert "never" in sentence(kept)


@given(st.floats(0, 1e5), st.floats(1e-6, 1), st.floats(1e-6, 1))
def test_the_interval_holds_the_crossing(once, asked, trained):
    [kept, _] = break_evens([Line("a", 0.0, asked, asked, False), Line("b", once, trained, trained, True)])
    if kept.questions is not None:
        assert kept.low is not None
        assert kept.low <= kept.questions
        assert kept.high is None or kept.high >= kept.questions


def test_a_month_is_once_and_each():
    cost = at_volume([TRAINED], 1000)["lora"]
    assert cost["first_month"] == pytest.approx(110.0)
    assert cost["later_month"] == pytest.approx(10.0)

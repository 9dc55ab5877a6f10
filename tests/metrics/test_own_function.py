"""The user's own function: used as it is, and refused in one line where it does not fit."""

from __future__ import annotations

import numpy as np
import pytest

from opportune.errors import OpportuneError, RecipeError
from opportune.metrics import metric_named, resolved_name
from opportune.types import Example

EXAMPLE = Example("id", "what is 2 and 2?", "4")
GOOD = """
from dataclasses import dataclass

@dataclass
class Part:  # a file of one's own may hold anything
    share: float

def score(answer, target, input):
    return Part(0.5 if target in answer else 0.0).share + (0.25 if input.endswith("?") else 0)

def strict(answer: str, target: str, input: str) -> bool:
    return answer == target
"""


def written(tmp_path, text, name="mine.py"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_function_sees_answer_target_and_input(tmp_path):
    path = written(tmp_path, GOOD)
    metric = metric_named(f"python:path={path}")
    assert [metric.score(answer, EXAMPLE) for answer in ("it is 4", "5")] == [0.75, 0.25]
    assert metric.figure(["it is 4", None], [EXAMPLE, EXAMPLE]) == 0.375
    assert not metric.binary
    assert metric.additive
    strict = metric_named(f"python:path={path},function=strict")
    assert strict.score("4", EXAMPLE) == 1
    assert isinstance(strict.score("5", EXAMPLE), float)


def test_another_text_is_another_metric_and_the_old_one_is_not_run_in_its_place(tmp_path):
    path = written(tmp_path, GOOD)
    name = resolved_name(metric_named(f"python:path={path}"))
    assert metric_named(name).score("4", EXAMPLE) == 0.75
    written(tmp_path, GOOD + "\n# changed\n")
    assert resolved_name(metric_named(f"python:path={path}")) != name
    stored = metric_named(name.replace("function=score", "function=strict"))
    with pytest.raises(RecipeError, match="no longer the file that was measured"):
        stored.score("4", EXAMPLE)


def test_the_file_is_found_from_another_folder(tmp_path, monkeypatch):
    path = written(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    name = resolved_name(metric_named(f"python:path={path.name}"))
    monkeypatch.chdir("/")
    assert metric_named(name).score("4", EXAMPLE) == 0.75


def test_a_stored_run_can_be_shown_without_the_file(tmp_path):
    path = written(tmp_path, GOOD)
    name = resolved_name(metric_named(f"python:path={path}"))
    path.unlink()
    metric = metric_named(name)
    assert metric.additive
    assert resolved_name(metric) == name


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        ("", "", r"python: needs path=FILE"),
        (":path={}.nowhere", "", r"nowhere cannot be read"),
        (":path={},function=nope", GOOD, r"has no function nope\(answer, target, input\)"),
        (":path={},function=GOOD", "GOOD = 1", "has no function GOOD"),
        (":path={}", "def score(:", "cannot be run: SyntaxError"),
        (":path={}", "import nothing_of_this_name", "cannot be run: ModuleNotFoundError"),
        (":path={}", "import sys; sys.exit(3)", "cannot be run: SystemExit: 3"),
        (":path={},functoin=score", GOOD, "unknown option 'functoin'; it has path, function"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once_in_one_line(tmp_path, options, text, expected):
    path = written(tmp_path, text)
    with pytest.raises(RecipeError, match=expected) as caught:
        metric_named("python" + options.format(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["'x'", "None", "1.5", "-0.1", "float('nan')", "[1]", "1j"])
def test_a_value_that_is_no_share_is_refused(tmp_path, value):
    path = written(tmp_path, f"def score(answer, target, input):\n    return {value}\n")
    metric = metric_named(f"python:path={path}")
    with pytest.raises(OpportuneError, match=r"mine\.py: score\(\) returned .*; a number from 0 to 1 is expected"):
        metric.score("4", EXAMPLE)


@pytest.mark.parametrize("value", ["np.float32(0.5)", "np.float64(0.5)", "0.5"])
def test_a_number_of_numpy_is_a_number(tmp_path, value):
    path = written(tmp_path, f"import numpy as np\ndef score(answer, target, input):\n    return {value}\n")
    found = metric_named(f"python:path={path}").score("4", EXAMPLE)
    assert type(found) is float
    assert found == np.float64(0.5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def score(answer, target, input):\n    return 1 / 0\n", "ZeroDivisionError: division by zero"),
        ("def score(answer):\n    return 1\n", "TypeError"),
        ("def score(answer, target, input):\n    raise SystemExit(3)\n", "SystemExit: 3"),
    ],
)
def test_a_function_that_fails_says_on_what(tmp_path, text, expected):
    metric = metric_named(f"python:path={written(tmp_path, text)}")
    with pytest.raises(OpportuneError, match=rf"score\(\) failed on the answer 'it is 4': {expected}") as caught:
        metric.score("it is 4", EXAMPLE)
    assert caught.value.__cause__ is not None

"""The page on extending says what works: its code runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from opportune.types import Question
from tests.toy import toy_task

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"


def test_the_strategy_of_the_page_asks_and_teaches() -> None:
    task = toy_task()
    known: dict[str, Any] = {"__name__": __name__, "Question": Question, "view": task.view()}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S):
        exec(compile(code, str(PAGE), "exec", dont_inherit=True), known)
    example = task.train[0]
    (lesson,) = known["Twice"]().teach(example, task.view(), None)
    assert lesson.target == example.target
    assert example.input in lesson.prompt.messages[-1].content

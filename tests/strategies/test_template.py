"""Prompts and strategies of the user's own."""

from __future__ import annotations

import pytest

from opportune.errors import RecipeError
from opportune.models.scripted import Scripted
from opportune.options import resolved
from opportune.recipe import arms
from opportune.spec import ModelRef, Part, parse
from opportune.types import Question
from tests.strategies.talk import contents, strategy, sums, talk
from tests.toy import toy_task


def written(tmp_path, text, name="mine.j2"):
    (tmp_path / name).write_text(text)
    return f'"{tmp_path / name}"'


def test_a_template_sees_the_task_and_its_text_is_the_prompt(tmp_path):
    file = written(tmp_path, "{{ instruction }} Of {{ labels|join('/') }}: {{ input }} ->")
    model = Scripted({"saw": "tool"})
    assert talk(f"template:path={file}", model, Question("the saw"), toy_task()).text == "tool"
    assert contents(model.prompts[0]) == [("user", "Fruit or tool? Of fruit/tool: the saw ->")]
    message = model.prompts[0].messages[0]
    assert message.content[slice(*message.cut)] == "the saw"
    assert model.prompts[0].choices == ("fruit", "tool")


def test_blocks_are_messages_and_examples_demonstrations(tmp_path):
    text = (
        "{% block system %}Add.{% endblock %}{% block user %}{% for e in examples %}{{ e.input }}={{ e.target }};"
        "{% endfor %}{{ input }}{% endblock %}{% block assistant %}It is{% endblock %}"
    )
    model = Scripted({"": " 33."})
    answer = talk(f"template:k=2,path={written(tmp_path, text)}", model, Question("Add 30 and 3."), sums())
    assert answer.text == "33"
    turns = contents(model.prompts[0])
    assert [role for role, _ in turns] == ["system", "user", "assistant"]
    assert turns[1][1].count("=") == 2
    assert turns[2][1] == "It is"


def test_the_recipe_keeps_the_templates_text_so_that_a_changed_file_is_another_recipe(tmp_path):
    file = written(tmp_path, "one {{ input }}")
    first = str(resolved(parse(f"template:path={file}").parts[0], strategy(f"template:path={file}")))
    written(tmp_path, "two {{ input }}")
    second = str(resolved(Part("template"), strategy(f"template:path={file}")))
    assert "one {{ input }}" in first
    assert first != second
    assert strategy(first).path == "one {{ input }}"


@pytest.mark.parametrize(
    "text",
    [
        "{{ nothing }}",
        "{% if %}",
        "{{ ''.__class__.__mro__ }}",
        "{{ '{}{}'.format(input) }}",
        "{% for i in range(10000000) %}x{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ labels[2] }}",
    ],
)
def test_what_a_template_may_not_do_is_one_line_before_anything_is_asked(tmp_path, text):
    model = Scripted({"": "tool"})
    with pytest.raises(RecipeError, match="template.*it may use input") as caught:
        talk(f"template:path={written(tmp_path, text)}", model, Question("the saw"), toy_task())
    assert "\n" not in str(caught.value)
    assert not model.prompts


def test_a_template_may_count_on_what_the_inputs_of_the_task_are_like(tmp_path):
    file = written(tmp_path, "{{ input.split(' ')[1] }}: {{ choices[1] }}?")
    model = Scripted({"saw: tool?": "tool"})
    assert talk(f"template:path={file}", model, Question("the saw"), toy_task()).text == "tool"


MINE = """
from opportune import Answer, Message, Prompt

def ask(question, task):
    (reply,) = yield [Prompt((Message("user", question.input.upper()),), max_tokens=9)]
    return Answer(reply.texts[0].strip())
"""


def test_a_strategy_in_a_file_of_a_few_lines(tmp_path):
    file = written(tmp_path, MINE, "mine.py")
    model = Scripted({"ADD": " 33 "})
    assert talk(f"custom:path={file}", model, Question("add"), sums()).text == "33"
    assert model.prompts[0].max_tokens == 9


def test_a_file_that_prepares(tmp_path):
    text = MINE.replace("def ask(question, task):", "def ask(question, task, word):") + (
        "\ndef prepare(task, seed):\n    yield from ()\n    return task.name\n"
    )
    file = written(tmp_path, text.replace("question.input.upper()", "word"), "mine.py")
    model = Scripted({"toy": "33"})
    assert talk(f"custom:path={file}", model, Question("add"), sums()).text == "33"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "no function ask"),
        ("def ask(q): pass", "should take 2 arguments"),
        ("1/0", "ZeroDivisionError"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(tmp_path, text, said):
    file = written(tmp_path, text, "mine.py")
    with pytest.raises(RecipeError, match=said):
        talk(f"custom:path={file}", Scripted({}), Question("add"), sums())


def test_a_file_is_found_from_another_folder(tmp_path, monkeypatch):
    written(tmp_path, MINE, "mine.py")
    monkeypatch.chdir(tmp_path)
    (arm,) = arms("custom:path=mine.py", (ModelRef("scripted"),))
    assert parse(str(arm.resolved)) == arm.resolved
    monkeypatch.chdir("/")
    assert talk(str(arm.resolved.parts[0]), Scripted({"ADD": " 33 "}), Question("add"), sums()).text == "33"


def test_a_changed_file_is_not_taken_for_the_measured_one(tmp_path):
    file = written(tmp_path, MINE, "mine.py")
    measured = str(resolved(Part("custom"), strategy(f"custom:path={file}")))
    written(tmp_path, MINE + "\n# changed", "mine.py")
    with pytest.raises(RecipeError, match="no longer the file that was measured"):
        strategy(measured)


@pytest.mark.parametrize(
    "name", ["prompts/mine.j2", "promts/mine", "mine.jinja2", "mine.TXT", "./mine", "my prompts/mine.txt"]
)
@pytest.mark.parametrize("option", ["template:path", "zero-shot:instruction", "k-shot:instruction"])
def test_the_name_of_a_file_that_is_not_there_is_no_prompt(option, name):
    with pytest.raises(RecipeError, match=f"the file {name} cannot be read"):
        strategy(f'{option}="{name}"')


@pytest.mark.parametrize(
    "text",
    ["Sort it: yes/no?", "{{input}}/{{labels|join('/')}}", "Answer.", "one/two\nthree", "word " * 200, "w" * 300],
)
def test_a_text_is_no_file(text):
    quoted = text.replace("\n", "\\n")
    assert strategy(f'zero-shot:instruction="{quoted}"').instruction == text


def test_a_file_whose_text_would_be_taken_for_a_file_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="looks like a file's name itself"):
        strategy(f"zero-shot:instruction={written(tmp_path, 'yes/no', 'a.txt')}")


def test_a_template_may_count_on_its_examples_and_labels(tmp_path):
    file = written(tmp_path, "{{ examples[1].input }} is {{ labels[0] }}; {{ input }}")
    model = Scripted({"saw": "tool"})
    assert talk(f"template:k=2,path={file}", model, Question("the saw"), toy_task()).text == "tool"
    with pytest.raises(RecipeError, match="template"):
        talk(f"template:k=1,path={file}", model, Question("the saw"), toy_task())

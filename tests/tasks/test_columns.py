"""Which columns are read, and what answers they allow."""

from __future__ import annotations

import json

import pytest

from opportune.errors import TaskError
from opportune.metrics import TABLE, metric_named
from opportune.tasks.load import task_from_records

from .files import messages


def renamed(text_column, intent_column, **more):
    return [{text_column: row["text"], intent_column: row["intent"], **more} for row in messages()]


def everything(task):
    return [*task.train, *task.dev, *task.test]


@pytest.mark.parametrize(
    ("text", "intent"),
    [("input", "target"), ("Question", "Answer"), ("body", "class"), ("tweet", "label"), ("message", "mood")],
)
def test_unmistakable_columns_are_found_and_told(text, intent):
    task = task_from_records(renamed(text, intent, id=7))
    assert {e.target for e in everything(task)} == {"refund", "status"}
    assert any(repr(text) in note and repr(intent) in note for note in task.notes)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (renamed("text", "label", body="more"), "'text' and 'body' could each be the input; name it with --input"),
        (renamed("text", "label", intent="x"), "'label' and 'intent' could each be the target; name it with --target"),
        (renamed("foo", "bar"), "no column is plainly the target; name it with --target; there is 'foo', 'bar'"),
        ([{"text": "hello"}] * 5, "no column is plainly the target"),
    ],
)
def test_mistakable_columns_are_listed(rows, expected):
    with pytest.raises(TaskError, match=expected):
        task_from_records(rows)


def test_named_columns_are_read_whatever_else_there_is():
    task = task_from_records(renamed("foo", "bar", text="x", label="y"), input="foo", target="bar")
    assert {e.input for e in everything(task)} == {row["text"] for row in messages()}
    assert {e.target for e in everything(task)} == {"refund", "status"}


@pytest.mark.parametrize("option", ["input", "target", "group"])
def test_a_wrong_column_is_refused_with_what_there_is(option):
    with pytest.raises(TaskError, match=r"no column 'nope'; there is 'text', 'intent'"):
        task_from_records(messages(), **{option: "nope"})


def test_a_column_that_a_given_test_split_lacks_is_named():
    test = [{"text": row["text"]} for row in messages(10, 40)]
    with pytest.raises(TaskError, match=r"test records: no column 'intent'; there is 'text'"):
        task_from_records({"train": messages(), "test": test})


def test_a_template_fills_columns_in():
    rows = [{"title": f"t{n}", "body": row["text"], "label": row["intent"]} for n, row in enumerate(messages())]
    for template in ("{title}:\n{body} {{}}", "{title}:\\n{body} {{}}"):  # as typed in Python, and in a shell
        task = task_from_records(rows, input=template)
        assert {e.input for e in everything(task)} == {f"{r['title']}:\n{r['body']} {{}}" for r in rows}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{text", "template '{text' is broken"),
        ("{nope} {text}", "no column 'nope'"),
        ("{text!r}", "column names only"),
        ("{text:>100}", "column names only"),
        ("{text} {intent}", "'intent' is both input and target"),
        ("intent", "'intent' is both input and target"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(template, expected):
    with pytest.raises(TaskError, match=expected):
        task_from_records(messages(), input=template, target="intent")


def test_choices_of_each_row_are_kept_and_an_index_stands_for_one():
    rows = [
        {"question": f"which is {n}?", "choices": [str(n + 1), str(n), str(n + 2)], "answer": 1 if n % 2 else str(n)}
        for n in range(100, 120)
    ]
    task = task_from_records(rows)
    assert (task.kind, task.choices, task.metric) == ("choice", None, "accuracy")
    assert all(e.choices is not None and e.choices[1] == e.target for e in everything(task))


@pytest.mark.parametrize("written", [["refund", "status"], '["refund", "status"]', "refund | status"])
def test_choices_that_all_rows_share_are_the_tasks(written):
    task = task_from_records(renamed("text", "intent", choices=written))
    assert task.choices == ("refund", "status")
    assert {e.choices for e in everything(task)} == {None}


def test_a_target_outside_of_its_rows_choices_is_refused():
    rows = renamed("text", "intent", choices=["refund", "status"])
    rows[2]["intent"] = "other"
    with pytest.raises(
        TaskError, match=r"record 3: the target 'other' is not among the row's choices 'refund', 'status'"
    ):
        task_from_records(rows)


def test_a_rationale_and_a_group_come_along():
    task = task_from_records(renamed("text", "intent", rationale="because", user="ann", other="x")[:20] + [
        {**row, "rationale": "", "user": f"user {n}", "other": ""} for n, row in enumerate(messages(20, 40))
    ], group="user")  # fmt: skip
    assert {e.rationale for e in everything(task)} == {"because", None}
    assert "ann" in {e.group for e in everything(task)}
    assert all(example.group is not None for example in task.test)


def test_a_rationale_of_another_name_is_read_where_it_is_named():
    rows = [{"question": f"{n} and {n}?", "answer": str(2 * n), "solution": f"{n} twice"} for n in range(40)]
    task = task_from_records(rows, rationale="solution")
    assert {e.rationale for e in everything(task)} == {f"{n} twice" for n in range(40)}
    assert {e.target for e in everything(task)} == {str(2 * n) for n in range(40)}
    plain = task_from_records(rows, target="answer", input="question")
    assert {e.rationale for e in everything(plain)} == {None}


def test_a_test_split_needs_no_rationale_and_a_rationale_is_no_part_of_the_question():
    rows = renamed("text", "intent", why="because")
    task = task_from_records({"train": rows, "test": messages(10, 40)}, rationale="why")
    assert {e.rationale for e in task.train} == {"because"}
    assert {e.rationale for e in task.test} == {None}
    asked = task_from_records(renamed("rationale", "intent"), input="rationale", target="intent")
    assert {e.rationale for e in everything(asked)} == {None}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"rationale": "nope"}, "no column 'nope'; there is 'text', 'intent', 'why'"),
        ({"rationale": "why", "input": "{text} {why}"}, "'why' is both rationale and input"),
        ({"rationale": "intent", "target": "intent"}, "'intent' is both rationale and target"),
    ],
)
def test_a_rationale_that_cannot_be_is_refused(options, expected):
    with pytest.raises(TaskError, match=expected):
        task_from_records(renamed("text", "intent", why="because"), **options)


def test_lists_of_labels_are_joined_and_scored_as_sets():
    some = [["late"], ["late", "rude"], ["rude"], ["broken", 7]]
    rows = [{"text": f"message {n}", "labels": some[n % 4]} for n in range(40)]
    task = task_from_records(rows, target="labels")
    assert (task.kind, task.choices, task.metric) == ("text", None, "multilabel-f1")
    assert {e.target for e in everything(task)} == {"late", "late, rude", "rude", "broken, 7"}
    assert any("lists of labels" in note for note in task.notes)
    rows[0]["labels"] = ["too slow, too dear", "rude"]
    commas = task_from_records(rows, target="labels", metric="multilabel-f1")
    assert '["too slow, too dear","rude"]' in {e.target for e in everything(commas)}


def test_no_label_at_all_is_a_target_that_can_be_written():
    rows = [{"text": f"message {n}", "labels": [["late"], ["late", "rude"], []][n % 3]} for n in range(40)]
    task = task_from_records(rows, target="labels")
    assert (task.kind, task.metric) == ("text", "multilabel-f1")
    assert {e.target for e in everything(task)} == {"late", "late, rude", "[]"}
    without = next(e for e in everything(task) if e.target == "[]")
    assert metric_named(task.metric).score("[]", without) == 1
    assert metric_named(task.metric).score("late", without) == 0
    for missing in (None, "", " "):
        with pytest.raises(TaskError, match=r"record 1: the target \(column 'labels'\) is empty"):
            task_from_records([{"text": "message", "labels": missing}, *rows], target="labels")


def test_objects_become_compact_json_scored_by_field():
    rows = [{"text": f"bill {n}", "fields": {"total": n / 2, "by": {"city": "Köln"}, "paid": None}} for n in range(40)]
    task = task_from_records(rows, target="fields")
    assert (task.kind, task.metric) == ("text", "json-fields")
    assert '{"total":0.5,"by":{"city":"Köln"},"paid":null}' in {e.target for e in everything(task)}
    written = task_from_records([{**r, "fields": json.dumps(r["fields"])} for r in rows], target="fields")
    assert written.metric == "json-fields"


def test_half_a_character_within_an_object_is_refused():
    rows = [{"text": f"bill {n}", "fields": {"by": "\ud83d"}} for n in range(40)]
    with pytest.raises(TaskError, match=r"record 1: column 'fields' holds half a character"):
        task_from_records(rows, target="fields")


def test_a_metric_may_have_options():
    rows = [{"text": f"bill {n}", "fields": {"total": n}} for n in range(40)]
    task = task_from_records(rows, target="fields", metric="json-fields:fields=[total]")
    assert task.metric == "json-fields:fields=[total]"
    with pytest.raises(TaskError, match="the target 'refund' is no JSON object for json-fields"):
        task_from_records(messages(), metric="json-fields:fields=[total]")


def test_fields_to_score_must_be_in_the_targets():
    rows = [{"text": f"bill {n}", "fields": {"total": n, "by": {"city": "Ulm"}}} for n in range(40)]
    misspelt = "metric 'json-fields:fields=.totl,by.city.': no target has a field 'totl'; there is total, by"
    with pytest.raises(TaskError, match=misspelt):
        task_from_records(rows, target="fields", metric="json-fields:fields=[totl,by.city]")
    rows[4]["fields"] = {"paid": True}
    with pytest.raises(
        TaskError, match=r"record 5: the target .* has none of the fields of 'json-fields:fields=.total"
    ):
        task_from_records(rows, target="fields", metric="json-fields:fields=[total]")
    assert task_from_records(rows, target="fields", metric="json-fields:fields=[total,paid]").test


def test_labels_are_a_choice_scored_by_accuracy():
    task = task_from_records(messages())
    assert (task.kind, task.choices, task.metric) == ("choice", ("refund", "status"), "accuracy")
    assert any("choice among labels" in note and "2 different targets in 40 examples" in note for note in task.notes)
    assert task.instruction == "Choose the label that fits the text."


NUMBERS = [{"question": f"{n} and {n}?", "answer": 1000.5 * n} for n in range(40)]
PRICES = [{"question": f"how much is {n}?", "answer": f"${n},000"} for n in range(1, 40)]
WORDS = [{"question": f"say {n}", "answer": f"word{n}"} for n in range(40)]
PHRASES = [{"question": f"say {n} twice", "answer": f"word{n} word{n}"} for n in range(40)]
ESSAYS = [{"question": f"tell me {n}", "answer": "yes " * (30 + n % 2)} for n in range(40)]
DIGITS = [{"question": f"what is {n} modulo 20?", "answer": str(n % 20)} for n in range(400)]


@pytest.mark.parametrize(
    ("rows", "metric"),
    [
        (NUMBERS, "numeric-match"),
        (PRICES, "numeric-match"),
        (DIGITS, "numeric-match"),
        (WORDS, "exact-match"),
        (PHRASES, "token-f1"),
        (ESSAYS, "token-f1"),
    ],
)
def test_other_answers_are_free_text_with_a_metric_that_suits_them(rows, metric):
    task = task_from_records(rows)
    assert (task.kind, task.choices, task.metric) == ("text", None, metric)
    assert metric in TABLE
    assert task.instruction == "Answer the question."


def test_what_is_inferred_can_be_overridden():
    task = task_from_records(messages(), kind="text", metric="token-f1", instruction="Say it.", name="mine")
    assert (task.kind, task.choices, task.metric, task.instruction, task.name) == (
        "text",
        None,
        "token-f1",
        "Say it.",
        "mine",
    )
    assert task_from_records(DIGITS, kind="choice").choices == tuple(sorted(str(n) for n in range(20)))
    assert task_from_records(messages(), instruction="").instruction == ""


def test_given_choices_keep_their_order_and_may_exceed_the_labels_seen():
    task = task_from_records(messages(), choices=["status", "refund", "other"])
    assert task.choices == ("status", "refund", "other")


def test_labels_that_differ_in_case_or_spacing_only_are_one_and_it_is_told():
    rows = messages()
    rows[1]["intent"], rows[3]["intent"] = "Status", " STATUS"
    task = task_from_records(rows)
    assert task.choices == ("refund", "status")
    assert {e.target for e in everything(task)} == {"refund", "status"}
    assert any("'Status' is read as 'status'" in note for note in task.notes)


def with_label(rows, index, label):
    return [{**row, "intent": label} if n == index else row for n, row in enumerate(rows)]


REFUSED = {
    "one label": ({"records": [{**r, "intent": "refund"} for r in messages()]}, "record 1 and all other.*'refund'"),
    "label outside choices": (
        {"records": messages(), "choices": ["refund", "other"]},
        r"record 2: the label 'status' \(20 times",
    ),
    "unseen test label": (
        {"records": {"train": messages(), "test": with_label(messages(10, 40), 6, "lost")}},
        r"test record 7: the label 'lost' \(1 times in test\) is not among the 2 choices.*--choices",
    ),
    "unseen dev label": (
        {"records": {"train": messages(), "dev": with_label(messages(10, 40), 0, "lost")}},
        r"dev record 1: the label 'lost' \(1 times in dev\)",
    ),
    "no number": ({"records": messages(), "metric": "numeric-match"}, "record 1: .*'refund' holds no number"),
    "one choice": ({"records": messages(), "choices": ["refund"]}, "at least two choices"),
    "twin choices": ({"records": messages(), "choices": ["refund", "Refund", "status"]}, "differ in case"),
    "text of choices": ({"records": messages(), "choices": "refund,status"}, "a list of texts is expected"),
    "choices for free text": ({"records": messages(), "kind": "text", "choices": ["a", "b"]}, "free text"),
    "unknown kind": ({"records": messages(), "kind": "chat"}, "'choice' or 'text', not 'chat'"),
    "no train": ({"records": {"test": messages()}}, "train is needed"),
    "unknown split": ({"records": {"train": messages(), "exam": messages()}}, "given are"),
    "not a row": ({"records": ["hello"]}, "record 1: an object with columns is expected, not 'hello'"),
    "no rows": ({"records": []}, "records: no rows"),
    "choices in some rows": (
        {"records": [*renamed("text", "intent", choices=["refund", "status"]), *messages(10, 40)]},
        "record 41: no choices, while other rows have some",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_task_is_refused_in_one_line(case):
    options, expected = REFUSED[case]
    with pytest.raises(TaskError, match=expected) as caught:
        task_from_records(**options)
    assert "\n" not in str(caught.value)


def test_a_test_label_that_given_choices_hold_is_allowed():
    test = with_label(messages(10, 40), 6, "lost")
    task = task_from_records({"train": messages(), "test": test}, choices=["refund", "status", "lost"])
    assert "lost" in {e.target for e in task.test}

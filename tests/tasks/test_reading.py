"""Every format gives the same task; everything that cannot be read gives one line that names the place."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from opportune.errors import TaskError
from opportune.tasks.load import load_task

from .files import messages, write_json_lines, write_separated


def contents(task):
    """What was read, without the split."""
    return sorted((e.input, e.target) for part in (task.train, task.dev, task.test) for e in part)


EXPECTED = sorted((row["text"], row["intent"]) for row in messages())


def write_parquet(path, rows):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def write_array(path, rows):
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return path


WRITERS = {
    "a.jsonl": write_json_lines,
    "a.json": write_array,
    "lines.json": write_json_lines,
    "a.csv": write_separated,
    "semicolons.csv": lambda path, rows: write_separated(
        path, [{k: v.replace(",", "") for k, v in r.items()} for r in rows], ";"
    ),
    "a.tsv": lambda path, rows: write_separated(path, rows, "\t"),
    "A.TSV": lambda path, rows: write_separated(path, rows, "\t"),
    "a.parquet": write_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_holds_the_same_examples(tmp_path, name):
    task = load_task(WRITERS[name](tmp_path / name, messages()))
    plain = [(text.replace(",", "") if name.startswith("semi") else text, intent) for text, intent in EXPECTED]
    assert contents(task) == sorted(plain)
    assert task.choices == ("refund", "status")
    assert task.name == name.partition(".")[0]


def test_values_with_separators_quotes_and_line_breaks_survive_csv(tmp_path):
    rows = messages()
    rows[3]["text"] = 'she said "no",\nthen, nothing'
    task = load_task(write_separated(tmp_path / "a.csv", rows))
    assert ('she said "no",\nthen, nothing', "status") in contents(task)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = write_separated(tmp_path / "a.csv", messages())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert contents(load_task(path)) == EXPECTED


@pytest.mark.parametrize("dev_name", ["val", "dev", "validation"])
def test_a_folder_gives_its_splits(tmp_path, dev_name):
    write_json_lines(tmp_path / "train.jsonl", messages(40))
    write_separated(tmp_path / f"{dev_name}.csv", messages(10, 40))
    write_json_lines(tmp_path / "test.jsonl", messages(20, 50))
    (tmp_path / "README.md").write_text("hello")
    task = load_task(str(tmp_path))
    assert [e.input for e in task.train] == [row["text"] for row in messages(40)]
    assert [e.input for e in task.dev] == [row["text"] for row in messages(10, 40)]
    assert [e.input for e in task.test] == [row["text"] for row in messages(20, 50)]


def test_a_saved_dataset_gives_its_splits_and_label_names(tmp_path):
    datasets = pytest.importorskip("datasets")
    names = ["refund", "status"]
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})

    def split(rows):
        numbered = [{"text": row["text"], "label": names.index(row["intent"])} for row in rows]
        return datasets.Dataset.from_list(numbered, features=features)

    data = {"train": split(messages(30)), "validation": split(messages(10, 30)), "test": split(messages(10, 40))}
    datasets.DatasetDict(data).save_to_disk(tmp_path / "saved")
    data["train"].to_parquet(tmp_path / "train.parquet")
    task = load_task(tmp_path / "saved")
    assert (len(task.train), len(task.dev), len(task.test)) == (30, 10, 10)
    assert contents(task) == sorted((row["text"], row["intent"]) for row in messages(50))
    assert contents(load_task(tmp_path / "train.parquet")) == sorted((r["text"], r["intent"]) for r in messages(30))


def test_lists_of_labels_have_the_names_that_a_dataset_knows(tmp_path):
    datasets = pytest.importorskip("datasets")
    labels = datasets.Sequence(datasets.ClassLabel(names=["joy", "anger", "fear"]))
    features = datasets.Features({"text": datasets.Value("string"), "labels": labels})
    rows = [{"text": f"message {n}", "labels": [[1, 2], [0], []][n % 3]} for n in range(30)]
    data = datasets.Dataset.from_list(rows, features=features)
    data.save_to_disk(tmp_path / "saved")
    data.to_parquet(tmp_path / "a.parquet")
    for path in ("saved", "a.parquet"):
        task = load_task(tmp_path / path, target="labels")
        assert (task.kind, task.choices, task.metric) == ("text", None, "multilabel-f1")
        assert {target for _, target in contents(task)} == {"anger, fear", "joy", "[]"}


def test_decimals_of_parquet_are_read_as_they_print(tmp_path):
    rows = [{"item": f"item {n}", "price": Decimal(n).scaleb(-2)} for n in range(100, 140)]
    task = load_task(write_parquet(tmp_path / "a.parquet", rows), input="item", target="price")
    assert task.metric == "numeric-match"
    assert contents(task) == [(f"item {n}", f"{n / 100:.2f}") for n in range(100, 140)]
    nested = [{"text": f"bill {n}", "answer": {"total": Decimal(n).scaleb(-2)}} for n in range(100, 140)]
    assert ("bill 125", '{"total":1.25}') in contents(load_task(write_parquet(tmp_path / "b.parquet", nested)))


@pytest.mark.parametrize(
    "names", [["refund", "status"], {"0": "refund", "1": "status"}, {"refund": 0, "status": 1}], ids=str
)
def test_labels_json_names_the_numbers(tmp_path, names):
    numbers = {"refund": 0, "status": 1}
    rows = [{"text": row["text"], "label": numbers[row["intent"]]} for row in messages()]
    write_separated(tmp_path / "train.csv", rows)
    (tmp_path / "labels.json").write_text(json.dumps(names))
    assert contents(load_task(tmp_path)) == EXPECTED


def test_a_number_without_a_name_is_refused(tmp_path):
    rows = [{"text": row["text"], "label": 0} for row in messages()]
    rows[4]["label"] = -1
    write_json_lines(tmp_path / "train.jsonl", rows)
    (tmp_path / "labels.json").write_text('["refund", "status"]')
    with pytest.raises(
        TaskError, match=r"train.jsonl line 5: the label '-1' has no name; named are 'refund', 'status'"
    ):
        load_task(tmp_path)


def test_a_name_on_the_hub_is_fetched_with_its_configuration(monkeypatch):
    datasets = pytest.importorskip("datasets")
    asked = []

    def load_dataset(*arguments):
        asked.append(arguments)
        return datasets.DatasetDict({"train": datasets.Dataset.from_list(messages())})

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert contents(load_task("someone/messages:english")) == EXPECTED
    assert asked == [("someone/messages", "english")]


def test_where_no_hub_is_reached_the_error_says_what_to_do(monkeypatch):
    import huggingface_hub

    def refuse(*arguments, **options):
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refuse)
    with pytest.raises(
        TaskError, match=r"'someone/messages' is no file or folder here.*no route.*save_to_disk"
    ) as caught:
        load_task("someone/messages")
    assert "\n" not in str(caught.value)


LINES = "".join(json.dumps(row) + "\n" for row in messages())
BROKEN_LINE_17 = "".join(line if n != 17 else '{"text": "where\n' for n, line in enumerate(LINES.splitlines(True), 1))
HEAD = "text,intent\n"

UNREADABLE = {
    "broken JSON": ("a.jsonl", BROKEN_LINE_17, r"a\.jsonl line 17: broken JSON \(.*column"),
    "broken array": ("a.json", '[{"text": "a",\n "intent": "b"},\n {"text" "c"}]', r"a\.json line 3: broken JSON"),
    "no object": ("a.jsonl", LINES + "[1, 2]\n", r"a\.jsonl line 41: an object .* is expected, not \[1, 2\]"),
    "no object in array": ("a.json", '[{"text": "a", "intent": "b"}, 3]', r"a\.json record 2: an object"),
    "deep JSON": ("a.jsonl", "[" * 100_000, r"a\.jsonl line 1: JSON that cannot be read"),
    "lone surrogate": ("a.jsonl", LINES + '{"text": "\\ud83d", "intent": "b"}', r"line 41: .*half a character"),
    "Latin-1": ("a.csv", HEAD.encode() + b"hello,a\ncaf\xe9,b\n", r"a\.csv line 3: not UTF-8: byte 0xe9 at offset 23"),
    "Latin-1 in an array": ("a.json", b'[\n{"text": "caf\xe9"}]', r"a\.json line 2: not UTF-8: byte 0xe9 at offset 15"),
    "UTF-16": ("a.csv", HEAD.encode("utf-16"), r"line 1: not UTF-8.*UTF-16"),
    "too many cells": ("a.csv", HEAD + "hello, you,b\n", r"a\.csv line 2: 3 cells, but the header has 2"),
    "too few cells": ("a.csv", HEAD + "a,b\n\nhello\n", r"a\.csv line 4: 1 cells"),
    "open quote": ("a.csv", HEAD + 'a,b\n"hello,b\nc,d\n', r"a\.csv line 3: the quotes"),
    "column twice": ("a.csv", "text,text\na,b\n", r"line 1: the header has the column 'text' twice"),
    "not Parquet": ("a.parquet", "hello", r"a\.parquet: not a Parquet file"),
    "unknown type": ("a.xlsx", "hello", r"a\.xlsx: files of type \.xlsx are not read; known are \.jsonl"),
    "no type": ("messages", "hello", r"files of type none are not read"),
    "empty file": ("a.csv", "", r"a\.csv: the file is empty"),
    "header only": ("a.csv", HEAD, r"a\.csv: no rows"),
    "empty rows only": ("a.csv", HEAD + ",\n\n , \n", r"a\.csv: every row is empty"),
    "blank lines only": ("a.jsonl", "\n\n", r"a\.jsonl: every row is empty"),
    "list as input": ("a.jsonl", '{"text": ["a"], "intent": "b"}', r"line 1: column 'text' holds list"),
    "empty target": ("a.csv", HEAD + "a,b\nhello,\n", r"a\.csv line 3: the target \(column 'intent'\) is empty"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_is_one_line_that_names_the_place(tmp_path, case):
    name, content, expected = UNREADABLE[case]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TaskError, match=expected) as caught:
        load_task(path)
    assert "\n" not in str(caught.value)


def test_a_line_of_100_megabytes_is_refused_with_its_number_and_size(tmp_path):
    path = tmp_path / "a.jsonl"
    with path.open("w") as file:
        file.write(LINES)
        file.write('{"text": "')
        for _ in range(100):
            file.write("x" * 1_000_000)
        file.write('", "intent": "refund"}\n' + LINES)
    with pytest.raises(TaskError, match=r"a\.jsonl line 41: 100\.0 MB long, at most 10 MB"):
        load_task(path)


def test_a_long_line_within_the_limit_is_read(tmp_path):
    rows = messages()
    rows[0]["text"] = "word " * 100_000
    path = write_separated(tmp_path / "a.csv", rows)
    assert max(len(text) for text, _ in contents(load_task(path))) == 499_999


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TaskError, match=r"tickts\.csv: no such file or folder"):
        load_task("data/tickts.csv")
    with pytest.raises(TaskError, match="no such file or folder"):
        load_task(tmp_path / "nowhere")
    with pytest.raises(TaskError, match="no such file or folder"):
        load_task("./nowhere")


def test_a_folder_without_train_tells_what_it_holds(tmp_path):
    write_json_lines(tmp_path / "test.jsonl", messages())
    with pytest.raises(TaskError, match=r"no train\.jsonl.*it holds test\.jsonl"):
        load_task(tmp_path)


def test_two_files_for_one_split_are_refused(tmp_path):
    write_json_lines(tmp_path / "train.jsonl", messages())
    write_json_lines(tmp_path / "val.jsonl", messages())
    write_json_lines(tmp_path / "dev.jsonl", messages())
    with pytest.raises(TaskError, match=r"both dev\.jsonl and val\.jsonl would be the dev split"):
        load_task(tmp_path)


def test_empty_rows_are_left_out_and_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(LINES + '\n{}\n{"text": " ", "intent": "refund"}\n')
    task = load_task(path)
    assert contents(task) == EXPECTED
    assert any("3 rows without input left out" in note and "line 41" in note for note in task.notes)

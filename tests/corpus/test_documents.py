"""Documents from every kind of file; what is wrong is one clear line; what is held out never comes back."""

from __future__ import annotations

import json

import pyarrow
import pyarrow.parquet
import pytest

from opportune.corpus.division import HELD, divided
from opportune.corpus.documents import read_documents
from opportune.errors import TaskError
from tests.corpus.texts import documents, write


def test_a_folder_of_every_kind_is_read_in_the_order_of_its_names(tmp_path):
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "a.md").write_text("# One\r\n\r\ntext\n")
    (tmp_path / "b.txt").write_text("two<|endoftext|>\n three\nmore <|endoftext|><|endoftext|> \n")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "d.jsonl").write_text('{"text": "four"}\n\n{"text": "five", "id": 5}\n')
    pyarrow.parquet.write_table(pyarrow.table({"id": [6], "text": ["six"]}), tmp_path / "e.parquet")
    (tmp_path / "ignored.png").write_bytes(b"\xff")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "f.txt").write_text("no")
    assert list(read_documents(tmp_path)) == ["# One\n\ntext", "two", "three\nmore", "four", "five", "six"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "fine"}\n{"text": "bro', r"a\.jsonl line 2: broken JSON"),
        ("a.jsonl", b'{"body": "other", "title": "one"}', r"a\.jsonl line 1: no text under 'text'; it has body, title"),
        ("a.jsonl", b'{"text": 3}', r"line 1: no text under 'text'"),
        ("a.jsonl", b"[1]", r"line 1: an object"),
        ("a.txt", b"caf\xe9", r"a\.txt line 1: not UTF-8"),
        ("a.txt", b" \n\n ", "it is empty"),
        ("a.parquet", b"nonsense", r"a\.parquet: not a Parquet file"),
        ("a.docx", b"x", r"files of type \.docx are not read; known are \.txt"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TaskError, match=message) as error:
        divided(tmp_path / name)
    assert "\n" not in str(error.value)


def test_nothing_there(tmp_path):
    with pytest.raises(TaskError, match="no such file or folder"):
        divided(tmp_path / "absent")
    with pytest.raises(TaskError, match="no file of a known type"):
        divided(tmp_path)


def test_another_field(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"body": "x y"}))
    assert list(read_documents(tmp_path, "body")) == ["x y"]


def test_the_only_field_that_holds_text_needs_no_name(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": 1, "body": "one"}\n{"id": 2, "body": "two"}\n')
    pyarrow.parquet.write_table(pyarrow.table({"id": [3], "body": ["three"]}), tmp_path / "b.parquet")
    assert list(read_documents(tmp_path)) == ["one", "two", "three"]
    (tmp_path / "c.jsonl").write_text('{"text": "four"}\n{"source": "a page"}\n')
    with pytest.raises(TaskError, match="line 2: no text under 'text'; it has source"):
        list(read_documents(tmp_path / "c.jsonl"))
    (tmp_path / "c.jsonl").write_text('{"title": "four", "body": null}\n')
    with pytest.raises(TaskError, match="it has title, body: name the field"):
        list(read_documents(tmp_path))


def test_whole_documents_are_held_out_copies_with_them_and_the_rest_is_trained_on(tmp_path):
    texts = documents(100)
    corpus = divided(write(tmp_path / "a.txt", texts + texts))
    train, held = list(corpus.train()), list(corpus.held_out())
    assert sorted(train + held) == sorted(texts + texts)
    assert not set(train) & set(held)
    assert 0.05 * corpus.characters <= sum(map(len, held)) < 0.08 * corpus.characters
    assert divided(tmp_path / "a.txt") == corpus


def test_of_a_single_document_the_end_is_held_out(tmp_path):
    text = documents(1, words=4000)[0]
    corpus = divided(write(tmp_path / "a.txt", [text]))
    (train,), (held,) = corpus.train(), corpus.held_out()
    assert train + held == text
    assert len(held) == round(len(text) / 20)


def test_of_a_document_and_its_copies_the_same_end_is_held_out(tmp_path):
    text = " ".join(f"word{i}" for i in range(3000))
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(text)
    (tmp_path / "c.txt").write_text("a short note")
    corpus = divided(tmp_path)
    held, trained = list(corpus.held_out()), list(corpus.train())
    assert len(held) == 2
    assert text.endswith(held[0])
    assert trained == [text.removesuffix(held[0])] * 2 + ["a short note"]


def test_of_copies_of_a_single_character_nothing_can_be_held_out(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n' * 10)
    with pytest.raises(TaskError, match="too little"):
        divided(tmp_path)


def test_no_more_is_held_out_than_is_needed(tmp_path):
    corpus = divided(write(tmp_path / "a.txt", documents(400, words=4000)))
    assert corpus.characters > 20 * HELD
    assert HELD <= sum(map(len, corpus.held_out())) < 1.5 * HELD


def test_nothing_is_held_out_of_a_whole_corpus(tmp_path):
    corpus = divided(write(tmp_path / "a.txt", documents(5)), whole=True)
    assert list(corpus.train()) == documents(5)
    assert not list(corpus.held_out())

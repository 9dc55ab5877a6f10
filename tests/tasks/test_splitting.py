"""What every split holds: nothing is lost, nothing leaks, the same seed gives the same."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opportune.errors import TaskError
from opportune.tasks.duplicates import near_duplicates
from opportune.tasks.load import task_from_records

from .files import messages

WORDS = ["amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "islet", "jetty"]


def text(number):
    """A text that no other number's text resembles."""
    return " ".join(WORDS[int(digit)] for digit in f"{number * 7919 % 1_000_003:07d}")


@st.composite
def labelled(draw):
    """Rows of two labels or more, in groups or not, some inputs repeated."""
    labels = draw(st.lists(st.sampled_from("abcde"), min_size=12, max_size=60).filter(lambda some: len(set(some)) > 1))
    size = len(labels)
    numbers = draw(st.lists(st.integers(0, 3 * size), min_size=size, max_size=size))
    groups = draw(st.lists(st.sampled_from([None, *range(12)]), min_size=size, max_size=size))
    return [
        {"text": text(number), "label": label, "user": group}
        for number, label, group in zip(numbers, labels, groups, strict=True)
    ]


def loaded(rows, **options):
    """The task, or None where these rows cannot be split at all, which is refused and not in question here."""
    try:
        return task_from_records(rows, kind="choice", **options)
    except TaskError as error:
        if "no examples left" in str(error):
            return None
        raise


@settings(max_examples=80, deadline=None)
@given(labelled(), st.integers(0, 5), st.booleans())
def test_a_split_is_complete_disjoint_and_leaks_nothing(rows, seed, grouped):
    options = {"seed": seed, "group": "user"} if grouped else {"seed": seed}
    task = loaded(rows, **options)
    if task is None:
        return
    splits = {"train": task.train, "dev": task.dev, "test": task.test}
    everything = [example for part in splits.values() for example in part]
    assert Counter((e.input, e.target) for e in everything) == Counter((r["text"], r["label"]) for r in rows)
    assert len({e.id for e in everything}) == len(rows)
    assert {e.target for e in (*task.dev, *task.test)} <= {e.target for e in task.train}
    places = defaultdict(set)
    for name, part in splits.items():
        for example in part:
            places["question", example.input].add(name)
            if grouped and example.group is not None:
                places["group", example.group].add(name)
    assert all(len(names) == 1 for names in places.values())
    assert loaded(rows, **options) == task


@settings(max_examples=60, deadline=None)
@given(labelled(), st.integers(1, 30), st.integers(0, 3))
def test_a_limit_keeps_so_many_and_every_label_in_train_while_there_is_room(rows, limit, seed):
    whole, task = loaded(rows, seed=seed), loaded(rows, seed=seed, limit=limit)
    if whole is None or task is None:
        return
    for split in ("train", "dev", "test"):
        assert len(task.split(split)) == min(limit, len(whole.split(split)))
        assert set(task.split(split)) <= set(whole.split(split))
    labels = {e.target for e in whole.train}
    assert len({e.target for e in task.train}) == min(limit, len(labels))
    assert task.choices == whole.choices


def test_default_shares_are_a_fifth_for_test_and_15_percent_of_the_rest_for_dev():
    task = task_from_records(messages(200))
    assert (len(task.train), len(task.dev), len(task.test)) == (136, 24, 40)
    assert any("40 of 200" in note and "seed 0" in note for note in task.notes)


def test_large_data_give_at_most_1000_to_test_and_300_to_dev_in_seconds():
    rows = [{"text": f"{text(n)} {n * n}", "label": "ab"[n % 2]} for n in range(10_000)]
    began = time.process_time()
    task = task_from_records(rows)
    assert time.process_time() - began < 20
    assert (len(task.train), len(task.dev), len(task.test)) == (8700, 300, 1000)


def test_labels_keep_their_shares():
    rows = [{"text": text(n), "label": "rare" if n % 10 == 0 else "common"} for n in range(1000)]
    task = task_from_records(rows, limit="train=100")
    for part in (task.train, task.dev, task.test):
        assert abs(sum(e.target == "rare" for e in part) - len(part) / 10) <= 2


def test_the_only_example_of_a_label_stays_in_train():
    rows = [*messages(40), {"text": "set fire to my account", "intent": "other"}]
    for seed in range(20):
        assert "other" in {e.target for e in task_from_records(rows, seed=seed).train}


def test_another_seed_draws_another_split():
    tests = {frozenset(e.id for e in task_from_records(messages(), seed=seed).test) for seed in range(5)}
    assert len(tests) > 1


def test_given_splits_are_used_and_only_the_missing_one_is_drawn_from_train():
    task = task_from_records({"train": messages(40), "test": messages(20, 40)})
    assert [e.input for e in task.test] == [row["text"] for row in messages(20, 40)]
    assert (len(task.train), len(task.dev)) == (34, 6)
    task = task_from_records({"train": messages(40), "validation": messages(20, 40)})
    assert [e.input for e in task.dev] == [row["text"] for row in messages(20, 40)]
    assert (len(task.train), len(task.test)) == (32, 8)


def test_what_test_holds_is_removed_from_dev_and_train_and_what_dev_holds_from_train():
    train, dev, test = messages(40), messages(10, 40), messages(10, 50)
    shouted = {**test[0], "text": test[0]["text"].upper().replace(" ", "  ")}
    task = task_from_records({"train": [*train, shouted, dev[1]], "dev": [*dev, test[3]], "test": test})
    assert [e.input for e in task.train] == [row["text"] for row in train]
    assert [e.input for e in task.dev] == [row["text"] for row in dev]
    assert [e.input for e in task.test] == [row["text"] for row in test]
    assert any("2 train examples removed" in note for note in task.notes)
    assert any("1 dev examples removed" in note for note in task.notes)


def test_the_same_question_with_other_choices_is_another_question():
    def rows(start):
        return [
            {"question": "which one?", "choices": [f"a{n}", f"b{n}"], "answer": f"a{n}"}
            for n in range(start, start + 10)
        ]

    task = task_from_records({"train": rows(0), "dev": rows(10), "test": rows(20)})
    assert (len(task.train), len(task.dev), len(task.test)) == (10, 10, 10)


def test_given_splits_that_share_a_group_lose_it_from_train():
    train = [{**row, "user": f"u{n}"} for n, row in enumerate(messages(40))]
    test = [{**row, "user": f"u{n}"} for n, row in enumerate(messages(10, 40), 35)]
    task = task_from_records({"train": train, "dev": messages_of("dev"), "test": test}, group="user")
    assert not {e.group for e in task.train} & {e.group for e in task.test}
    assert any("5 train examples removed, whose group is in" in note for note in task.notes)


def messages_of(user):
    return [{**row, "user": user} for row in messages(10, 60)]


def test_near_duplicates_are_kept_and_flagged_with_one_of_them():
    test = [{"text": "Where is the kettle for flat 1 ?!", "intent": "status"}, *messages(10, 50)]
    task = task_from_records(
        {"train": [{"text": text(n), "intent": "status"} for n in range(20)] + messages(4), "test": test}
    )
    assert len(task.test) == 11
    assert any("test: " in note and "nearly repeat" in note and "flat 1" in note for note in task.notes)


def test_near_duplicates_are_those_of_a_comparison_one_by_one():
    def fragments(some):
        return {f" {word} "[at : at + 4] for word in some.split() for at in range(max(1, len(word) - 1))}

    def alike(one, other):
        a, b = fragments(one), fragments(other)
        return len(a & b) / len(a | b)

    random = Random(0)

    def words(count):
        return ["".join(random.choices("aeioulnrst", k=random.randint(1, 8))) for _ in range(count)]

    sentences = [words(12) for _ in range(120)]
    train = [" ".join(sentence) for sentence in sentences]
    held = [" ".join(sentence[: 12 - n % 6] + words(n % 3)) for n, sentence in enumerate(sentences)]
    expected = {n: max(alike(one, other) for other in train) for n, one in enumerate(held)}
    found = dict(near_duplicates(held, train))
    assert set(found) == {n for n, best in expected.items() if best >= 0.75}
    assert any(0.75 <= best < 0.78 for best in expected.values())  # the bound itself is tried
    assert 0 < len(found) < len(held)
    assert all(alike(held[n], train[other]) == expected[n] for n, other in found.items())


def test_ids_are_unique_and_outlive_limit_seed_and_order():
    rows = [*messages(), *messages(10)]
    task = task_from_records(rows)
    ids = {e.id: (e.input, e.target) for part in (task.train, task.dev, task.test) for e in part}
    assert len(ids) == 50
    other = task_from_records(rows[::-1], seed=3, limit=8)
    for example in (*other.train, *other.dev, *other.test):
        assert ids[example.id] == (example.input, example.target)


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [
        (5, (5, 5, 5)),
        ("5", (5, 5, 5)),
        ("train=10,dev=2,test=4", (10, 2, 4)),
        ({"test": 3}, (136, 24, 3)),
        (10_000, (136, 24, 40)),
    ],
)
def test_limits(limit, sizes):
    task = task_from_records(messages(200), limit=limit)
    assert (len(task.train), len(task.dev), len(task.test)) == sizes
    assert any("limited to" in note or "all there are" in note for note in task.notes)


@pytest.mark.parametrize("limit", [0, -3, "many", "train=x", "train", "train=0", "exam=5", {"exam": 5}, 2.5])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(TaskError, match="limit"):
        task_from_records(messages(), limit=limit)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"records": messages(3)}, "record 1: only 3 examples in all; at least 4 are needed"),
        (
            {"records": [{"text": w, "label": w} for w in WORDS], "kind": "choice"},
            "no examples left for test.*one example only",
        ),
        ({"records": {"train": messages(), "test": messages()}}, r"no examples left for train|none can be spared"),
        (
            {"records": [{**r, "user": "ann"} for r in messages()], "group": "user"},
            "no examples left for test.*one group",
        ),
        ({"records": {"train": messages(), "test": []}}, "test records: no rows"),
    ],
)
def test_a_split_that_stays_empty_is_refused(options, expected):
    with pytest.raises(TaskError, match=expected):
        task_from_records(**options)

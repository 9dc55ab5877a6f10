"""The bundled task is what the docs say it is."""

from __future__ import annotations

from collections import Counter

import pytest

from opportune.tasks.duplicates import near_duplicates
from opportune.tasks.load import load_task


@pytest.fixture(scope="module")
def task():
    return load_task()


def test_it_is_a_choice_among_ten_intents(task):
    assert (task.name, task.kind, task.metric) == ("support-desk", "choice", "accuracy")
    assert len(task.choices) == 10
    assert len(task.train) >= 400
    assert len(task.dev) >= 100
    assert len(task.test) >= 300
    for part in (task.train, task.dev, task.test):
        assert len(set(Counter(e.target for e in part).values())) == 1


def test_messages_are_of_a_customers_length_and_all_different(task):
    messages = [e.input for e in (*task.train, *task.dev, *task.test)]
    assert all(5 <= len(message.split()) <= 80 for message in messages)
    assert len({message.casefold() for message in messages}) == len(messages)


def test_no_held_out_message_nearly_repeats_a_train_message(task):
    train = [e.input for e in task.train]
    assert near_duplicates([e.input for e in (*task.dev, *task.test)], train) == []


def test_no_template_was_used(task):
    beginnings = Counter(" ".join(e.input.casefold().split()[:4]) for e in (*task.train, *task.dev, *task.test))
    assert beginnings.most_common(1)[0][1] <= 8


def test_the_demonstrations_subset_is_balanced_and_the_same_every_time(task):
    subset = load_task(limit="train=128,dev=60,test=150")
    assert (len(subset.train), len(subset.dev), len(subset.test)) == (128, 60, 150)
    assert set(Counter(e.target for e in subset.test).values()) <= {14, 15, 16}
    assert set(subset.test) <= set(task.test)
    assert subset.fingerprint() == load_task(limit="train=128,dev=60,test=150").fingerprint()

"""The generalisation gap is what it says, and opens where a network learns its lessons by heart."""

from __future__ import annotations

import pytest

from opportune.methods.full import Full
from opportune.training.gap import LESSONS, Sides, measure_gap
from opportune.training.loop import Settings, train
from opportune.training.loss import lesson_loss
from tests.training.tiny import lessons, llama


def test_the_gap_of_an_untrained_network_is_noise():
    every = lessons(100)
    made, dev = every[:60], every[60:]
    sides = measure_gap(llama(), made, len(made), dev)
    assert sides.dev == pytest.approx(lesson_loss(llama(), [dev[i * 40 // LESSONS] for i in range(LESSONS)]), rel=1e-5)
    assert abs(sides.dev - sides.train) < 3 * sides.error
    assert not sides.opened


def test_only_lessons_of_dev_s_kind_are_held_against_it():
    every = lessons(20)
    sides = measure_gap(llama(), every, 4, every[10:])
    assert sides.train == pytest.approx(lesson_loss(llama(), every[:4]), rel=1e-5)


def test_lessons_learned_by_heart_open_it(tmp_path):
    every = lessons(46)
    made, dev = every[:6], every[6:]
    network = Full().attach(llama(), 0)
    train(network, made, Settings(rate=3e-2, epochs=20, batch=6), tmp_path)
    sides = measure_gap(network, made, len(made), dev)
    assert sides.train < 0.1 < sides.dev
    assert sides.opened


def test_a_certain_gap_that_is_small_is_not_flagged():
    assert not Sides(train=3.0, dev=3.1, error=0.001).opened
    assert not Sides(train=1.0, dev=2.0, error=0.6).opened
    assert Sides(train=1.0, dev=2.0, error=0.1).opened


def test_of_a_single_lesson_no_error_is_known():
    sides = measure_gap(llama(), lessons(1), 1, lessons(5))
    assert sides.error is None
    assert not sides.opened

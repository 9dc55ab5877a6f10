from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opportune.comparison import of_run
from opportune.report import figures, scatter
from opportune.report.placement import Box, place
from opportune.report.scatter import Point
from opportune.store import Store

from .synthetic import ARMS, Plan, make_run

point = st.builds(
    lambda cost, score: Point("arm", "asked", cost, score, score, score), st.floats(0.01, 1e4), st.floats(0, 1)
)


@settings(deadline=None, max_examples=50)
@given(st.lists(point, min_size=1))
def test_the_frontier_is_what_nothing_cheaper_equals(points: list[Point]) -> None:
    best = scatter.frontier(points)
    assert best == sorted(best, key=lambda p: p.cost)
    for one in points:
        beaten = any(
            p.cost <= one.cost and p.score >= one.score and (p.cost, p.score) != (one.cost, one.score) for p in points
        )
        assert ((one.cost, one.score) in [(p.cost, p.score) for p in best]) != beaten


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.floats(20, 880), st.floats(20, 380)), min_size=1, max_size=10, unique=True))
def test_names_stay_inside_the_frame(spots: list[tuple[float, float]]) -> None:
    frame = Box(0, 0, 900, 400)
    for box in place(spots, ["k-shot:k=32"] * len(spots), [], frame):
        assert box.overlap(frame) == pytest.approx(box.area)


def test_names_of_close_points_do_not_cover_each_other() -> None:
    spots = [(400.0, 200.0), (405.0, 205.0), (410.0, 195.0), (398.0, 214.0), (402.0, 188.0)]
    boxes = place(spots, ["k-shot:k=8,calibrate=contextual"] * 5, [], Box(0, 0, 900, 400))
    assert all(a.overlap(b) == 0 for i, a in enumerate(boxes) for b in boxes[:i])


def test_seventy_seven_labels_leave_the_twenty_most_confused(store: Store) -> None:
    labels = [f"label {i}" for i in range(77)]
    found = of_run(store, make_run(store, arms=[ARMS[4]], labels=labels, tests=154))
    shown = figures.matrix(found.rows[0])
    assert len(shown.targets) == 20
    wrong = dict.fromkeys(labels, 0)
    for item in found.rows[0].confusion:
        if item.target != item.answer:
            wrong[item.target] += item.count
            wrong[str(item.answer)] += item.count
    assert min(wrong[label] for label in shown.targets) >= max(
        wrong[label] for label in set(labels) - set(shown.targets)
    )


def test_the_matrix_counts_every_answer(store: Store) -> None:
    found = of_run(store, make_run(store, arms=[ARMS[5]], failed=0.1, tests=80))
    row = found.rows[0]
    shown = figures.matrix(row)
    assert row.unparsed > 0
    assert row.failed > 0
    assert shown.answers == (*shown.targets, "(unparsed)")
    assert sum(map(sum, shown.counts)) == 80 - row.failed
    assert sum(line[-1] for line in shown.counts) == row.unparsed
    assert [sum(line) for line in shown.counts] == [item.count for item in row.classes]


def test_plots_are_inline_svg_that_loads_nothing(store: Store) -> None:
    found = of_run(store, make_run(store, arms=[ARMS[1], ARMS[4], ARMS[8]]))
    main = figures.quality_against_cost(found)
    assert main is not None
    assert main.narrow is not None
    assert "lora:rank=16" in main.svg
    for text in (main.svg, main.narrow, *(figure.svg for figure in figures.confusions(found))):
        assert text.startswith('<svg role="img" aria-label="')
        assert "http" not in text
        assert "style=" not in text
        assert "<image" not in text
        assert "var(--ink, #1f2328)" in text or "var(--muted, #59636e)" in text


def test_a_name_cannot_leave_the_plot(store: Store) -> None:
    hostile = "\"><script>alert('1')</script>\u2028\\"
    found = of_run(store, make_run(store, arms=[Plan(hostile, 0.9, 0, 0.01), ARMS[1]], labels=[hostile, "b & c"]))
    main, recalls = figures.quality_against_cost(found), figures.recalls(found)
    assert main is not None
    assert recalls is not None
    assert "<script" not in main.svg + recalls.svg + figures.confusions(found)[0].svg
    assert "&lt;script&gt;" in main.svg


def test_nothing_to_draw_draws_nothing(store: Store) -> None:
    found = of_run(store, make_run(store, done=0, arms=[Plan("majority", 0.1)]))
    assert figures.learning_curves(found, {}, []) == []

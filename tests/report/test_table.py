from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from opportune.comparison import of_run
from opportune.records import Facts
from opportune.report.table import columns, html, markdown, print_table
from opportune.rows import Comparison
from opportune.store import Store

from .synthetic import ARMS, Plan, make_run


@pytest.fixture
def comparison(store: Store) -> Comparison:
    return of_run(store, make_run(store))


def printed(comparison: Comparison, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_table(comparison, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_hundred_columns_hold_every_figure(comparison: Comparison) -> None:
    text = printed(comparison, 100)
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    assert all(word in text for word in ("score", "difference", "Holm", "training", "1,000", "p95", "memory"))
    assert comparison.recommendation_text in " ".join(text.split())


@pytest.mark.parametrize("width", [40, 60, 80])
def test_narrower_drops_columns_but_never_the_score(comparison: Comparison, width: int) -> None:
    text = printed(comparison, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for row in comparison.rows:
        assert row.score is not None
        assert f"[{row.score.low:.2f}, {row.score.high:.2f}]" in text


def test_reference_and_recommended_are_marked(comparison: Comparison) -> None:
    lines = printed(comparison, 100).splitlines()
    marked = {line.split()[1] for line in lines[2:] if line.startswith(("★", "◆"))}
    assert {name.split(",")[0] for name in marked} == {
        (comparison.reference or "").split(",")[0],
        (comparison.recommended or "").split(",")[0],
    }


def test_what_must_be_known_is_a_footnote(comparison: Comparison) -> None:
    text = " ".join(printed(comparison, 100).split())
    assert "full: the best learning rate, 1e-3, is an end of its grid" in text
    assert "k-shot:k=32: 3 shots dropped" in text
    assert "cut from the middle" not in text


def test_failed_and_unparsed_are_shown_only_where_there_are_any(store: Store, comparison: Comparison) -> None:
    assert "unparsed" not in markdown(comparison)
    troubled = replace(comparison, rows=(replace(comparison.rows[0], failed=2, unparsed=1), *comparison.rows[1:]))
    assert "failed / unparsed" in markdown(troubled)
    assert "| 2 / 1 |" in markdown(troubled)


def test_markdown_has_the_same_number_of_cells_in_every_row(comparison: Comparison) -> None:
    rows = [line for line in markdown(comparison).splitlines() if line.startswith("|")]
    assert len(rows) == len(comparison.rows) + 2
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {len(columns(comparison)) + 2}


def test_dollars_take_the_place_of_seconds_where_the_machine_has_a_price(comparison: Comparison) -> None:
    rows = tuple(replace(row, asking_per_1000=row.asking_per_1000.priced(2.0)) for row in comparison.rows)
    assert "$0.01" in markdown(replace(comparison, rows=rows))


def test_a_recipe_means_nothing_to_rich_or_html(store: Store) -> None:
    hostile = "[bold]k-shot[/bold]:pick=<script>alert(1)</script>"
    found = of_run(store, make_run(store, arms=[Plan(hostile, 0.9, 0, 0.01), ARMS[0]]))
    assert "<script" not in html(found)
    assert "&lt;script&gt;" in html(found)
    assert "[bold]" in printed(found, 200)


def test_an_unfinished_run_has_a_table(store: Store) -> None:
    found = of_run(store, make_run(store, done=2))
    text = printed(found, 100)
    assert "zero-shot: not finished: 5 test examples so far" in text
    assert "pending" in text


def test_what_dev_chose_and_how_far_samples_agree_is_a_footnote(comparison: Comparison) -> None:
    facts = Facts(
        chosen="k-shot:k=16,pick=balanced",
        searched={"k-shot:k=2,pick=balanced": 0.25, "k-shot:k=16,pick=balanced": 0.5},
        agreement=0.625,
        notes=("3 of 4 demonstrations written by the model",),
    )
    first = comparison.rows[0]
    row = replace(first, seeds=(replace(first.seeds[0], facts=facts), *first.seeds[1:]))
    found = markdown(replace(comparison, rows=(row, *comparison.rows[1:])))
    assert "dev chose k=16 of k=2 (0.25), k=16 (0.50)" in found
    assert "62% of the samples agree" in found
    assert "3 of 4 demonstrations" in found


def test_what_training_moved_and_what_reviews_did_is_a_footnote(comparison: Comparison) -> None:
    facts = Facts(
        trainable_parameters=4_900_000,
        artefact_bytes=19 << 20,
        revised={"changed": 0.4, "mended": 0.1, "spoilt": 0.05},
    )
    first = comparison.rows[0]
    row = replace(first, seeds=(replace(first.seeds[0], facts=facts), *first.seeds[1:]))
    found = markdown(replace(comparison, rows=(row, *comparison.rows[1:])))
    assert "4.9M parameters trained, artefact of 19.0 MiB" in found
    assert "40% of its final answers differ from its drafts, 10% wrong ones put right and 5% right ones spoilt" in found

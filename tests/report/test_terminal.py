"""What is printed on a terminal is the text itself: recipes hold brackets, which mean something to rich."""

from __future__ import annotations

import pytest

from opportune.cli.live import Live
from opportune.comparison import of_run
from opportune.ledger import Entry
from opportune.report.ledger_text import print_ledger
from opportune.report.volume_text import print_volume
from opportune.store import Store

from .synthetic import Plan, make_run

TRAINED, ASKED = "lora:targets=[q_proj,v_proj]", 'zero-shot@"/data/[/x]"'


def test_recipes_stand_whole_in_the_costs_at_a_volume(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    arms = [Plan(ASKED, 0.5, 0, 0.03), Plan(TRAINED, 0.6, 0, 0.02, 90.0)]
    print_volume(of_run(store, make_run(store, arms=arms)), 1000)
    out = capsys.readouterr().out
    assert out.count(ASKED) >= 2  # in the table and in a sentence
    assert out.count(TRAINED) >= 2


def test_recipes_stand_whole_in_the_ledger(capsys: pytest.CaptureFixture[str]) -> None:
    print_ledger([Entry("r", recipe, "asking", "seconds", 1.0, 2.0) for recipe in (ASKED, TRAINED)])
    out = capsys.readouterr().out
    assert ASKED in out
    assert TRAINED in out


def test_recipes_stand_whole_beside_the_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Live("{task.fields[arm]}", after=("{task.fields[left]}",), arm="", left="") as live:
        assert live.is_terminal
        live.show(arm=ASKED, left=TRAINED, completed=1, total=2)
    err = capsys.readouterr().err
    assert ASKED in err
    assert TRAINED in err

"""The pages on methods say what the code does."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from opportune import methods
from opportune.methods.peft_method import _REFUSED, _kinds
from opportune.options import load
from tests.methods.table import NEEDED

PAGES = Path(__file__).parents[2] / "docs" / "methods"


@pytest.mark.parametrize("name", methods.TABLE)
def test_a_page_for_each_method_names_its_options_and_the_table_its_rates(name: str) -> None:
    kind = load(methods.TABLE[name])
    made = kind(**NEEDED.get(name, {}))
    page, table = (PAGES / f"{name}.md").read_text(), (PAGES / "README.md").read_text()
    for item in fields(kind):
        assert item.name == "rest" or f"`{item.name.rstrip('_')}`" in page
    row = next(line for line in table.splitlines() if line.startswith(f"| [`{name}`]"))
    rates, epochs = [cell.strip() for cell in row.strip("|").split("|")][-2:]
    assert [float(rate) for rate in rates.split(",")] == list(made.grid)
    assert int(epochs) == made.epochs


def test_the_page_on_peft_lists_what_it_has() -> None:
    page = (PAGES / "peft.md").read_text()
    assert all(re.search(rf"\b{kind}\b", page) for kind in _kinds())
    assert all(f"`{kind}`" in page for kind in _REFUSED)

"""The table of prices, shipped and the user's own."""

from __future__ import annotations

import json

import pytest

from opportune.errors import ModelError
from opportune.models.prices import _shipped, price_of, read_prices

OPENAI = "https://api.openai.com/v1"


def test_shipped_prices_are_of_their_own_server_and_say_where_they_come_from():
    assert price_of(OPENAI, "gpt-4o-mini").dollars(1e6, 2e6) == pytest.approx(0.15 + 1.2)
    assert price_of(OPENAI, "gpt-4o-2024-08-06").input == 2.5  # a dated snapshot
    assert price_of(OPENAI, "gpt-4o-2024-05-13").input == 5  # unless it has a price of its own
    assert price_of("http://localhost:8000/v1", "gpt-4o-mini") is None
    assert price_of(OPENAI, "gpt-4o-mini-realtime") is None
    for row in _shipped():
        assert row.provider
        assert row.source
        assert row.date.count("-") == 2
        assert row.input <= row.output


def test_the_users_own_prices_come_first(tmp_path):
    (tmp_path / "own.json").write_text(json.dumps([{"model": "gpt-4o*", "input": 9, "output": 9}]))
    (tmp_path / "own.csv").write_text("model,server,input,output\nllama*,localhost,0.1,0.2\n*,,1,2\n")
    assert price_of(OPENAI, "gpt-4o", read_prices(tmp_path / "own.json")).input == 9
    rows = read_prices(tmp_path / "own.csv")
    assert price_of("http://localhost:1/v1", "llama-3", rows).output == 0.2
    assert price_of("http://elsewhere:1/v1", "llama-3", rows).output == 2


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "[{]", "neither JSON nor"),
        ("a.json", '{"model": 1}', "a list of objects"),
        ("a.json", '[{"model": "x", "input": 1}]', "row 1: output is missing"),
        ("a.json", '[{"model": "x", "input": -1, "output": 1}]', "0 or more"),
        ("a.csv", "model,input,output,colour\nx,1,2,red\n", "unknown 'colour'"),
        ("a.csv", "model,input,output\nx,cheap,2\n", "input='cheap'"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(ModelError, match=said):
        read_prices(tmp_path / name)
    with pytest.raises(ModelError, match="No such file"):
        read_prices(tmp_path / "nowhere.json")

"""The command line as its user meets it: standard output, standard error, exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer
from safetensors.torch import load_file

from opportune.cli.main import app, main

ROWS = [(f"the {word} number {i}", label) for i in range(8) for word, label in (("pear", "fruit"), ("saw", "tool"))]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = ["text,kind", *(f"{text},{label}" for text, label in ROWS)]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    return "rows.csv"


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def test_json_is_one_object_alone_on_standard_output(capsys, data, model):
    code, out, err = run(capsys, "compare", data, "--model", model, "--try", "majority", "--try", "zero-shot", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["schema"] == 1
    assert [row["recipe"] for row in found["rows"]] == ["majority", "zero-shot"]
    assert found["task"]["labels"] == ["fruit", "tool"]
    assert found["models"][0]["path"] == model
    assert "zero-shot" in err


def test_the_table_the_recommendation_and_the_page(capsys, data, model, tmp_path):
    code, out, _ = run(capsys, "compare", data, "--model", model, "--try", "majority", "--try", "k-shot:k=2")
    assert code == 0
    assert "majority" in out
    assert "report.html" in out
    code, shown, _ = run(capsys, "show")
    assert code == 0
    assert "k-shot:k=2" in shown
    assert run(capsys, "report")[1].strip().endswith("report.html")
    assert run(capsys, "ask", "latest", "k-shot:k=2", "the pear")[1].strip() in ("fruit", "tool")
    assert run(capsys, "show", "--all")[1].count("finished") == 1
    outcomes = json.loads(run(capsys, "show", "--json")[1])["outcomes"]
    assert {outcome["recipe"] for outcome in outcomes} == {"majority", "k-shot:k=2"}


def test_list_names_everything(capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0
    for name in ("k-shot", "lora", "scripted", "macro-f1"):
        assert name in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "nowhere.csv"], "nowhere.csv: no such file"),
        (["compare", "n" * 300], "cannot be read (File name too long)"),
        (["compare", "rows.csv", "--model", "n" * 300], "File name too long"),
        (["compare", "rows.csv", "--target", "sort"], "sort"),
        (["compare", "rows.csv", "--try", "k-shots"], "unknown name 'k-shots'"),
        (["compare", "rows.csv", "--try", "k-shot:k=0"], "out of range"),
        (["compare", "rows.csv", "--try", "k-shot:k=900"], "needs 900 training examples"),
        (["compare", "rows.csv", "--metric", "goodness"], "goodness"),
        (["compare", "rows.csv", "--model", "nowhere/at/all/m.gguf"], "no model at"),
        (["compare", "rows.csv", "--device", "abacus", "--try", "zero-shot"], "abacus"),
        (["compare", "rows.csv", "--tolerance", "300"], "tolerance"),
        (["compare", "rows.csv", "--tolerance", "nan"], "tolerance"),
        (["compare", "rows.csv", "--volume", "inf"], "volume"),
        (["compare", "rows.csv", "--volume", "nan"], "volume"),
        (["compare", "rows.csv", "--machine-price", "inf"], "machine price"),
        (["compare", "rows.csv", "--machine-price", "nan"], "machine price"),
        (["compare", "rows.csv", "--max-dollars", "nan"], "max dollars"),
        (["compare", "rows.csv", "--seeds", "0"], "seeds"),
        (["compare", "rows.csv", "--limit", "some"], "some"),
        (["compare", "rows.csv", "--choices", ""], "at least two choices are expected, none empty, not ['']"),
        (["compare", "rows.csv", "--budget", ""], "--budget '' is not a time"),
        (["compare", "rows.csv", "--colour", "red"], "--colour"),
        (["compare", "rows.csv", "--instruction", "caf\udce9"], "no UTF-8 text"),
        (["lens", "caf\udce9", "--recipe", "zero-shot"], "no UTF-8 text"),
        (["show"], "no runs in"),
        (["ask", "latest", "zero-shot", "x"], "no runs in"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, data, model, arguments, said):
    if arguments[0] == "compare" and "--model" not in arguments:
        arguments = [*arguments, "--model", model]
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("opportune: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "Traceback" not in err


PAGES = {
    **dict.fromkeys(("compare", "show", "report", "list", "ask"), "compare.md"),
    **{name: f"{name}.md" for name in ("lens", "curve", "export")},
    "cache": "endpoints.md",
    "pretrain": "pretraining.md",
    "plan": "planner.md",
}


def options_of(command):
    own = {option for one in command.params for option in one.opts if option.startswith("--")}
    return own.union(*(options_of(each) for each in getattr(command, "commands", {}).values()))


@pytest.mark.parametrize("name", PAGES)
def test_every_option_is_named_on_the_page_of_its_command(name):
    text = (Path(__file__).parent.parent / "docs" / PAGES[name]).read_text()
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    assert options_of(typer.main.get_command(app).commands[name]) - named == set()


def test_what_was_trained_is_measured_and_told(capsys, data, model, tmp_path):
    lora = "lora:rank=1,epochs=1,rate=1e-3"
    code, out, err = run(capsys, "compare", data, "--model", model, "--try", "zero-shot", "--try", lora, "--json")
    assert code == 0, err
    asked, trained = json.loads(out)["rows"]
    assert (asked["trainable_parameters"], asked["artefact_bytes"]) == (None, None)
    saved = list((tmp_path / "opportune-runs" / "artefacts").glob("*/0/adapter_model.safetensors"))
    assert len(saved) == 1
    weights = load_file(saved[0])
    assert trained["trainable_parameters"] == sum(weight.numel() for weight in weights.values())
    assert trained["artefact_bytes"] == sum(file.stat().st_size for file in saved[0].parent.iterdir())
    assert "parameters trained, artefact of" in " ".join(run(capsys, "show")[1].split())


def test_a_tasks_name_means_nothing_to_the_terminal(capsys, data, tmp_path):
    (tmp_path / "[red]rows.csv").write_text((tmp_path / data).read_text())
    code, _, err = run(capsys, "compare", "[red]rows.csv", "--try", "majority")
    assert code == 0
    assert "[red]rows: " in err

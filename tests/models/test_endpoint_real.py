"""Against a real server: llama.cpp's, on the default model's own GGUF."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from opportune.cli.main import main
from opportune.models.endpoint import Endpoint
from opportune.types import Message, Prompt

pytestmark = pytest.mark.slow

_SERVE = """
import sys, time, xllamacpp
from pathlib import Path
from opportune.models.smollm2 import download
parameters = xllamacpp.CommonParams()
parameters.model.path = str(download(Path(sys.argv[1])))
parameters.n_ctx, parameters.n_parallel = 4 * 1024, 4
parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 2
parameters.hostnames, parameters.port = ["127.0.0.1"], 0
server = xllamacpp.Server(parameters)
print("listening", server.listening_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The server in a process of its own, so that its threads end with it."""
    command = [sys.executable, "-c", _SERVE, str(tmp_path_factory.mktemp("gguf"))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        address = next(line.split()[1] for line in process.stdout if line.startswith("listening"))
        yield f"{address}/v1"
        process.kill()


def prompt(text, **options):
    return Prompt((Message("user", text),), **options)


def ask(model, *prompts):
    answers = dict(model.complete(prompts, {}))
    assert [answers[i].error for i in range(len(prompts))] == [None] * len(prompts)
    return [answers[i] for i in range(len(prompts))]


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_it_writes_over_both_apis(url, api):
    model = Endpoint("smollm2", url, api=api)
    model.greet(choices=False)
    first, second = ask(model, prompt("Write a story.", max_tokens=12), prompt("The colour of grass is", max_tokens=12))
    assert first.texts != second.texts
    assert 1 <= first.usage.tokens_out <= 12
    assert first.usage.tokens_in >= 4


def test_samples_differ(url):
    (answer,) = ask(Endpoint("smollm2", url), prompt("Tell me of a town.", samples=3, temperature=1.0, max_tokens=16))
    assert len(answer.texts) == 3
    assert len(set(answer.texts)) > 1


def test_it_goes_on_from_a_beginning(url):
    model = Endpoint("smollm2", url)
    begun = Prompt((Message("user", "Count."), Message("assistant", "1, 2, 3, 4, 5, 6, 7,")), max_tokens=8)
    (answer,) = ask(model, begun)
    assert answer.texts[0].startswith(" 8, 9")
    assert model._caller.dialect.goes_on == {}  # by itself


def test_it_chooses_by_the_way_that_the_probe_finds(url):
    model = Endpoint("smollm2", url)
    model.greet(choices=True)
    print(model.describe())
    assert model.choosing in ("echo", "first-token", "constrained")
    questions = [
        prompt(f"Is the word {word!r} a fruit or a tool?", choices=("fruit", "tool")) for word in ("pear", "saw")
    ]
    for answer in ask(model, *questions):
        if answer.scores is not None:
            assert len(answer.scores) == 2
            assert max(answer.scores) <= 0
        else:
            assert answer.texts[0] in ("fruit", "tool")


def test_a_prompt_too_long_for_its_context_is_shortened(url):
    text = "word " * 3000
    (answer,) = ask(Endpoint("smollm2", url), Prompt((Message("user", text, cut=(0, len(text))),), max_tokens=8))
    assert answer.tokens_cut > 1000


def test_a_small_comparison(url, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [f"the {word} {i},{label}" for i in range(8) for word, label in (("pear", "fruit"), ("saw", "tool"))]
    (tmp_path / "rows.csv").write_text("\n".join(["text,kind", *rows]) + "\n")
    recipes = ["--try", "zero-shot", "--try", "k-shot:k=4", "--try", "chain-of-thought:k=0,max_tokens=24"]
    began = time.monotonic()
    with pytest.raises(SystemExit) as stop:
        main(["compare", "rows.csv", "--model", "openai:smollm2", "--base-url", url, *recipes, "--json"])
    out, err = capsys.readouterr()
    assert stop.value.code == 0, err
    found = json.loads(out)
    assert [row["status"] for row in found["rows"]] == ["done"] * 3
    assert all(row["failed"] == 0 for row in found["rows"])
    assert time.monotonic() - began < 300

"""From text to a model folder: what comes out is used like any other, whatever interrupts it."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from opportune.api import compare
from opportune.cli.main import main
from opportune.corpus.division import divided
from opportune.errors import UsageError
from opportune.pretraining.course import pretrain
from opportune.pretraining.measuring import bits
from opportune.pretraining.network import new_network
from opportune.pretraining.order import Order
from opportune.pretraining.sizing import size_for
from tests.corpus.texts import documents, write
from tests.pretraining.quiet import Quiet
from tests.toy import toy_task

CONTEXT = 128


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write(tmp_path_factory.mktemp("text") / "corpus.txt", documents(300, seed=1))


def order_of(corpus, out, **options):
    known = {"parameters": 100_000, "context": CONTEXT, "tokens": 20_000, "dtype": "float32"}
    return Order(corpus=corpus, out=out, **(known | options))


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "model"
    torch.set_num_threads(1)
    return out, pretrain(order_of(corpus, out), Quiet())


def test_it_learns_and_says_what_it_cost(made):
    _, report = made
    assert report.curve[-1].loss < report.curve[0].loss < math.log(report.vocabulary) + 0.5
    assert report.tokens == pytest.approx(20_000, rel=0.02)  # the last block of a pass is short
    assert report.steps == len(range(report.steps))
    assert report.measured.seconds > 0
    assert report.predicted.seconds > 0
    assert report.predicted.flops == pytest.approx(report.measured.flops, rel=0.1)


def test_the_folder_is_a_model_for_transformers_alone_with_the_loss_reported(made, corpus):
    out, report = made
    network = AutoModelForCausalLM.from_pretrained(out).eval()
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert sum(weight.numel() for weight in network.parameters()) == report.parameters
    held = list(divided(corpus).held_out())
    nats = 0.0
    end = tokenizer.eos_token_id
    tokens = []
    for text in held:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
        tokens.append([*tokenizer(text)["input_ids"], end])
    blocks, stream = [], [(token, place == 0) for ids in tokens for place, token in enumerate(ids)]
    for first in range(0, len(stream), CONTEXT):  # as they were cut for training
        block, begun = stream[first : first + CONTEXT], None
        for place, (token, begins) in enumerate(block):
            if begins or begun is None:
                begun = [end if begins else stream[first + place - 1][0]]
                blocks.append(begun)
            begun.append(token)
    for ids in blocks:
        with torch.no_grad():
            scores = network(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        nats -= float(scores.gather(1, torch.tensor(ids[1:])[:, None]).sum())
    assert nats / len(stream) == pytest.approx(report.loss, rel=1e-4)
    assert len(stream) == report.validation_tokens
    characters = sum(map(len, held))
    assert report.bits_per_character == pytest.approx(nats / math.log(2) / characters, rel=1e-4)
    assert report.bits_per_byte < report.bits_per_character  # naïve is longer in bytes


def test_the_folder_is_a_model_for_everything_else(made, tmp_path):
    compared = compare(
        toy_task(), recipes=["zero-shot", "lora:rank=2,rate=1e-3,epochs=1"], models=[str(made[0])], runs=tmp_path
    )
    assert [row.status for row in compared.rows] == ["done", "done"], [row.reason for row in compared.rows]


def test_what_is_done_is_not_done_again_and_nothing_is_left_over(made, corpus):
    out, report = made
    began = time.perf_counter()
    assert pretrain(order_of(corpus, out), Quiet()) == report
    assert time.perf_counter() - began < 1
    assert not (out / "training").exists()


def test_another_order_or_corpus_does_not_touch_it(made, corpus, tmp_path):
    out, _ = made
    with pytest.raises(UsageError, match="holds the model of another order"):
        pretrain(order_of(corpus, out, seed=1), Quiet())
    with pytest.raises(UsageError, match="another order or corpus"):
        pretrain(order_of(write(tmp_path / "other.txt", documents(40)), out), Quiet())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"not empty \(it holds thesis\.txt\)"):
        pretrain(order_of(corpus, tmp_path / "full"), Quiet())


def command(corpus, out):
    options = ["--parameters", "100k", "--context", str(CONTEXT), "--tokens", "20k", "--dtype", "float32", "--json"]
    return [sys.executable, "-m", "opportune", "pretrain", "--corpus", corpus, "--out", str(out), *options]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))])
def test_killed_anywhere_the_same_command_ends_bit_for_bit_the_same(seed, made, corpus, tmp_path):
    out, report = made
    moments = random.Random(seed)
    for patience in range(40):
        process = subprocess.Popen(command(corpus, tmp_path / "model"), stdout=subprocess.PIPE, env=_one_thread())
        try:
            told, _ = process.communicate(timeout=moments.uniform(3, 5) + patience)
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    assert process.returncode == 0
    found = json.loads(told)
    assert found["loss"] == report.loss
    mine, theirs = load_file(tmp_path / "model" / "model.safetensors"), load_file(out / "model.safetensors")
    assert all(torch.equal(theirs[name], weight) for name, weight in mine.items())


def _one_thread():
    import os

    return os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class StopError(Exception):
    """Stands for a crash between two steps."""


def test_it_goes_on_within_a_training(made, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("opportune.pretraining.course._CHECKPOINT_SECONDS", 0.0)
    begun = []

    class Crashing(Quiet):
        def step(self, step, loss, seconds):
            begun.append(step)
            if len(begun) in (20, 45):
                raise StopError

    order = order_of(corpus, tmp_path / "model")
    for _ in range(2):
        with pytest.raises(StopError):
            pretrain(order, Crashing())
    resumed = pretrain(order, Crashing())
    assert begun[19:21] == [20, 20]
    assert replace(resumed, out="", measured=made[1].measured, predicted=made[1].predicted, curve=()) == replace(
        made[1], out="", curve=()
    )


def test_what_is_saved_in_bfloat16_is_what_was_trained(tmp_path):
    fresh = new_network(size_for(100_000, 512), 512, 0, 0, torch.bfloat16, "cpu")
    fresh.set_attn_implementation("sdpa")
    fresh.save_pretrained(tmp_path)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    angles = [each.model.rotary_emb.inv_freq for each in (saved, fresh)]
    assert angles[0].dtype == angles[1].dtype == torch.float32
    assert torch.equal(*angles)
    assert all(weight.dtype == torch.bfloat16 for weight in fresh.parameters())


def test_bits_per_character_and_byte():
    assert bits(math.log(2) * 10, ["naïve"]) == (2.0, 10 / 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 5, "epochs": 1.0}, "say the same thing"),
        ({"tokens": None, "epochs": 0.0}, "epochs 0 is out of range"),
        ({"context": 4}, "context 4 is out of range"),
        ({"rate": 2.0}, "rate 2 is out of range"),
        ({"parameters": 5}, "parameters 5 is out of range"),
    ],
)
def test_options_out_of_range(options, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        order_of("x.txt", tmp_path, **options)


def test_bad_input_is_one_line_and_exit_code_two(tmp_path):
    done = subprocess.run(
        command(str(tmp_path / "absent"), tmp_path / "out"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no such file or folder" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_number_format_that_is_not_there_is_said_before_anything_is_written(corpus, tmp_path):
    with pytest.raises(UsageError, match="float64"):
        pretrain(order_of(corpus, tmp_path / "out", dtype="float64"), Quiet())
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_is_one_line(corpus, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stopped:
        main(["pretrain", "--corpus", str(corpus), "--parameters", "100k", "--out", str(tmp_path / "file" / "x")])
    assert stopped.value.code == 2
    assert str(tmp_path / "file" / "x") in capsys.readouterr().err

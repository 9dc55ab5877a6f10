"""GGUF files become plain folders: the same numbers, the right tokenizer, whole or not at all."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys

import gguf as library
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from opportune.errors import ModelError
from opportune.models import gguf
from tests.models import tiny


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OPPORTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def silent(_stage, _done, _total):
    return None


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_plain_weights_come_through_exactly(tmp_path):
    folder = gguf.converted(tiny.save_gguf(tmp_path / "tiny.gguf"), silent)
    expected = tiny.network().state_dict()
    received = weights(folder)
    assert received.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(received[name], value), name


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1"])
def test_quantised_weights_are_the_dequantised_values_exactly(tmp_path, kind):
    folder = gguf.converted(tiny.save_gguf(tmp_path / "tiny.gguf", kind), silent)
    name = "model.layers.1.mlp.down_proj.weight"
    original = tiny.network().state_dict()[name]
    blocks = library.quantize(original.numpy(), library.GGMLQuantizationType[kind])
    expected = torch.from_numpy(library.dequantize(blocks, library.GGMLQuantizationType[kind]))
    received = weights(folder)[name]
    assert received.dtype == torch.float32
    assert torch.equal(received, expected)
    assert not torch.equal(received, original)


def test_the_converted_folder_is_plain_transformers_with_template_and_context(tmp_path):
    folder = gguf.converted(tiny.save_gguf(tmp_path / "tiny.gguf", "Q8_0"), silent)
    network, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert not hasattr(network.config, "quantization_config")
    assert network.lm_head.weight is network.model.embed_tokens.weight
    assert tokenizer.chat_template == tiny.TEMPLATE
    assert tokenizer.eos_token == tiny.END
    assert tokenizer.model_max_length == 128


@pytest.mark.parametrize(
    ("splitting", "expected"),
    [("smollm", ["ĊĊ", "1", "9", "ĠĠ", "8"]), ("gpt-2", ["Ċ", "Ċ", "1", "9", "Ġ", "Ġ", "8"])],
)
def test_text_is_split_as_the_file_says(tmp_path, splitting, expected):
    folder = gguf.converted(tiny.save_gguf(tmp_path / "tiny.gguf", splitting=splitting), silent)
    assert AutoTokenizer.from_pretrained(folder).tokenize("\n\n19  8") == expected


def test_a_tokenizer_that_cannot_be_rebuilt_is_refused(tmp_path, cache):
    path = tiny.save_gguf(tmp_path / "tiny.gguf", splitting="unheard-of")
    with pytest.raises(ModelError, match="'unheard-of'.*give the Hugging Face folder") as caught:
        gguf.converted(path, silent)
    assert "\n" not in str(caught.value)
    assert not any(path.is_dir() for path in cache.iterdir())


@pytest.mark.parametrize("content", [b"PK\3\4 something else", b"", b"GGUF", b"GGUF\3\0\0\0" + bytes(40)])
def test_other_and_broken_files_are_refused_in_one_line(tmp_path, cache, content):
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="broken.gguf") as caught:
        gguf.converted(path, silent)
    assert "\n" not in str(caught.value)
    assert not any(path.is_dir() for path in cache.iterdir())


def test_a_disk_that_fills_up_is_one_clear_line(tmp_path, cache):
    path = tiny.save_gguf(tmp_path / "tiny.gguf")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(ModelError, match="cannot write .*; set OPPORTUNE_CACHE") as caught:
            gguf.converted(path, silent)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert not any(path.is_dir() for path in cache.iterdir())


def test_it_is_converted_once_and_again_when_the_file_changes(tmp_path):
    stages = []
    path = tiny.save_gguf(tmp_path / "tiny.gguf")
    first = gguf.converted(path, lambda *stage: stages.append(stage))
    seen = len(stages)
    assert stages[0][1:] == (0, 20)
    assert stages[-1][1:] == (20, 20)
    assert gguf.converted(path, lambda *stage: stages.append(stage)) == first
    assert len(stages) == seen
    assert gguf.converted(tiny.save_gguf(path, "Q8_0"), silent) != first


def test_a_conversion_killed_halfway_leaves_no_model_and_the_next_one_is_whole(tmp_path, cache):
    path = tiny.save_gguf(tmp_path / "tiny.gguf")
    code = (
        "import os, signal, pathlib\n"
        "from opportune.models import gguf\n"
        "def die(stage, done, total):\n"
        "    if done == 10: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"gguf.converted(pathlib.Path({str(path)!r}), die)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    left = [entry.name for entry in cache.iterdir() if entry.is_dir()]
    assert left
    assert all(name.endswith(".partial") for name in left)
    folder = gguf.converted(path, silent)
    assert torch.equal(weights(folder)["model.norm.weight"], tiny.network().state_dict()["model.norm.weight"])
    assert [entry for entry in cache.iterdir() if entry.is_dir()] == [folder]


def test_transformers_is_left_as_it_was(tmp_path):
    from transformers import modeling_gguf_pytorch_utils as reading

    before = library.GGUFReader, library.get_tensor_name_map, reading.tqdm
    gguf.converted(tiny.save_gguf(tmp_path / "tiny.gguf"), silent)
    assert (library.GGUFReader, library.get_tensor_name_map, reading.tqdm) == before

"""Digests tell models apart and nothing else."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from opportune.models.digest import file_digest, model_digest


def values(count, shift=0):
    return (np.arange(count, dtype=np.float32) + shift).reshape(-1, 8)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "model"
    made.mkdir()
    save_file({"small": values(64), "large": values(200_000)}, made / "model.safetensors")
    (made / "config.json").write_text(json.dumps({"model_type": "llama", "transformers_version": "5.0"}))
    (made / "tokenizer.json").write_text("{}")
    (made / "chat_template.jinja").write_text("{{ messages }}")
    (made / "README.md").write_text("read me")
    return made


def test_the_digest_is_the_same_on_every_machine(folder):
    assert model_digest(folder) == "b6a4ce79e052e6ee"


def test_copies_and_dates_and_remarks_do_not_matter(folder, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    os.utime(copy / "model.safetensors", (0, 0))
    (copy / "README.md").write_text("something else")
    (copy / "config.json").write_text('{ "transformers_version": "6.1",\n "model_type": "llama" }')
    assert model_digest(copy) == model_digest(folder)


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "chat_template.jinja", "config.json", "modeling_own.py", "vocab.json"]
)
def test_every_text_that_changes_answers_counts(folder, name):
    before = model_digest(folder)
    (folder / name).write_text('{"model_type": "gpt2"}')
    assert model_digest(folder) != before


@pytest.mark.parametrize("changed", ["small", "large"])
def test_a_trained_tensor_counts_wherever_it_is(folder, changed):
    before = model_digest(folder)
    tensors = {"small": values(64), "large": values(200_000)}
    save_file(tensors | {changed: tensors[changed] * 1.001}, folder / "model.safetensors")
    assert model_digest(folder) != before


def test_names_shapes_and_shards_count(folder):
    before = model_digest(folder)
    save_file({"small": values(64), "other": values(200_000)}, folder / "model.safetensors")
    renamed = model_digest(folder)
    save_file({"small": values(64).T.copy(), "other": values(200_000)}, folder / "model.safetensors")
    reshaped = model_digest(folder)
    save_file({"more": values(8)}, folder / "model-2.safetensors")
    assert len({before, renamed, reshaped, model_digest(folder)}) == 4


@settings(max_examples=50)
@given(content=st.binary(min_size=1, max_size=20_000), data=st.data())
def test_any_changed_byte_of_a_file_that_is_not_huge_counts(tmp_path_factory, content, data):
    path = tmp_path_factory.mktemp("file") / "file"
    path.write_bytes(content)
    before = file_digest(path)
    at = data.draw(st.integers(0, len(content) - 1))
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    assert file_digest(path) != before


def test_a_huge_file_is_only_sampled_but_its_size_and_ends_count(tmp_path):
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(20 << 30)  # sparse: takes no room
    digests = {file_digest(path)}
    with path.open("r+b") as file:
        file.write(b"x")
    digests.add(file_digest(path))
    with path.open("r+b") as file:
        file.seek((20 << 30) - 1)
        file.write(b"x")
    digests.add(file_digest(path))
    os.truncate(path, (20 << 30) - 1)
    digests.add(file_digest(path))
    assert len(digests) == 4

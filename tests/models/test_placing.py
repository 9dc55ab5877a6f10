"""Where a model runs and in which numbers."""

from __future__ import annotations

import pytest
import torch

from opportune.errors import ModelError
from opportune.models import placing


@pytest.mark.parametrize(
    ("abilities", "expected"),
    [
        ({"avx2": True}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"avx512_bf16": False, "amx_bf16": False, "avx512_f": True}, "float32"),
        ({}, "float32"),
    ],
)
def test_bfloat16_only_on_processors_that_multiply_it(monkeypatch, abilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    assert placing.choose_dtype(None, "cpu") == placing.choose_dtype("auto", "cpu") == expected


@pytest.mark.parametrize(("supported", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_bfloat16_only_on_gpus_that_multiply_it(monkeypatch, supported, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported or including_emulation)
    assert placing.choose_dtype(None, "cuda:0") == expected


def test_float32_on_mps():
    assert placing.choose_dtype(None, "mps") == "float32"


@pytest.mark.parametrize("dtype", placing.DTYPES)
def test_what_is_asked_for_is_what_is_used(dtype):
    assert placing.choose_dtype(dtype, "cpu") == dtype


def test_an_unknown_dtype_names_the_known_ones():
    with pytest.raises(ModelError, match="dtype 'int8' is unknown; allowed: float32, bfloat16, float16, auto"):
        placing.choose_dtype("int8", "cpu")


@pytest.mark.parametrize(
    ("here", "asked", "expected"),
    [
        (["cuda:0", "cuda:1", "cpu"], None, "cuda:0"),
        (["cuda:0", "cuda:1", "cpu"], "cuda", "cuda:0"),
        (["cuda:0", "cuda:1", "cpu"], "cuda:1", "cuda:1"),
        (["cuda:0", "cpu"], "cpu", "cpu"),
        (["mps", "cpu"], "auto", "mps"),
        (["cpu"], None, "cpu"),
    ],
)
def test_the_best_device_unless_told(monkeypatch, here, asked, expected):
    monkeypatch.setattr(placing, "devices", lambda: here)
    assert placing.choose_device(asked) == expected


@pytest.mark.parametrize("asked", ["cuda", "cuda:1", "mps", "tpu", "nonsense"])
def test_a_device_that_is_not_here_names_those_that_are(monkeypatch, asked):
    monkeypatch.setattr(placing, "devices", lambda: ["cpu"])
    with pytest.raises(ModelError, match=f"device '{asked}' is not available; this machine has cpu"):
        placing.choose_device(asked)


def test_the_processor_is_always_there():
    assert placing.devices()[-1] == "cpu"

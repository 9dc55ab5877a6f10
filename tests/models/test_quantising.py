"""Weights in four bits: what is missing is said in one line; on a GPU an adapter trains on them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from opportune.errors import ModelError, RecipeError
from opportune.inference.attention import use_own_attention
from opportune.methods.common import merged
from opportune.methods.full import Full
from opportune.methods.lora import Lora
from opportune.models import quantising
from opportune.models.loading import load_model
from opportune.models.pool import ModelPool
from opportune.spec import parse
from opportune.training.loop import Settings, train
from opportune.training.loss import lesson_loss
from opportune.training.packing import TokenLesson
from tests.models.tiny import save_folder


def test_what_is_missing_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_folder(tmp_path)
    ref = parse(f'lora+zero-shot@"{folder}"[quantise=nf4,device=cpu]').model
    assert ref is not None
    with pytest.raises(ModelError, match="quantise=nf4 needs an NVIDIA GPU; the model was to run on cpu"):
        ModelPool().base(ref)
    with pytest.raises(ModelError, match="quantise=int3 is unknown; allowed: nf4"):
        load_model(str(folder), quantise="int3")
    monkeypatch.setattr(quantising, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="needs the bitsandbytes package, which is not installed"):
        quantising.check_quantisation("nf4", "cuda:0")


def test_packed_weights_neither_move_nor_merge(tmp_path: Path) -> None:
    """By the mark that transformers leaves on a quantised network, since the tests have none."""
    network = load_model(str(save_folder(tmp_path)), device="cpu", dtype="float32").network
    tuned = Lora(rank=2).attach(network, 0)
    network.config.quantization_config = {"load_in_4bit": True}
    with pytest.raises(RecipeError, match="an adapter cannot become part of a quantised model"):
        merged(tuned)
    for method, line in ((Full(), "the weights of a quantised model cannot move"), (Lora(variant="pissa"), "pissa")):
        plain = load_model(str(tmp_path), device="cpu", dtype="float32").network
        plain.config.quantization_config = {"load_in_4bit": True}
        with pytest.raises(RecipeError, match=line):
            method.attach(plain, 0)


@pytest.mark.gpu
def test_an_adapter_trains_on_packed_weights_and_comes_back(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    folder = save_folder(tmp_path / "model")
    whole, packed = load_model(str(folder)), load_model(str(folder), quantise="nf4")
    assert packed.info.parameters == whole.info.parameters
    assert packed.info.digest != whole.info.digest
    use_own_attention(packed.network)
    draw = torch.Generator().manual_seed(0)
    lessons = [TokenLesson(tuple(torch.randint(3, 200, (12,), generator=draw).tolist()), 9) for _ in range(8)]
    tuned = Lora(rank=4).attach(packed.network, 0)
    done = train(tuned, lessons, Settings(rate=1e-2, epochs=3, batch=4), tmp_path / "work")
    assert done.steps[-1].loss < done.steps[0].loss
    (tmp_path / "made").mkdir()
    Lora(rank=4).save(tuned, tmp_path / "made")
    again = load_model(str(folder), quantise="nf4").network
    use_own_attention(again)
    loaded = Lora(rank=4).load(again, tmp_path / "made")
    assert lesson_loss(loaded, lessons) == pytest.approx(lesson_loss(tuned, lessons), rel=1e-3)

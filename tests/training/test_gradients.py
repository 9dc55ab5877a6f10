"""The packed step computes what peft and transformers compute one lesson at a time."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model

from opportune.errors import RecipeError
from opportune.methods.full import Full
from opportune.methods.lora import Lora
from opportune.training.loss import lesson_loss, summed_loss
from opportune.training.packing import TokenLesson, packs
from tests.training.tiny import VOCABULARY, gradients, lessons, llama, plain_loss


def step(network: Any, made: list[TokenLesson], budget: int) -> float:
    """Accumulates the gradient of the mean loss over packs, as the loop does."""
    targets = sum(lesson.targets for lesson in made)
    total = 0.0
    for pack in packs(made, budget):
        loss = summed_loss(network, pack) / targets
        loss.backward()
        total += float(loss.detach())
    return total


def peft_alone() -> Any:
    torch.manual_seed(3)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear")
    return get_peft_model(llama(own=False), config)


def spread(network: Any) -> Any:
    """Random adapter weights, since B = 0 would hide the gradient of A."""
    torch.manual_seed(4)
    for weight in network.parameters():
        if weight.requires_grad:
            weight.data.normal_(0, 0.1)
    return network


@pytest.mark.parametrize("budget", [0, 20, 1000])
def test_lora_step_equals_peft_and_transformers(budget: int) -> None:
    made = lessons(12)
    ours, theirs = spread(Lora(rank=4).attach(llama(), 3)), spread(peft_alone())
    reference = plain_loss(theirs, made)
    reference.backward()
    assert step(ours, made, budget) == pytest.approx(float(reference.detach()), rel=1e-5)
    torch.testing.assert_close(gradients(ours), gradients(theirs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("budget", [0, 20, 1000])
def test_full_step_equals_transformers(budget: int) -> None:
    made = lessons(12)
    ours, theirs = Full().attach(llama(), 0), llama(own=False)
    reference = plain_loss(theirs, made)
    reference.backward()
    assert step(ours, made, budget) == pytest.approx(float(reference.detach()), rel=1e-5)
    torch.testing.assert_close(gradients(ours), gradients(theirs), atol=1e-5, rtol=1e-5)


def test_many_target_rows_go_through_the_head_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opportune.training.loss.CHUNK", 3)
    test_full_step_equals_transformers(1000)


ids = st.lists(st.integers(3, 6), min_size=2, max_size=9).map(tuple)


@settings(max_examples=40, deadline=None)
@given(st.lists(ids, min_size=1, max_size=7), st.integers(0, 30), st.randoms(use_true_random=False))
def test_any_packing_gives_the_plain_loss(sequences: list[tuple[int, ...]], budget: int, draw: Any) -> None:
    made = [TokenLesson(sequence, draw.randint(1, len(sequence) - 1)) for sequence in sequences]
    found = sum(float(summed_loss(NETWORK, pack)) for pack in packs(made, budget))
    assert found / sum(lesson.targets for lesson in made) == pytest.approx(float(plain_loss(PLAIN, made)), rel=1e-4)


NETWORK, PLAIN = llama().requires_grad_(False), llama(own=False).requires_grad_(False)


def test_what_lessons_begin_with_is_computed_once() -> None:
    made = lessons(12, common=40)
    (pack,) = packs(made, 1000)
    assert len(pack.ids) <= 40 + sum(len(lesson.ids) - 1 - 40 for lesson in made)


def test_a_network_with_attention_of_its_own_trains_the_plain_way() -> None:
    config = transformers.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4)
    network, made = transformers.BloomForCausalLM(config).eval(), lessons(5)
    assert lesson_loss(network, made) == pytest.approx(float(plain_loss(network, made).detach()), rel=1e-5)


def test_saved_adapter_loads_by_peft_alone_with_the_same_logits(tmp_path: Path) -> None:
    method = Lora(rank=4)
    tuned = spread(method.attach(llama(), 0))
    method.save(tuned, tmp_path)
    assert (tmp_path / "adapter_model.safetensors").exists()
    theirs = PeftModel.from_pretrained(llama(own=False), tmp_path)
    loaded = method.load(llama(), tmp_path)
    made = lessons(4)
    expected = float(plain_loss(theirs, made).detach())
    assert lesson_loss(tuned, made) == pytest.approx(expected, rel=1e-5)
    assert lesson_loss(loaded, made) == pytest.approx(expected, rel=1e-5)
    assert lesson_loss(llama(), made) != pytest.approx(expected, rel=1e-2)


def test_saved_full_weights_load_by_transformers_alone(tmp_path: Path) -> None:
    method = Full()
    tuned = spread(method.attach(llama(), 0))
    method.save(tuned, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    loaded = method.load(llama(), tmp_path)
    made = lessons(4)
    expected = float(plain_loss(theirs, made).detach())
    assert lesson_loss(tuned, made) == lesson_loss(loaded, made) == pytest.approx(expected, rel=1e-5)


def test_adapter_disabled_is_the_base_and_dropout_only_trains() -> None:
    made, base = lessons(4), lesson_loss(llama(), lessons(4))
    tuned = spread(Lora(rank=4, dropout=0.5).attach(llama(), 0))
    with tuned.disable_adapter():
        assert lesson_loss(tuned, made) == pytest.approx(base, rel=1e-6)
    training = lesson_loss(tuned, made)
    assert lesson_loss(tuned, made) != training
    asked = copy.deepcopy(tuned).eval()
    assert lesson_loss(asked, made) == lesson_loss(asked, made)


@pytest.mark.parametrize("chain", [(Lora(rank=2), Full()), (Full(), Lora(rank=2)), (Lora(rank=2), Lora(rank=3))])
def test_a_chain_of_methods_loads_as_it_was_trained(chain: tuple[Any, Any], tmp_path: Path) -> None:
    made, network, loaded = lessons(4), llama(), llama()
    for place, method in enumerate(chain):
        network = spread(method.attach(network, 0))
        (tmp_path / str(place)).mkdir()
        method.save(network, tmp_path / str(place))
    for place, method in enumerate(chain):
        loaded = method.load(loaded, tmp_path / str(place))
    assert lesson_loss(loaded, made) == pytest.approx(lesson_loss(network, made), rel=1e-6)


def test_attach_depends_on_the_seed_alone() -> None:
    first, again, other = (Lora(rank=2).attach(llama(), seed) for seed in (1, 1, 2))
    name = next(name for name, weight in first.named_parameters() if "lora_A" in name)
    weights = [dict(network.named_parameters())[name] for network in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"rank": 0}, "rank=0"),
        ({"alpha": 0.0}, "alpha=0"),
        ({"dropout": 1.0}, "dropout=1"),
        ({"rate": -1.0}, "rate=-1"),
        ({"epochs": 0}, "epochs=0"),
        ({"batch": 0}, "batch=0"),
        ({"targets": ()}, "targets"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], named: str) -> None:
    with pytest.raises(RecipeError, match=f"lora:{named}"):
        Lora(**options)


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(RecipeError, match="no_such_module"):
        Lora(targets=("no_such_module",)).attach(llama(), 0)

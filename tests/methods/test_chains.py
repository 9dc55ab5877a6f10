"""Chains of methods, left to right: trained and loaded they compute the same, or they are refused with one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from opportune.errors import ModelError, RecipeError
from opportune.methods.adapter import Adapter
from opportune.methods.bias import Bias
from opportune.methods.common import merged
from opportune.methods.continual import Continual
from opportune.methods.full import Full
from opportune.methods.ia3 import IA3
from opportune.methods.lora import Lora
from opportune.methods.norm import Norm
from opportune.methods.p_tuning import PTuning
from opportune.methods.peft_method import Peft
from opportune.methods.prefix_tuning import PrefixTuning
from opportune.methods.prompt_tuning import PromptTuning
from opportune.training.loop import Settings, train
from opportune.training.loss import lesson_loss
from tests.methods.table import CONFIGS, HINTS, network, shifted, spread
from tests.training.tiny import lessons, plain_loss

LORA = Lora(rank=4)
CHAINS = [
    (LORA, PromptTuning(tokens=4)),
    (Full(), LORA),
    (LORA, Full()),
    (Lora(rank=4, variant="pissa"), Lora(rank=4, variant="dora")),
    (IA3(), Norm(), Full(last=1)),
    (Bias(), LORA),
    (Bias(), Full()),
    (Bias(), Bias()),
    (Norm(), Bias(), PrefixTuning(tokens=4)),
    (PromptTuning(tokens=4), LORA),
    (PromptTuning(tokens=4), Full()),
    (PromptTuning(tokens=4, with_="lora", rank=2), Full()),
    (PromptTuning(tokens=4, with_="full"), IA3()),
    (PTuning(tokens=4, width=8), LORA),
    (PTuning(tokens=4, width=8), Full()),
    (PrefixTuning(tokens=4), Full()),
    (PrefixTuning(tokens=4, init="random", reparametrise=True), LORA, Adapter(size=4)),
    (Peft("VERA", rest=(("r", 4),)), LORA),
]


def name(chain: Any) -> str:
    return "+".join(type(method).__name__ for method in chain)


@pytest.mark.parametrize("chain", CHAINS, ids=name)
def test_a_chain_loads_as_it_was_trained(chain: Any, tmp_path: Path) -> None:
    made, virtual = network(), 0
    for place, method in enumerate(chain):
        made = method.attach(made, place, HINTS)
        virtual = getattr(made, "virtual_tokens", 0)
        taught = shifted(lessons(8), virtual)
        before = lesson_loss(made, taught)
        train(made, taught, Settings(rate=1e-2, epochs=1, batch=4), tmp_path / f"work-{place}")
        assert lesson_loss(made, taught) != before
        (tmp_path / str(place)).mkdir()
        method.save(made, tmp_path / str(place))
    loaded = network()
    for place, method in enumerate(chain):
        loaded = method.load(loaded, tmp_path / str(place))
    assert lesson_loss(loaded, taught) == pytest.approx(lesson_loss(made, taught), rel=1e-5)
    assert not any(weight.requires_grad for weight in loaded.parameters()) or isinstance(chain[-1], Full)


@pytest.mark.parametrize(
    "method",
    [LORA, Lora(rank=4, variant="dora"), Lora(rank=4, variant="pissa"), IA3(), Norm(), Bias(), Full()],
    ids=str,
)
def test_what_merges_is_a_plain_model_of_the_same_kind(method: Any, tmp_path: Path) -> None:
    made = spread(method.attach(network(), 0))
    loss = lesson_loss(made, lessons(4))
    plain = merged(made)
    plain.save_pretrained(tmp_path)
    alone, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert float(plain_loss(alone.eval(), lessons(4)).detach()) == pytest.approx(loss, rel=1e-5)


def test_an_encoder_is_gone_after_merging_and_its_vectors_stay() -> None:
    made = spread(PTuning(tokens=4, width=8).attach(network(), 0, HINTS))
    taught = shifted(lessons(4), 4)
    before = lesson_loss(made, taught)
    assert not [name for name, _ in merged(made).named_parameters() if "encoder" in name]
    assert lesson_loss(made, taught) == pytest.approx(before, rel=1e-6)


def test_what_a_soft_prompt_learned_does_not_move_in_the_next_method() -> None:
    made = PromptTuning(tokens=4).attach(network(), 0, HINTS)
    moved = {name for name, weight in Full().attach(made, 0).named_parameters() if weight.requires_grad}
    assert moved == {name.replace("embed_tokens", "embed_tokens.base") for name, _ in network().named_parameters()}


@pytest.mark.parametrize(
    ("chain", "kind", "line"),
    [
        ((Adapter(size=4), LORA), "llama", "adapter: its layers cannot become part of the weights, so it comes last"),
        ((Bias(), LORA), "qwen3", "bias: Qwen3ForCausalLM has no setting for the biases that were added"),
        ((PromptTuning(tokens=2), PTuning(tokens=2)), "llama", "virtual tokens already"),
        ((PrefixTuning(tokens=2), Continual("c")), "llama", "continual: raw text does not begin with a soft prompt"),
        ((PTuning(tokens=2), LORA, Continual("c")), "llama", "continual: raw text does not begin with a soft prompt"),
        ((Peft("BEFT"), LORA), "llama", "peft:kind=BEFT cannot become part of the weights"),
    ],
)
def test_a_chain_that_cannot_be_is_refused_even_without_weights(chain: Any, kind: str, line: str) -> None:
    def attach(base: Any) -> Any:
        for method in chain:
            base = method.attach(base, 0, HINTS)

    with pytest.raises((RecipeError, ModelError), match=line):
        attach(network(kind))
    with torch.device("meta"):
        bare = transformers.AutoModelForCausalLM.from_config(CONFIGS[kind]())
        with pytest.raises((RecipeError, ModelError), match=line):
            attach(bare)

"""What a method cannot do is said in one line, before anything is trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from opportune.api import compare
from opportune.errors import RecipeError
from opportune.methods.adapter import Adapter
from opportune.methods.bias import Bias
from opportune.methods.full import Full
from opportune.methods.ia3 import IA3
from opportune.methods.lora import Lora
from opportune.methods.norm import Norm
from opportune.methods.peft_method import _REFUSED, Peft, _kinds
from opportune.methods.prompt_tuning import PromptTuning
from opportune.methods.virtual import key_values_of
from opportune.options import build, resolved
from opportune.peaks import without_storage
from opportune.spec import parse
from opportune.training.loss import lesson_loss
from tests.methods.table import CONFIGS, SMALL, network, spread
from tests.toy import toy_task
from tests.training.tiny import VOCABULARY, lessons, plain_loss


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Lora(rank=0), "lora:rank=0 is out of range: 1 to 65536"),
        (lambda: Full(last=0), "full:last=0 is out of range"),
        (lambda: Adapter(size=0), "adapter:size=0 is out of range"),
        (lambda: Norm(budget=0), "norm:budget=0 is out of range"),
        (lambda: Bias(rate=11.0), "bias:rate=11.0 is out of range"),
        (lambda: IA3(targets=("k_proj",), inner=("down_proj",)), "ia3:inner names down_proj, which targets does not"),
        (lambda: Peft("NONE"), "peft:kind=NONE is not one of ADALORA"),
        (lambda: Peft("PREFIX_TUNING"), "peft:kind=PREFIX_TUNING cannot be used: it puts tokens before the prompt"),
        (lambda: Peft("LORA"), "peft:kind=LORA cannot be used: it is lora here"),
        (lambda: Peft("VERA", rest=(("rank", 4),)), "peft:kind=VERA: unknown option 'rank'; it has .* r, "),
        (lambda: Peft("VERA", rest=(("r", "four"),)), "peft:kind=VERA: r=four should be one of int"),
        (lambda: Peft("VERA", rest=(("r", True),)), "r=True should be one of int"),
    ],
)
def test_an_option_out_of_range(make: Any, line: str) -> None:
    with pytest.raises(RecipeError, match=line) as found:
        make()
    assert "\n" not in str(found.value)


def _olmo() -> Any:
    return transformers.OlmoForCausalLM(transformers.OlmoConfig(**SMALL))  # its norms have no weights


def _opt() -> Any:
    config = transformers.OPTConfig(
        vocab_size=VOCABULARY, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
        word_embed_proj_dim=32, max_position_embeddings=64,
    )  # fmt: skip
    return transformers.OPTForCausalLM(config)


def _mamba() -> Any:
    return transformers.MambaForCausalLM(
        transformers.MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4)
    )


@pytest.mark.parametrize(
    ("method", "base", "line"),
    [
        (Lora(targets=("query",)), network, "lora:targets=.*query.*not found"),
        (Lora(rank=40, variant="pissa"), network, "lora:variant=pissa,rank=40 is out of range: .*_proj has only"),
        (IA3(targets=("query",)), network, r"ia3:targets=\[query\]: .*not found"),
        (IA3(), _mamba, "ia3: which modules make keys and values in mamba is not known"),
        (Full(last=3), network, "full:last=3 is out of range: the model has 2 layers"),
        (Norm(), _olmo, "norm: OlmoForCausalLM has no normalisation with weights to train"),
        (Adapter(), _opt, "adapter: the layers of OPTForCausalLM have no mlp or feed_forward or ffn"),
        (Peft("LOHA"), lambda: network("gpt2"), "peft:kind=LOHA: Target module of type .*Conv1D.* not supported"),
        (Peft("FOURIERFT"), network, "peft:kind=FOURIERFT: `n_frequency` should be"),
        (Peft("BOFT", rest=(("boft_block_size", 0), ("boft_block_num", 0))), network, "peft:kind=BOFT: "),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_an_architecture_that_lacks_what_it_moves(method: Any, base: Any, line: str) -> None:
    with pytest.raises(RecipeError, match=line) as found:
        method.attach(base(), 0)
    assert "\n" not in str(found.value)


def test_layers_that_cannot_be_told_apart() -> None:
    base = network()
    base.model.layers = torch.nn.Sequential(*base.model.layers)
    for method in (Full(last=1), Bias(), Adapter()):
        with pytest.raises(RecipeError, match="LlamaForCausalLM has no list of layers to pick from"):
            method.attach(base, 0)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_last_layers_and_the_norm_after_them_move(kind: str) -> None:
    made = Full(last=1).attach(network(kind), 0)
    moved = {name for name, weight in made.named_parameters() if weight.requires_grad}
    layers = "transformer.h" if kind == "gpt2" else "model.layers"
    last = {name for name, _ in made.named_parameters() if name.startswith(f"{layers}.1.")}
    norm = {"transformer.ln_f.weight", "transformer.ln_f.bias"} if kind == "gpt2" else {"model.norm.weight"}
    assert moved == last | norm


def test_the_scale_of_each_variant() -> None:
    def scale(method: Lora) -> float:
        made = method.attach(network(), 0)
        return next(module.scaling["default"] for module in made.modules() if hasattr(module, "lora_A"))

    assert [scale(Lora(rank=rank)) for rank in (4, 16)] == [2.0, 2.0]
    assert [scale(Lora(rank=rank, variant="rslora")) for rank in (4, 16)] == [4.0, 2.0]
    assert scale(Lora(rank=4, variant="pissa")) == 1.0
    assert scale(Lora(rank=4, alpha=4.0)) == 1.0


def test_a_soft_prompt_is_tried_at_the_rates_of_what_moves_along() -> None:
    assert PromptTuning(with_="full").grid == Full.grid
    assert PromptTuning(with_="lora").grid == Lora.grid
    assert min(PromptTuning().grid) > max(Full.grid)


def test_options_of_peft_are_part_of_the_recipe() -> None:
    part = parse("peft:kind=OFT,oft_block_size=8,r=0,target_modules=[q_proj]").parts[0]
    made = build(part, "opportune.methods.peft_method:Peft")
    assert made.rest == (("oft_block_size", 8), ("r", 0), ("target_modules", ("q_proj",)))
    assert build(resolved(part, made), "opportune.methods.peft_method:Peft") == made


# Options that fit a network of 32 wide layers.
NARROW: dict[str, tuple[tuple[str, Any], ...]] = {
    "C3A": (("block_size", 8),),
    "FOURIERFT": (("n_frequency", 8),),
    "MISS": (("r", 4),),
    "SHIRA": (("r", 2),),
    "PSOFT": (("r", 4),),
    "ROAD": (("group_size", 8),),
    "VBLORA": (("vector_length", 4), ("num_vectors", 8)),
    "WAVEFT": (("n_frequency", 8),),
    "TRAINABLE_TOKENS": (("token_indices", (4, 5, 6)),),
}


@pytest.mark.parametrize("kind", sorted(set(_kinds()) - set(_REFUSED)))
def test_every_kind_of_peft_that_is_not_refused_computes_what_it_does_in_peft_alone(kind: str, tmp_path: Any) -> None:
    from peft import PeftModel

    method = Peft(kind, rest=NARROW.get(kind, ()))
    made = spread(method.attach(network(), 0)).eval()  # PVERA draws while it trains
    method.save(made, tmp_path)
    alone = PeftModel.from_pretrained(network(own=False), tmp_path, autocast_adapter_dtype=False).eval()
    found = lesson_loss(made, lessons(6))
    assert found == pytest.approx(float(plain_loss(alone, lessons(6)).detach()), rel=1e-4)
    assert found != pytest.approx(lesson_loss(network(), lessons(6)), rel=1e-4)
    assert lesson_loss(method.load(network(), tmp_path), lessons(6)) == pytest.approx(found, rel=1e-5)


def test_every_kind_of_peft_that_is_not_refused_runs(model: str, tmp_path: Any) -> None:
    def recipe(kind: str) -> str:
        given = {"rate": 1e-3, "epochs": 1} | dict(NARROW.get(kind, ()))
        return f"peft:kind={kind},{','.join(f'{name}={written(value)}' for name, value in given.items())}"

    def written(value: Any) -> str:
        return f"[{','.join(map(str, value))}]" if isinstance(value, tuple) else str(value)

    kinds = sorted(set(_kinds()) - set(_REFUSED))
    done = compare(toy_task(), recipes=[recipe(kind) for kind in kinds], models=[model], dtype="float32", runs=tmp_path)
    assert [(row.recipe, row.reason) for row in done.rows if row.status != "done"] == []


def test_without_weights_a_rank_is_as_much_out_of_range() -> None:
    with pytest.raises(RecipeError, match="lora:variant=pissa,rank=40 is out of range: .*_proj has only"):
        next(without_storage(network(), [Lora(rank=40, variant="pissa")]))


def test_a_prefix_longer_than_a_window_is_refused() -> None:
    config = transformers.Gemma3TextConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, sliding_window=7, layer_types=["sliding_attention", "full_attention"],
    )  # fmt: skip
    with pytest.raises(RecipeError, match="prefix-tuning:tokens=9 is more than a layer of this model looks back on"):
        key_values_of(transformers.Gemma3ForCausalLM(config).eval(), range(9))


def test_a_rank_is_for_a_lora() -> None:
    with pytest.raises(RecipeError, match="prompt-tuning:rank=4 is LoRA's: it needs with=lora"):
        PromptTuning(rank=4)

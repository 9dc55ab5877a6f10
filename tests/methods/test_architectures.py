"""What architectures have of their own: scaled embeddings, experts, narrow values, shared matrices, own attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel

from opportune.errors import RecipeError, UnpredictableError
from opportune.inference.attention import use_own_attention
from opportune.inference.flops import shape_of
from opportune.methods.adapter import Adapter
from opportune.methods.common import attached, merged
from opportune.methods.full import Full
from opportune.methods.lora import Lora
from opportune.methods.peft_method import Peft
from opportune.methods.prefix_tuning import PrefixTuning
from opportune.methods.prompt_tuning import PromptTuning
from opportune.methods.virtual import embedding_of
from opportune.models.local import Local
from opportune.products import use_own_products
from opportune.training.loop import Settings, train
from opportune.training.loss import row_losses, summed_loss
from opportune.training.memory import need_of
from opportune.training.packing import TokenLesson, packs
from opportune.types import Hints, Message, ModelInfo, Prompt
from tests.inference.tiny import SMALL, tokenizer_of
from tests.training.tiny import lessons

EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
GEMMA = {"head_dim": 8, "sliding_window": 64}
DEEPSEEK = {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "n_group": 1, "topk_group": 1,
    "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 6, "n_shared_experts": 1,
}  # fmt: skip
OPT = {
    "vocab_size": 420, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
HINTS = Hints(text=(4, 5, 6, 7), labels=(11, 12))


def made(config: Any, own: bool = True) -> Any:
    torch.manual_seed(0)
    network = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    if own:
        use_own_attention(network)
    return network.requires_grad_(False)


def losses(network: Any, folder: Any, count: int = 8) -> list[float]:
    """Of a few steps."""
    taught = lessons(count)
    return [step.loss for step in train(network, taught, Settings(rate=1e-2, epochs=2, batch=4), folder).steps]


@pytest.mark.parametrize(
    ("quiet", "loud"),
    [
        (Lora(rank=4, variant="dora"), Lora(rank=4, variant="dora", dropout=0.9)),
        (Lora(rank=4), Lora(rank=4, dropout=0.9)),
        (Peft("VERA", rest=(("vera_dropout", 0.0),)), Peft("VERA", rest=(("vera_dropout", 0.9),))),
        (Peft("LOHA"), Peft("LOHA", rest=(("module_dropout", 0.5),))),
    ],
    ids=str,
)
def test_dropout_drops_while_it_trains_and_only_in_the_adapter(quiet: Any, loud: Any, tmp_path: Any) -> None:
    config = transformers.LlamaConfig(**SMALL, attention_dropout=0.9)
    first = losses(quiet.attach(made(config), 0), tmp_path / "quiet")
    assert first == losses(quiet.attach(made(config), 0), tmp_path / "again")
    assert first != losses(loud.attach(made(config), 0), tmp_path / "loud")


@pytest.mark.parametrize("init", ["labels", "text", "vocabulary"])
def test_virtual_tokens_begin_as_the_network_reads_tokens(init: Any) -> None:
    network = made(transformers.Gemma2Config(**SMALL, **GEMMA))
    table = network.get_input_embeddings()(torch.arange(420)).clone()
    vectors = embedding_of(PromptTuning(tokens=2, init=init).attach(network, 0, HINTS)).vectors
    for vector in vectors:  # Gemma multiplies its embeddings by the square root of the width
        assert any(torch.allclose(vector, row, atol=1e-5) for row in table)


def test_random_virtual_tokens_are_as_large_as_tokens_are_read() -> None:
    network = made(transformers.Gemma2Config(**SMALL, **GEMMA))
    usual = float(network.get_input_embeddings()(torch.arange(420)).std())
    vectors = embedding_of(PromptTuning(tokens=200, init="random").attach(network, 0)).vectors
    assert float(vectors.abs().max()) == pytest.approx(usual, rel=0.1)


@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_an_adapter_on_one_use_of_a_shared_matrix_is_not_merged(target: str) -> None:
    tied = made(transformers.LlamaConfig(**SMALL, tie_word_embeddings=True))
    with pytest.raises(RecipeError, match="one matrix, and an adapter on either alone cannot become part of it"):
        merged(Lora(rank=2, targets=(target,)).attach(tied, 0))
    loose = made(transformers.LlamaConfig(**SMALL, tie_word_embeddings=False))
    assert not hasattr(merged(Lora(rank=2, targets=(target,)).attach(loose, 0)), "peft_config")


def test_prefixes_of_real_text_where_attention_is_capped() -> None:
    network = made(transformers.Gemma2Config(**SMALL, **GEMMA))
    with_prefix = PrefixTuning(tokens=4, init="text").attach(network, 0, HINTS)
    (pack,) = packs([TokenLesson((420, 421, 422, 423, 7, 8, 9), 5)], 100)
    assert bool(torch.isfinite(summed_loss(with_prefix, pack)))


def test_prefixes_are_refused_where_keys_and_values_differ() -> None:
    network = made(transformers.DeepseekV3Config(**{**SMALL, "num_key_value_heads": 4}, **DEEPSEEK))
    with pytest.raises(RecipeError, match="keys and values of this model differ in width"):
        PrefixTuning(tokens=4, init="text").attach(network, 0, HINTS)


def test_answers_are_written_where_values_are_narrower_than_keys() -> None:
    network = made(transformers.DeepseekV3Config(**{**SMALL, "num_key_value_heads": 4}, **DEEPSEEK))
    tokenizer = tokenizer_of()
    model = Local(network, tokenizer, ModelInfo("tiny", "", 1, "d", "float32", "cpu"))
    texts = ["My card has not", "My card was", "I was charged"]
    prompts = [Prompt((Message("user", text),), format="plain", max_tokens=6) for text in texts]
    written = [completion.texts[0] for _, completion in model.complete(prompts, {})]
    for text, found in zip(texts, written, strict=True):
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
        ids.pop("token_type_ids", None)
        own = made(transformers.DeepseekV3Config(**{**SMALL, "num_key_value_heads": 4}, **DEEPSEEK), own=False)
        expected = own.generate(**ids, max_new_tokens=6, do_sample=False)[0, ids["input_ids"].shape[1] :]
        assert tokenizer.decode(expected, skip_special_tokens=True).strip().startswith(found.strip()[:4])


def test_a_kind_that_needs_plain_layers_is_loaded_as_it_was_attached(tmp_path: Any) -> None:
    def base() -> Any:
        network = made(transformers.LlamaConfig(**SMALL))
        use_own_products(network)
        return network

    method = Peft("GLORA")
    method.save(method.attach(base(), 0), tmp_path)
    assert isinstance(method.load(base(), tmp_path), PeftModel)


def test_a_bottleneck_beside_experts_whose_router_speaks_too() -> None:
    config = transformers.GptOssConfig(**SMALL, **EXPERTS, head_dim=8, sliding_window=64)
    network = Adapter(size=4).attach(made(config, own=False), 0)
    (pack,) = packs([TokenLesson((5, 6, 7, 8), 2)], 100)
    summed_loss(network, pack).backward()
    assert any(weight.grad is not None for weight in network.parameters())


def test_the_last_layers_with_the_norm_behind_them_and_no_other() -> None:
    network = Full(last=1).attach(made(transformers.OPTConfig(**OPT)), 0)
    moving = {name for name, weight in network.named_parameters() if weight.requires_grad}
    assert any("final_layer_norm" in name and "layers" not in name for name in moving)
    assert not any("layers.0." in name for name in moving)
    network = Full(last=1).attach(made(transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4), own=False), 0)
    moving = {name for name, weight in network.named_parameters() if weight.requires_grad}
    assert any("ln_f" in name for name in moving)
    assert not any("embed" in name for name in moving)


def test_soft_prompts_of_a_network_whose_embeddings_are_narrower(tmp_path: Any) -> None:
    config = transformers.OPTConfig(**OPT, word_embed_proj_dim=16)
    method = PromptTuning(tokens=3, init="vocabulary")
    trained = method.attach(made(config, own=False), 0)
    method.save(trained, tmp_path)
    assert PeftModel.from_pretrained(made(config, own=False), tmp_path) is not None


def test_experts_are_counted_as_they_are_asked() -> None:
    network = made(transformers.MixtralConfig(**SMALL, **EXPERTS))
    experts = sum(weight.numel() for name, weight in network.named_parameters() if "experts" in name)
    rest = shape_of(made(transformers.MixtralConfig(**SMALL, num_local_experts=4, num_experts_per_tok=1)))
    assert shape_of(network).frozen - rest.frozen == experts // 4


def test_the_head_of_a_network_with_its_own_attention_runs_on_the_rows_that_are_read() -> None:
    network = made(transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=420), own=False)
    lesson = TokenLesson(tuple(range(5, 45)), 38)
    (pack,) = packs([lesson], 0)
    seen: list[int] = []
    network.get_output_embeddings().register_forward_hook(lambda module, given, logits: seen.append(logits.shape[1]))
    logits = network(input_ids=pack.ids[None]).logits[0, pack.rows]
    expected = torch.nn.functional.cross_entropy(logits, pack.labels, reduction="none")
    assert torch.allclose(row_losses(network, pack), expected, atol=1e-5)
    assert seen == [39, 2]
    assert need_of(network, [lesson], 1).logits == 2 * 420 * 12


class Odd:
    """A method that fails as no one foresaw."""

    def attach(self, network: Any, seed: int, hints: Any = None) -> Any:
        raise StopIteration


def test_what_no_one_foresaw_is_the_arms_failure_and_not_the_runs() -> None:
    network = made(transformers.LlamaConfig(**SMALL))
    odd: Any = Odd()
    with pytest.raises(RecipeError, match="Odd cannot be put on LlamaForCausalLM: StopIteration"):
        attached(odd, network, 0)
    with torch.device("meta"):
        blank = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**SMALL))
    with pytest.raises(UnpredictableError, match="StopIteration"):
        attached(odd, blank, 0)

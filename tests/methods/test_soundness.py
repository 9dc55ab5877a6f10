"""For every method of the table: its step is that of transformers and peft alone, what is frozen stays, what is saved
comes back, and the token tree asks it rightly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import IA3Config, LNTuningConfig, LoHaConfig, LoraConfig, PeftModel, VeraConfig, get_peft_model
from safetensors.torch import load_file

from opportune import methods
from opportune.methods.adapter import Adapter
from opportune.methods.bias import Bias
from opportune.methods.continual import Continual
from opportune.methods.full import Full
from opportune.methods.lora import Lora
from opportune.methods.peft_method import Peft
from opportune.models.local import Local
from opportune.options import load
from opportune.training.loop import Settings, train
from opportune.training.loss import lesson_loss, summed_loss
from opportune.training.packing import TokenLesson, packs
from opportune.types import Message, Method, ModelInfo, Prompt
from tests.inference.tiny import tokenizer_of
from tests.methods.table import ADAPTERS, CONFIGS, HINTS, NEEDED, SOFT, WHOLE, moving, network, shifted, spread
from tests.training.tiny import lessons, plain_loss

KINDS = ["llama", "qwen3", "gpt2"]
ALL = [*ADAPTERS, *WHOLE, *SOFT]
IN_PEFT = [each for each in ADAPTERS if not isinstance(each, Adapter | Bias)]
# peft's LoHa does not know GPT-2's Conv1D, and says so.
PAIRS = [
    (method, kind)
    for method in ALL
    for kind in KINDS
    if (type(method), kind) != (Peft, "gpt2") or method.kind == "VERA"
]
INFO = ModelInfo("tiny", "", 1, "d", "float32", "cpu")


def alone(method: Any, kind: str) -> Any:
    """The method by peft and transformers alone, or by a few lines here where they do not have it."""
    base = network(kind, own=False)
    torch.manual_seed(3)
    match method:
        case Lora():
            options = {"rslora": {"use_rslora": True}, "dora": {"use_dora": True}}.get(method.variant, {})
            alpha = {"rslora": 8.0, "pissa": 4.0}.get(method.variant, 8.0)
            begin = "pissa_niter_16" if method.variant == "pissa" else True
            named = {"r": 4, "lora_alpha": alpha, "target_modules": "all-linear", "init_lora_weights": begin}
            return get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **named, **options)).eval()
        case Peft("VERA"):
            return get_peft_model(base, VeraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")).eval()
        case Peft("LOHA"):
            return get_peft_model(base, LoHaConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")).eval()
        case Full(last=None):
            return base.requires_grad_(True)
        case Full(last=1):
            base.requires_grad_(False)
            decoder = base.get_decoder()
            layers, norm = (decoder.h, decoder.ln_f) if kind == "gpt2" else (decoder.layers, decoder.norm)
            layers[-1].requires_grad_(True)
            norm.requires_grad_(True)
            return base
        case Bias():
            return _with_biases(base)
        case Adapter():
            return _with_bottlenecks(base, method.size)
    name = {"IA3": _ia3, "Norm": _norm}[type(method).__name__](kind)
    return get_peft_model(base, name).eval()


def _ia3(kind: str) -> Any:
    inner = ["mlp.c_proj"] if kind == "gpt2" else ["down_proj"]
    outer = ["c_attn"] if kind == "gpt2" else ["k_proj", "v_proj"]
    return IA3Config(task_type="CAUSAL_LM", target_modules=[*outer, *inner], feedforward_modules=inner)


def _norm(kind: str) -> Any:
    names = {"gpt2": ["ln_1", "ln_2", "ln_f"]}.get(kind, ["input_layernorm", "post_attention_layernorm", "norm"])
    names += ["q_norm", "k_norm"] if kind == "qwen3" else []
    return LNTuningConfig(task_type="CAUSAL_LM", target_modules=names)


def _with_biases(base: Any) -> Any:
    for name, module in base.named_modules():
        if isinstance(module, torch.nn.Linear) and module.bias is None and name != "lm_head":
            module.bias = torch.nn.Parameter(torch.zeros(module.out_features))
    for name, weight in base.named_parameters():
        weight.requires_grad_(name.endswith("bias"))
    return base


def _with_bottlenecks(base: Any, size: int) -> Any:
    base.requires_grad_(False)
    decoder = base.get_decoder()
    for layer in decoder.h if hasattr(decoder, "h") else decoder.layers:
        down, up = torch.nn.Linear(32, size), torch.nn.Linear(size, 32)
        torch.nn.init.normal_(up.weight, std=1e-3)
        torch.nn.init.zeros_(up.bias)
        layer.mlp.bottleneck = torch.nn.Sequential(down, torch.nn.ReLU(), up)

        def forward(hidden: Any, own: Any = layer.mlp.forward, beside: Any = layer.mlp.bottleneck) -> Any:
            return own(hidden) + beside(own(hidden))

        layer.mlp.forward = forward
    return base


def step(made: Any, taught: list[TokenLesson], budget: int) -> float:
    """Accumulates the gradient of the mean loss over packs, as the loop does."""
    targets, total = sum(lesson.targets for lesson in taught), 0.0
    for pack in packs(taught, budget):
        loss = summed_loss(made, pack) / targets
        loss.backward()
        total += float(loss.detach())
    return total


def gradients(made: Any) -> dict[str, Any]:
    return {name: weight.grad for name, weight in made.named_parameters() if weight.grad is not None}


def losses(made: Any, taught: list[TokenLesson]) -> Any:
    with torch.no_grad():
        return torch.stack([summed_loss(made, pack) for lesson in taught for pack in packs([lesson], 0)])


def logits(made: Any, taught: list[TokenLesson]) -> Any:
    """The logits of every lesson, by the network's own forward pass."""
    with torch.no_grad():
        return torch.cat([made(input_ids=torch.tensor([lesson.ids])).logits[0] for lesson in taught])


def tokens(method: Any) -> int:
    return getattr(method, "tokens", 0)


@pytest.mark.parametrize("name", methods.TABLE)
def test_every_method_keeps_the_protocol(name: str) -> None:
    kind = load(methods.TABLE[name])
    method = kind(**NEEDED.get(name, {}))
    assert isinstance(method, Method)
    assert len(method.grid) == 4
    assert sorted(method.grid) == list(method.grid)
    assert type(method) in {Continual, *map(type, ALL)}  # the tests below know it, or test_continual.py


@pytest.mark.parametrize(("method", "kind"), [pair for pair in PAIRS if pair[0] not in SOFT], ids=str)
def test_a_step_equals_that_of_peft_and_transformers(method: Any, kind: str) -> None:
    made = lessons(10)
    ours, theirs = spread(method.attach(network(kind), 3)), spread(alone(method, kind))
    assert moving(ours).keys() == moving(theirs).keys()
    reference = plain_loss(theirs, made)
    reference.backward()
    assert step(ours, made, 1000) == pytest.approx(float(reference.detach()), rel=1e-5)
    torch.testing.assert_close(gradients(ours), gradients(theirs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("method", "kind"), PAIRS, ids=str)
def test_what_is_frozen_stays_and_what_is_saved_comes_back(method: Any, kind: str, tmp_path: Path) -> None:
    taught = shifted(lessons(8), tokens(method))
    made = method.attach(network(kind), 3, HINTS)
    frozen = {name: weight.detach().clone() for name, weight in made.named_parameters() if not weight.requires_grad}
    begun = {name: weight.detach().clone() for name, weight in moving(made).items()}
    train(made, taught, Settings(rate=1e-2, epochs=2, batch=4), tmp_path / "work")
    after = dict(made.named_parameters())
    assert begun
    assert all(torch.equal(after[name], weight) for name, weight in frozen.items())
    assert any(not torch.equal(after[name], weight) for name, weight in begun.items())
    (tmp_path / "made").mkdir()
    before = losses(made, taught)
    method.save(made, tmp_path / "made")
    assert torch.equal(losses(made, taught), before)  # saving changes nothing
    again = method.load(network(kind), tmp_path / "made")
    torch.testing.assert_close(losses(again, taught), before, atol=1e-4, rtol=1e-5)
    assert not [path for path in (tmp_path / "made").rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]


@pytest.mark.parametrize(("method", "kind"), [pair for pair in PAIRS if pair[0] in IN_PEFT], ids=str)
def test_peft_alone_loads_what_is_saved(method: Any, kind: str, tmp_path: Path) -> None:
    """PiSSA included: against the base as it was before it was rewritten."""
    made = spread(method.attach(network(kind), 3))
    method.save(made, tmp_path)
    loaded = PeftModel.from_pretrained(network(kind, own=False), tmp_path).eval()
    made.set_attn_implementation("sdpa")
    torch.testing.assert_close(logits(loaded, lessons(4)), logits(made, lessons(4)), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits(loaded, lessons(4)), logits(network(kind, own=False), lessons(4)), atol=1e-2)


@pytest.mark.parametrize("method", WHOLE, ids=str)
def test_transformers_alone_loads_what_is_saved(method: Any, tmp_path: Path) -> None:
    made = spread(method.attach(network(), 3))
    method.save(made, tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert lesson_loss(made, lessons(4)) == pytest.approx(float(plain_loss(loaded, lessons(4)).detach()), rel=1e-5)


def test_saved_biases_fit_the_architecture_with_its_own_flags(tmp_path: Path) -> None:
    made = spread(Bias().attach(network(), 3))
    Bias().save(made, tmp_path)
    base = network(own=False)
    base.config.attention_bias = base.config.mlp_bias = True
    loaded = transformers.LlamaForCausalLM(base.config).eval()
    loaded.load_state_dict(base.state_dict() | load_file(tmp_path / "biases.safetensors"))
    made.set_attn_implementation("sdpa")
    torch.testing.assert_close(logits(loaded, lessons(4)), logits(made, lessons(4)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ALL, ids=str)
def test_attach_depends_on_the_seed_alone(method: Any) -> None:
    torch.manual_seed(1)
    first = method.attach(network(), 7, HINTS)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again = method.attach(network(), 7, HINTS)
    assert torch.equal(state, torch.random.get_rng_state())  # and leaves others' randomness alone
    torch.testing.assert_close(dict(again.named_parameters()), dict(first.named_parameters()), atol=0, rtol=0)


@pytest.mark.parametrize(("method", "kind"), [pair for pair in PAIRS if pair[1] != "qwen3"], ids=str)
def test_the_token_tree_asks_as_one_prompt_at_a_time(method: Any, kind: str) -> None:
    tokenizer = tokenizer_of()
    base = transformers.AutoModelForCausalLM.from_config(_wide(kind)).eval()
    base = Local(base, tokenizer, INFO).network  # switched to the engine's attention
    made = spread(method.attach(base, 3, HINTS), 0.1)
    model = Local(made, tokenizer, INFO)
    texts = ["My card has not arrived", "I was charged twice for the same thing", "My card was charged"]
    prompts = [Prompt((Message("user", text),), choices=("yes", "no", "maybe so"), format="plain") for text in texts]
    together = dict(model.complete(prompts, {}))
    for place, prompt in enumerate(prompts):
        item = model.items([prompt])[0]
        for number, branch in enumerate(item.branches):
            ids = (*item.trunk, *branch)
            lesson = TokenLesson(ids, len(item.trunk))
            assert together[place].scores[number] == pytest.approx(-float(losses(made, [lesson])[0]), abs=1e-4)


def _wide(kind: str) -> Any:
    config = CONFIGS[kind]()
    config.vocab_size = 420
    return config


@pytest.mark.parametrize("method", ALL, ids=str)
def test_it_trains_in_bfloat16_and_comes_back(method: Any, tmp_path: Path) -> None:
    taught = shifted(lessons(8), tokens(method))
    made = method.attach(network().to(torch.bfloat16), 3, HINTS)
    assert {weight.dtype for weight in moving(made).values()} == {torch.bfloat16}
    begun = lesson_loss(made, taught)
    assert begun == pytest.approx(lesson_loss(method.attach(network(), 3, HINTS), taught), rel=0.02)
    done = train(made, taught, Settings(rate=1e-2, epochs=2, batch=4), tmp_path / "work")
    assert done.steps[-1].loss < done.steps[0].loss
    (tmp_path / "made").mkdir()
    method.save(made, tmp_path / "made")
    again = method.load(network().to(torch.bfloat16), tmp_path / "made")
    near = 0.02 if getattr(method, "variant", "") == "pissa" else 1e-5  # its rewritten base was rounded
    assert lesson_loss(again, taught) == pytest.approx(lesson_loss(made, taught), rel=near)

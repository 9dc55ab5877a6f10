"""Soft prompts: the packed step and the answers are those of peft, one lesson at a time; artefacts load in peft."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy

from opportune.errors import ModelError, RecipeError
from opportune.inference.attention import use_own_attention
from opportune.methods.p_tuning import PTuning
from opportune.methods.prefix_tuning import PrefixTuning
from opportune.methods.prompt_tuning import PromptTuning
from opportune.methods.virtual import embedding_of
from opportune.models.local import Local
from opportune.training.loop import Settings, train
from opportune.training.loss import summed_loss
from opportune.training.packing import TokenLesson, packs
from opportune.types import Hints, Message, ModelInfo, Prompt
from tests.inference.tiny import plain_network_of, tokenizer_of
from tests.methods.table import SOFT
from tests.training.tiny import VOCABULARY, gradients, lessons, llama, moving

HINTS = Hints(text=(4, 5, 6, 7), labels=(11, 12))
INFO = ModelInfo("tiny", "", 1, "d", "float32", "cpu")


def shifted(made: list[TokenLesson], tokens: int) -> list[TokenLesson]:
    virtual = tuple(range(VOCABULARY, VOCABULARY + tokens))
    return [TokenLesson((*virtual, *lesson.ids), lesson.start + tokens) for lesson in made]


def spread(network: Any) -> Any:
    """Moving weights away from where they began, where much is zero."""
    torch.manual_seed(4)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn_like(weight))
    return network


def plain_loss(network: Any, made: list[TokenLesson]) -> Any:
    """The summed loss, one lesson at a time, by peft and transformers alone."""
    total = torch.zeros(())
    for lesson in made:
        targets = torch.tensor(lesson.ids[lesson.start :])
        logits = network(input_ids=torch.tensor([lesson.ids])).logits[0]
        rows = logits[-1 - len(targets) : -1].float()
        total = total + cross_entropy(rows, targets, reduction="sum")
    return total


@pytest.mark.parametrize("method", SOFT, ids=str)
@pytest.mark.parametrize("budget", [0, 20, 1000])
def test_the_packed_loss_is_that_of_the_saved_artefact_in_peft_alone(method: Any, budget: int, tmp_path: Any) -> None:
    made = lessons(6)
    network = spread(method.attach(llama(), 3, HINTS))
    with torch.no_grad():
        packed = sum(float(summed_loss(network, pack)) for pack in packs(shifted(made, method.tokens), budget))
    method.save(network, tmp_path)
    base = llama(own=False)
    if getattr(method, "with_", "none") == "lora":
        base = PeftModel.from_pretrained(base, tmp_path / "model").merge_and_unload()
    elif getattr(method, "with_", "none") == "full":
        base = type(base).from_pretrained(tmp_path / "model")
    alone = PeftModel.from_pretrained(base, tmp_path).eval()
    with torch.no_grad():
        assert packed == pytest.approx(float(plain_loss(alone, made)), rel=1e-4)


@pytest.mark.parametrize("method", [PromptTuning(tokens=5), PrefixTuning(tokens=4)], ids=str)
def test_the_gradient_of_what_is_learned_is_pefts(method: Any, tmp_path: Any) -> None:
    made = lessons(6)
    network = spread(method.attach(llama(), 3, HINTS))
    sum(summed_loss(network, pack) for pack in packs(shifted(made, method.tokens), 1000)).backward()
    method.save(network, tmp_path)
    alone = PeftModel.from_pretrained(llama(own=False), tmp_path).eval()
    theirs = alone.prompt_encoder["default"].embedding.weight.requires_grad_(True)
    plain_loss(alone, made).backward()
    ((_, ours),) = [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]
    gradient = ours.grad.permute(2, 0, 1, 3, 4).reshape(theirs.shape) if ours.ndim == 5 else ours.grad
    torch.testing.assert_close(gradient, theirs.grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "method",
    [
        PromptTuning(tokens=5),
        PTuning(tokens=4, width=8),
        PrefixTuning(tokens=4),
        PrefixTuning(tokens=3, init="random", reparametrise=True),
    ],
    ids=str,
)
def test_loss_and_every_trained_gradient_of_single_lessons_are_pefts_own(method: Any, tmp_path: Any) -> None:
    made = lessons(6)
    network = spread(method.attach(llama(), 3, HINTS))
    ours = sum(summed_loss(network, pack) for pack in packs(shifted(made, method.tokens), 0))
    ours.backward()
    found = gradients(network)
    assert found.keys() == moving(network).keys()
    method.save(network, tmp_path)
    alone = PeftModel.from_pretrained(llama(own=False), tmp_path).eval()
    prompt = alone.prompt_encoder["default"].embedding.weight.requires_grad_(True)
    theirs = sum(peft_loss(alone, lesson) for lesson in made)
    theirs.backward()
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    # peft keeps what the encoder makes: from there on back through the encoder by autograd alone.
    table = getattr(network, "virtual_key_values", embedding_of(network)).table()
    gradient = prompt.grad
    if table.ndim == 5:
        layers, pair, tokens, heads, size = table.shape
        gradient = gradient.view(tokens, layers, pair, heads, size).permute(1, 2, 0, 3, 4)
    network.zero_grad()
    table.backward(gradient)
    torch.testing.assert_close(found, gradients(network), atol=1e-5, rtol=1e-5)


def peft_loss(alone: Any, lesson: TokenLesson) -> Any:
    """The summed loss of one lesson as peft's own forward pass gives it, from labels."""
    ids = torch.tensor([lesson.ids])
    labels = ids.clone()
    labels[0, : lesson.start] = -100
    return alone(input_ids=ids, labels=labels).loss * lesson.targets


@pytest.mark.parametrize("method", SOFT, ids=str)
def test_gradients_are_those_of_one_lesson_at_a_time(method: Any) -> None:
    made = shifted(lessons(6), method.tokens)

    def computed(budget: int) -> dict[str, torch.Tensor]:
        network = spread(method.attach(llama(), 3, HINTS))
        sum(summed_loss(network, pack) for pack in packs(made, budget)).backward()
        return gradients(network)

    packed, alone = computed(1000), computed(0)
    assert packed
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", SOFT, ids=str)
def test_what_is_loaded_computes_what_was_trained_and_frozen_weights_stay(method: Any, tmp_path: Any) -> None:
    made = shifted(lessons(8), method.tokens)
    network = method.attach(llama(), 3, HINTS)
    frozen = {n: w.detach().clone() for n, w in network.named_parameters() if not w.requires_grad}
    train(network, made, Settings(rate=1e-2, epochs=2, batch=4), tmp_path / "work")
    assert all(torch.equal(w, frozen[n]) for n, w in network.named_parameters() if n in frozen)
    (tmp_path / "made").mkdir()
    with torch.no_grad():
        before = sum(float(summed_loss(network, pack)) for pack in packs(made, 1000))
        method.save(network, tmp_path / "made")
        assert sum(float(summed_loss(network, pack)) for pack in packs(made, 1000)) == before  # still whole
        again = method.load(llama(), tmp_path / "made")
        after = sum(float(summed_loss(again, pack)) for pack in packs(made, 1000))
    assert after == pytest.approx(before, rel=1e-5)
    assert not any(weight.requires_grad for weight in again.parameters())


@pytest.mark.parametrize("method", [PromptTuning(tokens=4, init="vocabulary"), PrefixTuning(tokens=20)], ids=str)
def test_answers_ranked_and_written_are_pefts(method: Any, tmp_path: Any) -> None:
    tokenizer = tokenizer_of()
    hints = Hints(text=tuple(range(20, 31)))
    base = plain_network_of("llama")
    use_own_attention(base)
    network = spread(method.attach(base, 0, hints))
    model = Local(network, tokenizer, INFO)
    texts = ["My card has not arrived", "I was charged twice for the same thing", "Where is it?"]
    ranked = [Prompt((Message("user", text),), choices=("yes", "no"), format="plain") for text in texts]
    written = [Prompt((Message("user", text),), format="plain", max_tokens=6, stop=("#",)) for text in texts]
    found = dict(model.complete([*ranked, *written], {}))
    method.save(network, tmp_path)
    peft = PeftModel.from_pretrained(plain_network_of("llama"), tmp_path).eval()
    for place, text in enumerate(texts):
        for number, choice in enumerate(("yes", "no")):
            context = tokenizer(text)["input_ids"]
            whole = tokenizer(f"{text} {choice}")["input_ids"]
            with torch.no_grad():
                logits = peft(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
            own = whole[len(context) :]
            score = sum(float(logits[-1 - len(own) + i, token]) for i, token in enumerate(own))
            assert found[place].scores[number] == pytest.approx(score, abs=1e-3)
        with torch.no_grad():
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            for _ in range(6):
                logits = peft(input_ids=ids).logits[0, -1]
                ids = torch.cat([ids, logits.argmax()[None, None]], 1)
        assert found[3 + place].usage.tokens_in == method.tokens + len(tokenizer(text)["input_ids"])
        said = tokenizer.decode(ids[0, len(tokenizer(text)["input_ids"]) :], skip_special_tokens=True)
        assert said.strip().startswith(found[3 + place].texts[0].strip()[:3])


def test_what_a_start_needs_and_does_not_have_is_said() -> None:
    with pytest.raises(RecipeError, match="this task has no labels; use init=vocabulary"):
        PromptTuning().attach(llama(), 0)
    with pytest.raises(RecipeError, match="no instruction; use init=random"):
        PrefixTuning().attach(llama(), 0)
    with pytest.raises(RecipeError, match="goes with init=random"):
        PrefixTuning(reparametrise=True)
    with pytest.raises(ModelError, match="cannot reach the attention of LlamaForCausalLM"):
        PrefixTuning(init="random").attach(llama(own=False), 0)
    with pytest.raises(ModelError, match="virtual tokens already"):
        PromptTuning(init="random").attach(PromptTuning(init="random").attach(llama(), 0), 0)


def test_the_labels_tokens_come_first() -> None:
    network = PromptTuning(tokens=5).attach(llama(), 0, HINTS)
    vectors, table = embedding_of(network).vectors, embedding_of(network).weight
    torch.testing.assert_close(vectors[:2], table[[11, 12]])

"""What goes wrong in a training is named: lessons cut, nothing to learn, no end token, numbers that are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from opportune.api import compare
from opportune.errors import ModelError, TrainingError
from opportune.methods.full import Full
from opportune.methods.lora import Lora
from opportune.models.loading import load_model
from opportune.report.table import markdown
from opportune.rows import Comparison, Row
from opportune.schema import to_json
from opportune.strategies import wording
from opportune.training.loop import Settings, train
from opportune.training.loss import lesson_loss
from opportune.training.packing import TokenLesson
from opportune.training.rates import train_at_best_rate
from opportune.types import Example, Lesson, Message, Prompt, Question, Task
from tests.models.tiny import network, tokenizer
from tests.toy import toy_task
from tests.training.tiny import lessons, llama

SETTINGS = Settings(rate=1e-3, epochs=2, batch=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Reads 128 tokens, one a byte."""
    folder = tmp_path_factory.mktemp("model")
    network().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def trained(task: Task, recipe: str, model: str, runs: Path) -> tuple[Comparison, Row]:
    found = compare(task, recipes=[recipe], models=[model], dtype="float32", runs=runs)
    return found, found.rows[0]


def with_train(*examples: Example) -> Task:
    task = toy_task()
    return replace(task, train=(*task.train, *examples))


def test_lessons_that_were_cut_are_counted_and_shown(model: str, tmp_path: Path) -> None:
    task = with_train(*(Example(f"long-{i}", f"a pear {i} " * 30, "fruit") for i in range(3)))
    found, row = trained(task, "full:rate=1e-4,epochs=1+zero-shot", model, tmp_path)
    assert row.status == "done"
    assert row.lessons_cut == row.seeds[0].facts.lessons_cut == 3
    assert to_json(found)["rows"][0]["lessons_cut"] == 3
    assert "3 lessons cut" in markdown(found)
    again, _ = trained(task, "full:rate=1e-4,epochs=1+zero-shot", model, tmp_path)  # from the artefact
    assert again.rows[0].lessons_cut == 3


def test_nothing_is_said_to_be_cut_where_nothing_was(model: str, tmp_path: Path) -> None:
    found, row = trained(toy_task(), "full:rate=1e-4,epochs=1+zero-shot", model, tmp_path)
    assert row.lessons_cut == 0
    assert "lessons cut" not in markdown(found)


def test_a_rate_that_diverged_in_the_search_is_named(model: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(Full, "grid", (1e-4, 1e-3, 1e5))
    found, row = trained(toy_task(), "full:epochs=8,batch=1+zero-shot", model, tmp_path)
    assert row.diverged == (1e5,)
    assert to_json(found)["rows"][0]["rates_diverged"] == [1e5]
    assert "diverged at the learning rate" in markdown(found)


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        (Example("nothing", "a void", " "), "example nothing .* has an empty target"),
        (Example("endless", "a list", "tool " * 60), "example endless .* the answer 'tool tool .* holds 128"),
    ],
)
def test_a_target_that_cannot_be_learned_fails_the_arm_by_its_example(
    example: Example, reason: str, model: str, tmp_path: Path
) -> None:
    task = with_train(replace(example, choices=None))
    _, row = trained(replace(task, kind="text", choices=None, metric="exact-match"), "full:rate=1e-4", model, tmp_path)
    assert row.status == "failed"
    assert row.score is None
    with pytest.raises(TrainingError, match=reason):
        raise TrainingError(row.reason)


def test_a_label_longer_than_the_context_is_named_when_it_is_asked(model: str) -> None:
    prompt = Prompt((Message("user", "which?"),), choices=("short", "long " * 40), format="plain")
    with pytest.raises(ModelError, match=r"the answer 'long long .* holds 128"):
        list(load_model(model, dtype="float32").complete([prompt], {}))


def bare(model: str, folder: Path, template: str | None) -> Any:
    """The model with a tokenizer that has neither end nor padding token."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    network().save_pretrained(folder)
    backend = Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
    PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template).save_pretrained(folder)
    return load_model(str(folder), dtype="float32")


def test_without_end_and_padding_token_plain_lessons_end_with_their_line(model: str, tmp_path: Path) -> None:
    loaded = bare(model, tmp_path, None)
    assert (loaded.tokenizer.eos_token_id, loaded.tokenizer.pad_token_id) == (None, None)
    lesson = Lesson(wording.prompt(Question("a saw", ("fruit", "tool")), toy_task().view()), "tool")
    ids, start = loaded.tokenise_lesson(lesson)
    assert loaded.tokenizer.decode(ids[start:]) == " tool\n"
    made = [TokenLesson(tuple(ids), start), TokenLesson(tuple(ids[2:]), start - 2)]  # of two lengths: nothing is padded
    done = train(Full().attach(loaded.network, 0), made, SETTINGS, tmp_path / "work")
    assert len(done.steps) == 2


def test_without_end_token_a_chat_template_that_ends_nothing_is_refused(model: str, tmp_path: Path) -> None:
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    loaded = bare(model, tmp_path, template)
    lesson = Lesson(Prompt((Message("user", "a saw"),), format="chat"), "tool")
    with pytest.raises(ModelError, match="names no token that ends an answer, nor is there an eos token"):
        loaded.tokenise_lesson(lesson)


@pytest.mark.parametrize(
    ("lesson", "reason"),
    [
        (TokenLesson((5, 6, 7), 3), "lesson 2 of 2 has 3 tokens of prompt and 0 to learn"),
        (TokenLesson((5, 6, 7), 0), "lesson 2 of 2 has 0 tokens of prompt and 3 to learn"),
    ],
)
def test_a_lesson_with_nothing_to_learn_is_refused(lesson: TokenLesson, reason: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=reason):
        train(Full().attach(llama(), 0), [*lessons(1), lesson], SETTINGS, tmp_path)


def test_weights_that_are_no_numbers_are_named_before_anything_moves(tmp_path: Path) -> None:
    network = Lora(rank=4).attach(llama(), 0)
    with torch.no_grad():
        network.get_decoder().layers[1].mlp.down_proj.base_layer.weight[0, 0] = float("nan")
    with pytest.raises(
        TrainingError, match=r"loss is nan at step 1 of 4, before any weight .* first .*layers\.1\.mlp\.down_proj"
    ):
        train(network, lessons(8), SETTINGS, tmp_path)


def test_numbers_that_overflow_their_format_are_told_apart_from_bad_weights(tmp_path: Path) -> None:
    network = llama(dtype=torch.float16)
    with torch.no_grad():
        for layer in network.model.layers:
            layer.mlp.down_proj.weight.mul_(1e4)
            layer.mlp.up_proj.weight.mul_(1e4)
    with pytest.raises(TrainingError, match=r"weights are sound, so torch.float16 overflows"):
        train(Full().attach(network, 0), lessons(8), SETTINGS, tmp_path)


def test_a_loss_on_dev_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="loss on dev is nan after step 2 of 4"):
        train(Full().attach(llama(), 0), lessons(8), SETTINGS, tmp_path, lambda: {"loss": float("nan")})


def test_a_rate_that_diverges_fails_the_arm_with_step_and_rate(model: str, tmp_path: Path) -> None:
    _, row = trained(toy_task(), "full:rate=10,epochs=20,batch=1+zero-shot", model, tmp_path)
    assert row.status == "failed"
    assert "diverged at step" in str(row.reason)
    assert "learning rate" in str(row.reason)


def test_what_no_rate_can_mend_is_not_blamed_on_the_rates(tmp_path: Path) -> None:
    network = Full().attach(llama(), 0)
    with torch.no_grad():
        network.get_decoder().layers[0].mlp.up_proj.weight[3, 3] = float("inf")

    def loss() -> dict[str, float]:
        return {"loss": lesson_loss(network, lessons(4))}

    with pytest.raises(TrainingError, match="the learning rate is not at fault"):
        train_at_best_rate(network, lessons(8), SETTINGS, (1e-3, 1e-2), tmp_path, loss, loss)


def test_the_best_rates_weights_are_kept_in_bfloat16_too(tmp_path: Path) -> None:
    network = Full().attach(llama(dtype=torch.bfloat16), 0)
    before = lesson_loss(network, lessons(20))

    def loss() -> dict[str, float]:
        return {"loss": lesson_loss(network, lessons(20))}

    settings = Settings(rate=0.0, epochs=8, batch=4)
    choice = train_at_best_rate(network, lessons(20), settings, (1e-3, 1e-2), tmp_path, loss, loss)
    assert lesson_loss(network, lessons(20)) == pytest.approx(choice.trial.loss, rel=1e-2)
    assert choice.trial.loss < 0.8 * before

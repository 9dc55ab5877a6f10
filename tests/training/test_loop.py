"""The loop: learns, resumes bit for bit, leaves frozen weights alone, keeps the best, says when it diverges."""

from __future__ import annotations

import multiprocessing
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from opportune.errors import StoreError, TrainingError
from opportune.methods.full import Full
from opportune.methods.lora import Lora
from opportune.training import checkpoint, rates
from opportune.training.loop import Settings, Step, Trained, total_steps, train
from opportune.training.loss import lesson_loss
from opportune.training.masters import Masters
from opportune.training.rates import train_at_best_rate
from opportune.training.schedule import rate_at
from tests.training.tiny import lessons, llama, moving, plain_loss

METHODS = {"lora": Lora(rank=4), "full": Full(), "lora with dropout": Lora(rank=4, dropout=0.2)}
SETTINGS = Settings(rate=1e-2, epochs=3, batch=4)


class StopError(Exception):
    """Stands for a crash between two steps."""


def stop_at(step: int) -> Any:
    def watch(done: Step) -> None:
        if done.step == step:
            raise StopError

    return watch


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_training_interrupted_anywhere_ends_bit_for_bit_the_same(method: Any, dtype: Any, tmp_path: Path) -> None:
    made, dev = lessons(10), lessons(6, seed=1)

    def trained(name: str, watch: Any = lambda step: None) -> tuple[dict[str, torch.Tensor], Trained]:
        network = method.attach(llama(dtype=dtype), 0)
        often = replace(SETTINGS, checkpoint_seconds=0.0)
        record = train(network, made, often, tmp_path / name, lambda: {"loss": lesson_loss(network, dev)}, watch)
        return moving(network), record

    weights, whole = trained("undisturbed")
    for moment in random.sample(range(1, 10), 2):
        with pytest.raises(StopError):
            trained(f"stopped {moment}", stop_at(moment))
        again, resumed = trained(f"stopped {moment}")
        assert_same(again, weights)
        assert [step.loss for step in resumed.steps] == [step.loss for step in whole.steps]
        assert resumed.evaluations == whole.evaluations


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())


LONG = Settings(rate=1e-2, epochs=10, batch=4, checkpoint_seconds=0.0)


def long_training(folder: Path, watch: Any) -> dict[str, torch.Tensor]:
    network = Lora(rank=4).attach(llama(), 0)
    train(network, lessons(20), LONG, folder, None, watch)
    return moving(network)


def test_killed_in_the_middle_of_whatever_it_was_doing(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    reader, writer = fork.Pipe(duplex=False)
    process = fork.Process(target=long_training, args=(tmp_path / "killed", lambda step: writer.send(step.step)))
    process.start()
    moment = random.randint(5, 40)
    while reader.recv() < moment:
        pass
    time.sleep(random.random() * 0.01)
    process.kill()
    process.join()
    assert (tmp_path / "killed" / "state.safetensors").exists()
    begun: list[int] = []
    resumed = long_training(tmp_path / "killed", lambda step: begun.append(step.step))
    assert begun[0] >= moment
    assert_same(resumed, long_training(tmp_path / "whole", lambda step: None))


@pytest.mark.parametrize("method", [Lora(rank=8), Full()])
def test_it_learns_and_frozen_weights_stay_bitwise(method: Any, tmp_path: Path) -> None:
    made = lessons(40)
    network = method.attach(llama(), 0)
    frozen = {name: weight.clone() for name, weight in network.named_parameters() if not weight.requires_grad}
    before = lesson_loss(network, made)
    trained = train(network, made, Settings(rate=3e-2, epochs=10, batch=8), tmp_path)
    assert lesson_loss(network, made) < 0.5 * before
    assert len(trained.steps) == total_steps(40, Settings(rate=1.0, epochs=10, batch=8)) == 50
    now = dict(network.named_parameters())
    assert all(torch.equal(weight, now[name]) for name, weight in frozen.items())
    assert bool(frozen) == isinstance(method, Lora)


def test_a_step_reports_the_mean_loss_and_norm_of_its_lessons(tmp_path: Path) -> None:
    made = lessons(7)
    plain = llama(own=False)
    reference = plain_loss(plain, made)
    reference.backward()
    norm = torch.stack([weight.grad.norm() for weight in plain.parameters()]).norm()
    (step,) = train(Full().attach(llama(), 0), made, Settings(rate=1e-3, epochs=1, batch=7), tmp_path).steps
    assert step.loss == pytest.approx(float(reference.detach()), rel=1e-5)
    assert step.norm == pytest.approx(float(norm), rel=1e-4)
    assert step.tokens == sum(len(lesson.ids) for lesson in made)


def test_every_lesson_is_seen_once_an_epoch_in_an_order_of_the_seed(tmp_path: Path) -> None:
    made = lessons(9)
    runs = [
        train(Full().attach(llama(), 0), made, Settings(rate=1e-9, epochs=2, batch=1, seed=seed), tmp_path / name)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    losses = [[step.loss for step in run.steps] for run in runs]
    assert losses[0] == losses[1] != losses[2]
    assert losses[0][:9] != losses[0][9:]
    assert sorted(losses[0][:9]) == pytest.approx(sorted(losses[0][9:]), rel=1e-4)
    assert sorted(losses[0]) == pytest.approx(sorted(losses[2]), rel=1e-4)


def test_the_best_weights_are_kept_and_a_stale_training_stops(tmp_path: Path) -> None:
    figures = iter([3.0, 1.0, 2.0, 2.0, 0.0])
    network, seen = Lora(rank=4).attach(llama(), 0), []

    def evaluate() -> dict[str, float]:
        seen.append(moving(network))
        return {"loss": next(figures), "accuracy": 0.5}

    trained = train(network, lessons(8), Settings(rate=1e-2, epochs=5, batch=4, patience=2), tmp_path, evaluate)
    assert trained.best is not None
    assert (trained.best.step, trained.best.figures) == (4, {"loss": 1.0, "accuracy": 0.5})
    assert len(trained.steps) == 8
    assert_same(moving(network), seen[1])


def test_updates_below_a_rounding_of_bfloat16_are_not_lost(tmp_path: Path) -> None:
    network = Full().attach(llama(dtype=torch.bfloat16), 0)
    masters = Masters(network)
    weight = next(iter(dict(network.named_parameters()).values()))
    name, before = next(iter(masters.weights)), weight.detach().clone()
    for _ in range(200):
        with torch.no_grad():
            masters.weights[name].add_(before.float().abs() * 1e-4)
        masters.publish()
    assert torch.allclose(weight.float(), before.float() + before.float().abs() * 0.02, rtol=1e-2)
    by_itself = before.clone()
    for _ in range(200):
        by_itself += by_itself.abs() * 1e-4
    assert torch.equal(by_itself, before)  # what masters are for


def test_gradients_of_several_packs_add_up_in_float32(tmp_path: Path) -> None:
    network = llama(dtype=torch.bfloat16)
    masters = Masters(network)
    weight = dict(network.named_parameters())[name := next(iter(masters.weights))]
    for value in (1.0, 1e-3):
        weight.grad = torch.full_like(weight, value)
        masters.collect()
    assert float(masters.weights[name].grad.flatten()[0]) == pytest.approx(1.001, rel=1e-4)  # type: ignore[union-attr]


def test_a_diverging_training_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"diverged at step \d+ of .* learning rate"):
        train(Full().attach(llama(), 0), lessons(20), Settings(rate=100.0, epochs=9, batch=4), tmp_path)
    network = Full().attach(llama(), 0)
    with torch.no_grad():
        network.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="step 1 of"):
        train(network, lessons(20), SETTINGS, tmp_path)


def test_nothing_to_learn_from_or_to_move(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no lessons"):
        train(llama(), [], SETTINGS, tmp_path)
    with pytest.raises(TrainingError, match="no weight"):
        train(llama().requires_grad_(False), lessons(2), SETTINGS, tmp_path)


def test_a_checkpoint_of_another_training_or_half_a_file_is_not_continued(tmp_path: Path) -> None:
    train(Lora(rank=2).attach(llama(), 0), lessons(8), replace(SETTINGS, stop_after=2), tmp_path)
    begun: list[int] = []
    train(Lora(rank=2).attach(llama(), 0), lessons(9), SETTINGS, tmp_path, None, lambda step: begun.append(step.step))
    assert begun[0] == 1
    file = tmp_path / "half.safetensors"
    checkpoint.save(file, {"a": torch.arange(100.0)}, {"n": 1})
    file.write_bytes(file.read_bytes()[:-10])
    assert checkpoint.load(file) is None


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path / "state.safetensors", {"a": torch.ones(3)}, {})

    def full(*_: Any) -> None:  # as safetensors 0.8 words it
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(StoreError, match=r"the disk is full \(.*\); free some space and run again"):
        checkpoint.save(tmp_path / "state.safetensors", {"a": torch.zeros(3)}, {})
    kept = checkpoint.load(tmp_path / "state.safetensors")
    assert kept is not None
    assert torch.equal(kept[0]["a"], torch.ones(3))  # nothing is lost


def test_schedule_warms_up_stays_and_falls_to_nothing() -> None:
    rates = [rate_at(step, 100, 2.0, 0.1, 0.5) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9:51] == pytest.approx([2.0] * 42)
    assert rates[75] == pytest.approx(1.0)
    assert rates[99] == pytest.approx(0.04)
    assert rate_at(0, 1, 2.0, 0.1, 0.5) == 2.0


# ---- choosing the rate ----------------------------------------------------------------------------------------------


def search(
    folder: Path, network: Any, rates: tuple[float, ...], watch: Any = lambda step: None, dev: Any = None
) -> Any:
    held_out = lessons(12, seed=1)

    def loss() -> dict[str, float]:
        return {"loss": lesson_loss(network, held_out)}

    settings = Settings(rate=0.0, epochs=8, batch=4, checkpoint_seconds=0.0)
    return train_at_best_rate(network, lessons(24), settings, rates, folder, loss, dev or loss, watch)


def test_the_two_best_probes_are_trained_to_the_end_and_the_best_of_them_stays(tmp_path: Path) -> None:
    network = Lora(rank=4).attach(llama(), 0)
    choice = search(tmp_path / "search", network, (1e-6, 1e-4, 1e-2, 100.0))
    assert (choice.rate, choice.at_edge) == (1e-2, False)
    # An eighth of 48 steps for all, the whole run for the best two.
    assert [len(trial.steps) for trial in choice.trials[:3]] == [6, 48, 48]
    assert [trial.finished for trial in choice.trials] == [False, True, True, False]
    assert choice.trial.loss < choice.trials[1].loss
    assert not choice.trials[3].probe or choice.trials[3].promise > choice.trials[2].promise
    undisturbed, held_out = Lora(rank=4).attach(llama(), 0), lessons(12, seed=1)
    settings = Settings(rate=choice.rate, epochs=8, batch=4)
    train(undisturbed, lessons(24), settings, tmp_path / "alone", lambda: {"loss": lesson_loss(undisturbed, held_out)})
    assert_same(moving(network), moving(undisturbed))


def test_a_rate_that_only_looks_best_early_loses(tmp_path: Path) -> None:
    network = Lora(rank=4).attach(llama(), 0)
    seen: list[float] = []

    def dev() -> dict[
        str, float
    ]:  # the run at the higher rate comes first, for its probe is the better, and ends worse
        seen.append(len(seen))
        return {"loss": 2.0 if len(seen) <= 8 else 1.0}

    choice = search(tmp_path, network, (1e-5, 1e-2), dev=dev)
    assert choice.trials[1].promise < choice.trials[0].promise
    assert choice.rate == 1e-5
    assert choice.at_edge


def test_an_interrupted_search_repeats_no_step(tmp_path: Path) -> None:
    done: list[tuple[float, int]] = []

    def crash(step: Step) -> None:
        if len(done) == 8:
            raise StopError
        done.append((round(step.rate, 12), step.step))

    with pytest.raises(StopError):
        search(tmp_path, Lora(rank=4).attach(llama(), 0), (1e-4, 1e-3, 1e-2), crash)
    network = Lora(rank=4).attach(llama(), 0)
    choice = search(tmp_path, network, (1e-4, 1e-3, 1e-2), lambda s: done.append((s.rate, s.step)))
    steps = [step for _, step in done]
    assert steps == [*range(1, 7), *range(1, 7), *range(1, 7), *range(7, 49), *range(7, 49)]
    assert (choice.rate, choice.at_edge) == (1e-2, True)
    undisturbed = Lora(rank=4).attach(llama(), 0)
    fresh = search(tmp_path / "fresh", undisturbed, (1e-4, 1e-3, 1e-2))
    assert [(t.probe, t.evaluations) for t in choice.trials] == [(t.probe, t.evaluations) for t in fresh.trials]
    again = Lora(rank=4).attach(llama(), 0)
    search(tmp_path, again, (1e-4, 1e-3, 1e-2), lambda step: pytest.fail("a finished search was trained again"))
    assert_same(moving(again), moving(undisturbed))


def test_all_rates_diverging_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="every learning rate diverged"):
        search(tmp_path, Full().attach(llama(), 0), (50.0, 100.0))


RATES = (1e-5, 1e-4, 1e-3, 1e-2)


def broken(
    folder: Path, monkeypatch: pytest.MonkeyPatch, crash: tuple[float, int] | None = None, budget: int | None = None
) -> tuple[Any, list[tuple[float, int]], dict[str, torch.Tensor]]:
    """A search in which the best two rates of four diverge after step 10; the steps taken, the weights in the end."""
    network, held_out, seen = Lora(rank=4).attach(llama(), 0), lessons(12, seed=1), list[tuple[float, int]]()
    at = [0.0]

    def noting(network: Any, made: Any, settings: Settings, *rest: Any) -> Any:
        at[0] = settings.rate
        return train(network, made, settings, *rest)

    def watch(done: Step) -> None:
        seen.append((at[0], done.step))
        if seen[-1] == crash:
            raise StopError
        if at[0] >= 1e-3 and done.step == 10:
            next(weight for weight in network.parameters() if weight.requires_grad).data.fill_(float("nan"))

    def loss() -> dict[str, float]:
        return {"loss": lesson_loss(network, held_out)}

    monkeypatch.setattr(rates, "train", noting)
    settings = Settings(rate=0.0, epochs=8, batch=4, checkpoint_seconds=0.0)
    choice = train_at_best_rate(network, lessons(24), settings, RATES, folder, loss, loss, watch, budget)
    return choice, seen, moving(network)


def test_where_both_finalists_diverge_the_next_best_is_trained_and_all_is_billed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    choice, seen, weights = broken(tmp_path / "search", monkeypatch)
    assert choice.rate == 1e-4
    assert [trial.finished for trial in choice.trials] == [False, True, True, True]
    # Its probe fell behind and was not kept: taken again, and on the bill.
    assert [len(trial.steps) for trial in choice.trials] == [6, 6 + 48, 10, 10]
    assert sum(len(trial.steps) for trial in choice.trials) == len(seen)
    # An epoch of six steps was looked at before they diverged: on the bill, but no state to choose.
    assert [[each.step for each in trial.evaluations] for trial in choice.trials[2:]] == [[6], [6]]
    assert [trial.best for trial in choice.trials[2:]] == [None, None]
    alone, held_out = Lora(rank=4).attach(llama(), 0), lessons(12, seed=1)
    settings = Settings(rate=1e-4, epochs=8, batch=4)
    train(alone, lessons(24), settings, tmp_path / "alone", lambda: {"loss": lesson_loss(alone, held_out)})
    assert_same(weights, moving(alone))


@pytest.mark.parametrize("moment", [(1e-2, 9), (1e-3, 9), (1e-4, 20)])
def test_a_search_interrupted_where_finalists_diverge_is_billed_for_every_step(
    moment: tuple[float, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(StopError):
        broken(tmp_path, monkeypatch, crash=moment)
    choice, *_ = broken(tmp_path, monkeypatch)
    assert [len(trial.steps) for trial in choice.trials] == [6, 6 + 48, 10, 10]


def test_a_budget_pays_for_no_further_finalist_than_it_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spent = sum(step.tokens for trial in broken(tmp_path / "a", monkeypatch)[0].trials for step in trial.steps)
    assert broken(tmp_path / "b", monkeypatch, budget=spent)[0].rate == 1e-4
    with pytest.raises(TrainingError, match="every learning rate that the budget pays for diverged: 0.001, 0.01"):
        broken(tmp_path / "c", monkeypatch, budget=spent - 1)

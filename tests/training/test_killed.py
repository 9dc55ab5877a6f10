"""Trainings that are killed without warning, again and again, end bit for bit where an undisturbed one does."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from opportune.methods.full import Full
from opportune.methods.lora import Lora
from opportune.methods.prompt_tuning import PromptTuning
from opportune.training.loop import Settings, total_steps, train
from opportune.training.loss import lesson_loss
from opportune.training.packing import TokenLesson
from tests.training.tiny import VOCABULARY, lessons, llama, moving

METHODS = {
    "full": Full(),
    "lora": Lora(rank=4, dropout=0.1),
    "prompt-tuning": PromptTuning(tokens=4, init="vocabulary"),
}
KILLS = 10
SETTINGS = Settings(rate=1e-2, epochs=12, batch=4, patience=99, checkpoint_seconds=0.0)
VIRTUAL = tuple(range(VOCABULARY, VOCABULARY + 4))  # the ids of virtual tokens follow the vocabulary's


def taught(method: Any, count: int, seed: int) -> list[TokenLesson]:
    if not isinstance(method, PromptTuning):
        return lessons(count, seed)
    return [TokenLesson((*VIRTUAL, *lesson.ids), lesson.start + len(VIRTUAL)) for lesson in lessons(count, seed)]


def training(method: Any, folder: Path, watch: Any = lambda step: None) -> None:
    """One training from beginning or checkpoint to end; its weights are the last thing it writes."""
    network, dev = method.attach(llama(), 0), taught(method, 5, 1)
    figures = train(
        network, taught(method, 20, 0), SETTINGS, folder, lambda: {"loss": lesson_loss(network, dev)}, watch
    )
    save_file(moving(network), folder / "ended.part", {"best": str(figures.best)})
    (folder / "ended.part").rename(folder / "ended.safetensors")


def killed_at(method: Any, folder: Path, moment: int, delay: float) -> int:
    """Run it in a process of its own until `moment` steps are done and `delay` seconds more have passed, then
    `kill -9`. Returns how many steps it told of."""
    fork = multiprocessing.get_context("fork")
    reader, writer = fork.Pipe(duplex=False)
    process = fork.Process(target=training, args=(method, folder, lambda step: writer.send(step.step)))
    process.start()
    writer.close()
    told = 0
    while told < moment:
        told = reader.recv()
    time.sleep(delay)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    while reader.poll():
        try:
            told = reader.recv()
        except EOFError:
            break
    return told


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_killed_at_ten_random_points_it_ends_bit_for_bit_the_same(method: Any, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    training(method, whole)
    steps = total_steps(20, SETTINGS)
    moments = sorted(random.sample(range(1, steps - 20), KILLS))
    reached = 0
    for moment in moments:  # each goes on from what the one before left
        # At once, or while it computes, evaluates or writes: a step takes a few milliseconds.
        reached = killed_at(method, killed, max(moment, reached), random.random() * 0.006)
    assert not (killed / "ended.safetensors").exists()
    begun: list[int] = []
    training(method, killed, lambda step: begun.append(step.step))
    assert begun[0] > moments[0]  # it did go on, and not from the beginning
    expected, found = (load_file(folder / "ended.safetensors") for folder in (whole, killed))
    assert expected.keys() == found.keys()
    assert all(torch.equal(weight, found[name]) for name, weight in expected.items())

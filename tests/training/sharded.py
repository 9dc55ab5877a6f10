"""What one of several processes does in the tests of sharded training."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from opportune.cost import Meter
from opportune.errors import TrainingError
from opportune.inference.attention import use_own_attention
from opportune.methods.full import Full
from opportune.methods.lora import Lora
from opportune.methods.prefix_tuning import PrefixTuning
from opportune.methods.prompt_tuning import PromptTuning
from opportune.training import sharding
from opportune.training.crew import processes, rank
from opportune.training.loop import Settings, train
from opportune.training.loss import lesson_loss, summed_loss
from opportune.training.memory import resident_bytes
from opportune.training.packing import TokenLesson
from tests.training.tiny import VOCABULARY, lessons, llama, moving

METHODS: dict[str, Any] = {
    "full": Full(),
    "bfloat16": Full(),
    "blocks": Full(),
    "lora": Lora(rank=4),
    "prompt-tuning": PromptTuning(tokens=4, init="vocabulary"),
    "prefix-tuning": PrefixTuning(tokens=3, init="random", reparametrise=True),
}
SETTINGS = Settings(rate=1e-2, epochs=3, batch=6, patience=99)


def taught(network: Any, count: int, seed: int) -> list[TokenLesson]:
    virtual = tuple(range(VOCABULARY, VOCABULARY + getattr(network, "virtual_tokens", 0)))
    return [TokenLesson((*virtual, *each.ids), each.start + len(virtual)) for each in lessons(count, seed)]


class Listed(list[TokenLesson]):
    """Lessons that know by themselves what tells them from others, as blocks of a corpus do."""

    key = "these"

    def told(self, folder: Path) -> list[dict[str, Any]]:
        raise AssertionError("nobody waits to be told")


def work(folder: Path, name: str, stop: int) -> None:
    """Train until `stop` steps are done (0: to the end), from what `folder / name` holds; write what came out of it."""
    dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
    network = METHODS[name].attach(llama(dtype=dtype), 0)
    begun: list[int] = []
    # An odd number, so that the last step of an epoch has fewer lessons than there may be processes.
    made, dev = taught(network, 19, 0), taught(network, 6, 1)
    if name == "blocks" and rank() == 0:  # the others are told the lessons one by one
        made = Listed(made)
    settings = replace(SETTINGS, stop_after=stop or None)
    done = train(
        network,
        made,
        settings,
        folder / name,
        lambda: {"loss": lesson_loss(network, dev)},
        lambda step: begun.append(step.step),
    )
    found = {
        "losses": [step.loss for step in done.steps],
        "norms": [step.norm for step in done.steps],
        "dev": [each.figures["loss"] for each in done.evaluations],
        "begun": begun[0],
        "processes": processes(),
    }
    place = folder / f"{name}-{rank()}"
    save_file(moving(network), place.with_suffix(".safetensors"))
    place.with_suffix(".json").write_text(json.dumps(found))


def join(rank: int, number: int, meeting: Path, jobs: Sequence[tuple[Path, str, int]]) -> None:
    """Be one of several processes that meet at a file, and do the jobs together: see `work`."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=number)
    for job in jobs:
        work(*job)
    torch.distributed.destroy_process_group()


def large() -> Any:
    """About 100 MB of weights."""
    config = LlamaConfig(vocab_size=64, hidden_size=512, intermediate_size=2048, num_hidden_layers=6)
    network = LlamaForCausalLM(config)
    use_own_attention(network)
    return network


def weigh(rank: int, number: int, meeting: Path, folder: Path) -> None:
    """Be one of several processes that make their parts of a network; write what it took beside the network."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=number)
    network = Lora(rank=4).attach(large(), 0)
    with Meter() as meter:
        before = resident_bytes(torch.device("cpu"))
        sharding.Shards(network)
    whole = sum(weight.nbytes for weight in network.parameters())
    (folder / str(rank)).write_text(json.dumps([whole, (meter.amount.peak_bytes or 0) - before]))
    torch.distributed.destroy_process_group()


def without_memory(poor: int, rank: int, number: int, meeting: Path, folder: Path) -> None:
    """Be one of several processes that train, of which one runs out of memory in its third pass."""
    left = itertools.count(3 if rank == poor else 99, -1)

    def scarce(network: Any, pack: Any) -> torch.Tensor:
        if next(left) == 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return summed_loss(network, pack)

    sharding.summed_loss = scarce  # this process is the test's own
    with suppress(TrainingError):  # of which a run goes on with the next arm
        join(rank, number, meeting, [(folder, "lora", 0)])
    signal.pause()


def together(number: int, meeting: Path, *jobs: tuple[Path, str, int]) -> None:
    """Several processes do the jobs; all must come to a good end."""
    fork = multiprocessing.get_context("fork")
    made = [fork.Process(target=join, args=(rank, number, meeting, jobs)) for rank in range(number)]
    for process in made:
        process.start()
    for process in made:
        process.join(120)
    assert [process.exitcode for process in made] == [0] * number

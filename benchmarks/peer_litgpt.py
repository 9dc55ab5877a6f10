"""A peer of training: litgpt's own finetuning loop, LoRA or all weights, on given token ids (in an environment of its
own, see peers.py).

It reads the loss on dev itself, lesson by lesson in float32, for its adapters are of a format of its own.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks.peer_trl import share
from benchmarks.worker import peak_bytes, reset_peak, serve

Lessons = list[dict[str, Any]]
NAME = "SmolLM2-135M-Instruct"  # as litgpt lists the architecture of Opportune's default model
PRECISIONS = {"float32": "32-true", "autocast": "bf16-mixed", "bfloat16": "bf16-true"}


def versions() -> dict[str, Any]:
    """Of what is measured."""
    from importlib.metadata import version

    import torch

    return {"litgpt": version("litgpt"), "torch": torch.__version__, "threads": torch.get_num_threads()}


def convert(model: str, folder: str) -> str:
    """The Hugging Face folder `model` in litgpt's format, under `folder`."""
    from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint

    made = Path(folder, NAME)
    shutil.copytree(model, made)
    convert_hf_checkpoint(made, model_name=NAME)
    return str(made)


def learn(
    method: str,
    model: str,
    lessons: Lessons,
    dev: Lessons,
    rank: int,
    rate: float,
    batch: int,
    rows: int,
    dtype: str,
    seed: int,
    steps: int | None = None,
) -> dict[str, Any]:
    """Train for an epoch (or some steps): each step's real tokens and seconds, the peak of memory, the loss on dev.

    `model` is a folder of `convert`; `batch` lessons a step, `rows` of them in one forward pass.
    """
    import lightning
    import torch
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.finetune import full, lora
    from litgpt.utils import load_checkpoint

    script = lora if method == "lora" else full
    script.generate_example = lambda *_: None  # not a part of a step
    fabric = lightning.Fabric(accelerator="cpu", devices=1, precision=PRECISIONS[dtype])
    fabric.launch()
    fabric.seed_everything(seed)
    with fabric.init_module(empty_init=False):
        network = script.GPT(_config(method, rank))
    if method == "lora":
        lora.mark_only_lora_as_trainable(network)
    wrapped = fabric.setup_module(network)
    moving = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = fabric.setup_optimizers(torch.optim.AdamW(moving, lr=rate, weight_decay=0.0, fused=True))
    load_checkpoint(fabric, wrapped, Path(model, "lit_model.pth"), strict=method == "full")
    last = min(steps or len(lessons), -(-len(lessons) // batch))
    clock = _Clock(optimizer, last)
    train, some = _Loader(lessons, rows, seed), _Loader(dev or lessons[:2], 1, seed)
    settings = TrainArgs(
        save_interval=None, log_interval=10**9, global_batch_size=batch, micro_batch_size=rows, epochs=1, max_steps=last
    )
    asked = {
        "fabric": fabric,
        "train_dataloader": train.loader,
        "val_dataloader": some.loader,
        "devices": 1,
        "checkpoint_dir": Path(model),
        "out_dir": Path(model),
        "train": settings,
        "eval": EvalArgs(interval=10**9, initial_validation=False),
        "data": None,
    }
    before = reset_peak()
    if method == "lora":
        lora.fit(model=wrapped, optimizer=optimizer, scheduler=clock, **asked)
    else:
        state = {"model": wrapped, "optimizer": optimizer, "scheduler": clock, "iter_num": 0, "step_count": 0}
        full.fit(state=state, resume=False, **asked)
    peak = peak_bytes()
    return {
        "tokens": train.tokens(batch)[: len(clock.seconds)],
        "seconds": clock.seconds,
        "losses": [],
        "peak_bytes": peak,
        "bytes_before": before,
        "dev_loss": _dev_loss(network, dev) if dev else None,
    }


def _config(method: str, rank: int) -> Any:
    from litgpt import config, lora

    if method == "full":
        return config.Config.from_name(NAME)
    names = ("query", "key", "value", "projection", "mlp")
    return lora.Config.from_name(
        NAME, lora_r=rank, lora_alpha=2 * rank, lora_dropout=0.0, **{f"lora_{name}": True for name in names}
    )


class _Loader:
    """litgpt's batches of lessons, and how many real tokens each had."""

    def __init__(self, lessons: Lessons, rows: int, seed: int) -> None:
        import torch
        from litgpt.data.base import get_sft_collate_fn

        self._counts: list[int] = []
        self._collate = get_sft_collate_fn()
        generator = torch.Generator().manual_seed(seed)
        self.loader = torch.utils.data.DataLoader(
            [_row(lesson) for lesson in lessons],
            batch_size=rows,
            shuffle=True,
            generator=generator,
            collate_fn=self._counted,
        )

    def _counted(self, rows: list[dict[str, Any]]) -> Any:
        self._counts.append(sum(len(row["input_ids"]) for row in rows))
        return self._collate(rows)

    def tokens(self, batch: int) -> list[int]:
        """Of each step."""
        passes = batch // int(self.loader.batch_size or 1)
        return [sum(self._counts[i : i + passes]) for i in range(0, len(self._counts), passes)]


def _row(lesson: dict[str, Any]) -> dict[str, Any]:
    import torch

    ids, start = lesson["ids"], lesson["start"]
    length = torch.tensor([len(ids)])
    return {
        "input_ids": torch.tensor(ids),
        "labels": torch.tensor([-100] * start + ids[start:]),
        "token_counts": {"raw": length, "raw_plus_prompt_template": length},
    }


class _Clock:
    """Opportune's default schedule, in the place of litgpt's; what it is asked after each step tells the seconds."""

    def __init__(self, optimizer: Any, steps: int) -> None:
        self.seconds: list[float] = []
        self._optimizer, self._steps, self._base = optimizer, steps, optimizer.param_groups[0]["lr"]
        self._done, self._began = 0, time.perf_counter()
        self._set()

    def step(self) -> None:
        """After each of the optimiser's steps."""
        now = time.perf_counter()
        self.seconds.append(now - self._began)
        self._began, self._done = now, self._done + 1
        self._set()

    def get_last_lr(self) -> list[float]:
        """For litgpt's log."""
        return [group["lr"] for group in self._optimizer.param_groups]

    def _set(self) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self._base * share(self._done, self._steps)


def _dev_loss(network: Any, lessons: Lessons) -> float:
    """The mean negative log-likelihood of a target token."""
    import torch

    network.float().eval()
    network.max_seq_length = max(len(lesson["ids"]) for lesson in lessons)
    total = 0.0
    for lesson in lessons:
        ids, start = torch.tensor(lesson["ids"]), lesson["start"]
        with torch.no_grad():
            logits = network(ids[None])[0, start - 1 : -1]
        total += float(torch.nn.functional.cross_entropy(logits, ids[start:], reduction="sum"))
    return total / sum(len(lesson["ids"]) - int(lesson["start"]) for lesson in lessons)


if __name__ == "__main__":
    serve({"versions": versions, "convert": convert, "learn": learn})

"""A peer of training: TRL's SFTTrainer, with a PEFT adapter or without, on given token ids (in the peers' environment).

Also the judge of its own and Opportune's weights: transformers and PEFT alone, one lesson at a time, in float32.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

from benchmarks.worker import peak_bytes, reset_peak, serve

Lessons = list[dict[str, Any]]


def versions() -> dict[str, Any]:
    """Of what is measured."""
    import peft
    import torch
    import trl

    found = {"trl": trl.__version__, "peft": peft.__version__, "torch": torch.__version__}
    return {**found, "threads": torch.get_num_threads()}


def learn(
    method: str,
    model: str,
    lessons: Lessons,
    rank: int,
    rate: float,
    batch: int,
    rows: int,
    dtype: str,
    grouped: bool,
    seed: int,
    folder: str | None = None,
    steps: int = -1,
) -> dict[str, Any]:
    """Train LoRA or all weights for an epoch (or some steps): each step's real tokens and seconds, the peak of memory.

    `batch` lessons a step, `rows` of them in one forward pass. `dtype`: float32, autocast (float32 weights computed in
    bfloat16) or bfloat16 (weights too). `grouped` puts lessons of like length into one batch. The rest is what
    Opportune does: the same rate at every step, no weight decay, gradients clipped to norm 1, loss on targets only.
    """
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _trainer(method, model, lessons, rank, rate, batch, rows, dtype, grouped, seed, scratch, steps)
        tokens, clock = _counted(trainer), _clock()
        trainer.add_callback(clock)
        before = reset_peak()
        trainer.train()
        peak = peak_bytes()
    if folder is not None:
        trainer.save_model(folder)
    passes = batch // rows
    grouped_tokens = [sum(tokens[i : i + passes]) for i in range(0, len(tokens), passes)]
    return {
        "tokens": grouped_tokens[: len(clock.seconds)],
        "seconds": clock.seconds,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "peak_bytes": peak,
        "bytes_before": before,
    }


def judge(method: str, model: str, folder: str | None, lessons: Lessons) -> float:
    """The mean negative log-likelihood of a target token under what `folder` holds (None: the base model)."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    whole = folder if folder and method == "full" else model
    network = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32).eval()
    if folder is not None and method == "lora":
        network = PeftModel.from_pretrained(network, folder).eval()
    total = 0.0
    for lesson in lessons:
        ids, start = torch.tensor(lesson["ids"]), lesson["start"]
        with torch.no_grad():
            logits = network(input_ids=ids[None]).logits[0, start - 1 : -1]
        total += float(torch.nn.functional.cross_entropy(logits, ids[start:], reduction="sum"))
    return total / sum(len(lesson["ids"]) - int(lesson["start"]) for lesson in lessons)


def _trainer(
    method: str,
    model: str,
    lessons: Lessons,
    rank: int,
    rate: float,
    batch: int,
    rows: int,
    dtype: str,
    grouped: bool,
    seed: int,
    scratch: str,
    steps: int,
) -> Any:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    config = SFTConfig(
        output_dir=scratch,
        use_cpu=True,
        bf16=dtype == "autocast",
        gradient_checkpointing=False,
        max_length=None,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=batch // rows,
        num_train_epochs=1,
        max_steps=steps,
        learning_rate=rate,
        weight_decay=0.0,
        max_grad_norm=1.0,
        train_sampling_strategy="group_by_length" if grouped else "random",
        model_init_kwargs={"dtype": torch.bfloat16 if dtype == "bfloat16" else torch.float32},
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        seed=seed,
    )
    adapter = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear")
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list([_row(lesson) for lesson in lessons]),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=adapter if method == "lora" else None,
    )
    whole = steps if steps > 0 else -(-len(lessons) // batch)
    trainer.create_optimizer()
    trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(trainer.optimizer, lambda step: share(step, whole))
    return trainer


def _row(lesson: dict[str, Any]) -> dict[str, list[int]]:
    ids, start = lesson["ids"], lesson["start"]
    return {"input_ids": ids, "labels": [-100] * start + ids[start:]}


def share(step: int, steps: int) -> float:
    """Opportune's default schedule: 5 % warm-up, constant, linear decay over the last half."""
    return min(1.0, (step + 1) / max(1, round(0.05 * steps)), max(0, steps - step) / max(1, round(0.5 * steps)))


def _counted(trainer: Any) -> list[int]:
    """The real tokens of each forward pass to come, in order: counted as the rows are put together."""
    tokens: list[int] = []
    collate = trainer.data_collator

    def counting(rows: list[dict[str, Any]]) -> Any:
        tokens.append(sum(len(row["input_ids"]) for row in rows))
        return collate(rows)

    trainer.data_collator = counting
    return tokens


def _clock() -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Seconds of each step, without fetching its batches or writing logs."""

        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.began = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds.append(time.perf_counter() - self.began)

    return Clock()


if __name__ == "__main__":
    serve({"versions": versions, "learn": learn, "judge": judge})

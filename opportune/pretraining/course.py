"""The whole way from a corpus to a model folder, each part kept as soon as it is there, so that the same order goes on.

FOLDER/training/   the order, tokenizer, tokens, checkpoints; removed in the end
FOLDER/            the model, config.json last: before it is there, the folder is no model yet
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from opportune.bill import amount_of_steps
from opportune.corpus.blocks import Blocks, Mix
from opportune.corpus.division import Corpus, divided
from opportune.corpus.stream import TokenStream, marks, open_stream, tokenise
from opportune.cost import Amount, Meter
from opportune.errors import TaskError, UsageError
from opportune.models.placing import choose_device, choose_dtype
from opportune.pretraining.measuring import bits, curve_of
from opportune.pretraining.network import new_network
from opportune.pretraining.order import Order, Plan, Report, Watcher, planned, read_report
from opportune.pretraining.sizing import vocabulary_for
from opportune.pretraining.tokenizer import open_tokenizer, train_tokenizer
from opportune.training import crew
from opportune.training.loop import Settings, Step, figures_of, train
from opportune.training.loss import lesson_loss
from opportune.training.packing import TokenLesson
from opportune.types import digest

REPORT, ORDER, WORK = "pretraining.json", "order.json", "training"
VALIDATIONS, VALIDATION_BLOCKS = 10, 32  # on the way; blocks read by each
_PROBED = 3  # steps timed before the start
_CHECKPOINT_SECONDS = 30.0
_WEIGHT_DECAY = 0.1


def pretrain(order: Order, watcher: Watcher) -> Report:
    """Train a tokenizer and a model and write them to `order.out`; what is there of the same order is gone on with.

    Raises UsageError for a folder that holds anything else, TaskError for a corpus that cannot be read, ModelError for
    a device or number format that is not there.
    """
    choose_dtype(order.dtype, choose_device(order.device))  # before anything is written under this order
    corpus = divided(order.corpus, order.field, whole=order.validation is not None)
    validation = corpus if order.validation is None else divided(order.validation, order.field, whole=True)
    key = digest([order.identity(), corpus.digest, validation.digest, order.validation is None])
    work = _entered(order.out, key)
    if (order.out / "config.json").exists():
        shutil.rmtree(work, ignore_errors=True)
        return read_report(json.loads((order.out / REPORT).read_text())["report"])
    try:
        with FileLock(work / "lock", timeout=0):
            return _Course(order, work, key, corpus, validation, watcher).run()
    except Timeout:
        raise UsageError(f"{order.out} is being written to by another process") from None


def _entered(out: Path, key: str) -> Path:
    """The folder of the work under way, made where it is not there yet."""
    work = out / WORK
    for file in (out / REPORT, work / ORDER):
        if file.exists() and json.loads(file.read_text())["key"] != key:
            state = "the model" if file.name == REPORT else "a training"
            raise UsageError(
                f"{out} holds {state} of another order or corpus: repeat that very command, or give another --out"
            )
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; a folder is expected")
    begun = (work / ORDER).exists() or (out / REPORT).exists()
    others = sorted(item.name for item in out.iterdir() if item.name != WORK) if out.exists() else []
    if others and not begun:
        raise UsageError(f"--out {out} is not empty (it holds {others[0]}): give a new folder")
    if not (out / "config.json").exists():
        work.mkdir(parents=True, exist_ok=True)
        _write(work / ORDER, {"key": key})
    return work


@dataclass(frozen=True, slots=True)
class _Course:
    """One pretraining."""

    order: Order
    work: Path
    key: str
    corpus: Corpus
    validation: Corpus
    watcher: Watcher

    def run(self) -> Report:
        """Whatever is still to be done."""
        tokenizer = self._tokenizer()
        taught = self._stream("train", self.corpus.train, tokenizer)
        apart = self.validation.train if self.validation is not self.corpus else self.corpus.held_out
        held = Blocks(self._stream("validation", apart, tokenizer), self.order.context)
        validation, blocks = Mix([(held, len(held))]), Blocks(taught, self.order.context)
        plan = planned(self.order, len(tokenizer), len(taught.tokens))
        lessons = Mix([(blocks, plan.tokens // self.order.context)])
        plan = replace(plan, predicted=self._predicted(plan, tokenizer, lessons, validation[:VALIDATION_BLOCKS]))
        network = self._network(plan, tokenizer)
        self.watcher.planned(plan)
        evaluate = self._evaluate(network, validation[:VALIDATION_BLOCKS])
        with Meter() as meter:
            done = train(network, lessons, _settings(self.order, plan), self.work, evaluate, self._step)
        self.watcher.stage("validating")
        loss = lesson_loss(network.eval(), validation[:])
        per_character, per_byte = bits(loss * validation.tokens, apart())
        measured = replace(amount_of_steps(done.steps, done.evaluations), peak_bytes=meter.amount.peak_bytes)
        report = Report(
            out=str(self.order.out),
            parameters=plan.size.parameters,
            layers=plan.size.layers,
            width=plan.size.width,
            vocabulary=plan.size.vocabulary,
            context=self.order.context,
            tokens=lessons.tokens,
            passes=lessons.tokens / plan.corpus_tokens,
            steps=len(done.steps),
            rate=plan.rate,
            loss=loss,
            bits_per_character=per_character,
            bits_per_byte=per_byte,
            validation_tokens=validation.tokens,
            curve=curve_of(done),
            predicted=plan.predicted,
            measured=measured,
        )
        self._hand_over(network, tokenizer, report)
        return report

    def _tokenizer(self) -> Any:
        file = self.work / "tokenizer.json"
        if not file.exists():
            self.watcher.stage("training the tokenizer")
            train_tokenizer(self.corpus.train(), vocabulary_for(self.order.parameters), file)
        return open_tokenizer(file, self.order.context)

    def _stream(self, name: str, documents: Callable[[], Iterable[str]], tokenizer: Any) -> TokenStream:
        folder = self.work / name
        if not folder.exists():
            self.watcher.stage(f"tokenising ({name})")
            beside = self.work / f"{name}.part"
            shutil.rmtree(beside, ignore_errors=True)
            stream = tokenise(documents(), tokenizer)
            if not len(stream.tokens):
                raise TaskError(f"corpus {self.corpus.path}: nothing is left to train on once a part is held out")
            stream.save(beside)
            beside.rename(folder)
        return open_stream(folder)

    def _network(self, plan: Plan, tokenizer: Any) -> Any:
        device = choose_device(self.order.device)
        dtype, (_, end) = choose_dtype(self.order.dtype, device), marks(tokenizer)
        crew.order("new", size=asdict(plan.size), context=self.order.context, end=end, dtype=dtype, device=device)
        return new_network(plan.size, self.order.context, end, self.order.seed, getattr(torch, dtype), device)

    def _predicted(self, plan: Plan, tokenizer: Any, lessons: Mix, validation: list[TokenLesson]) -> Amount:
        """From a few steps of a network that is thrown away; measured once an order, whatever interrupts it."""
        file = self.work / "predicted.json"
        if not file.exists():
            self.watcher.stage("timing a few steps")
            network, settings = self._network(plan, tokenizer), _settings(self.order, plan)
            place = self.work / "probe"  # where every process of a training finds it
            shutil.rmtree(place, ignore_errors=True)
            probe = train(network, lessons, replace(settings, stop_after=_PROBED), place)
            shutil.rmtree(place)
            seconds = figures_of(network, self._evaluate(network, validation))["seconds"]
            step = probe.steps[-1]  # the first ones fill caches
            looks = -(-plan.steps // (settings.every or 1))
            _write(
                file,
                asdict(
                    Amount(
                        seconds=plan.steps * step.seconds + looks * seconds,
                        tokens_in=plan.tokens,
                        flops=plan.tokens * step.flops / step.tokens,
                    )
                ),
            )
        return Amount(**json.loads(file.read_text()))

    def _evaluate(self, network: Any, validation: list[TokenLesson]) -> Callable[[], dict[str, float]]:
        def evaluate() -> dict[str, float]:
            began = time.perf_counter()
            loss = lesson_loss(network, validation)
            self.watcher.validated(loss)
            return {"loss": loss, "seconds": time.perf_counter() - began}

        return evaluate

    def _step(self, step: Step) -> None:
        self.watcher.step(step.step, step.loss, step.seconds)

    def _hand_over(self, network: Any, tokenizer: Any, report: Report) -> None:
        """Write everything beside, then move it into place, what makes it a model last."""
        made = self.work / "model"
        shutil.rmtree(made, ignore_errors=True)
        network.set_attn_implementation("sdpa")
        network.save_pretrained(made, max_shard_size="10TB")
        tokenizer.save_pretrained(made)
        _write(made / REPORT, {"key": self.key, "report": report.to_json()})
        for file in sorted(made.iterdir(), key=lambda file: file.name == "config.json"):
            file.replace(self.order.out / file.name)
        shutil.rmtree(self.work, ignore_errors=True)


def _settings(order: Order, plan: Plan) -> Settings:
    return Settings(
        rate=plan.rate,
        epochs=1,  # passes over the corpus are in the lessons, so that any number of tokens can be asked for
        batch=plan.batch,
        seed=order.seed,
        weight_decay=_WEIGHT_DECAY,
        every=-(-plan.steps // VALIDATIONS),
        patience=plan.steps,  # the schedule ends low: never stopped before
        checkpoint_seconds=_CHECKPOINT_SECONDS,
    )


def _write(file: Path, value: Any) -> None:
    beside = file.with_suffix(".part")
    beside.write_text(json.dumps(value))
    beside.replace(file)

"""Training, against TRL + PEFT and litgpt: real tokens a second on the same lessons, peak memory, the loss on dev.

LoRA and full fine-tuning, on short lessons and long ones. All sides get the same token ids, lessons a step, learning
rate at every step, rank and targets. Each peer trains with the best of some CPU settings, found first. Each measured
training is a process of its own; the sides take turns, a seed a round. One judge (transformers + PEFT, lesson by
lesson) reads the loss on the next lessons (dev) from what TRL and Opportune saved; litgpt's formats it cannot read.

    python -m benchmarks.training [--case trec6-lora]
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.common import model_folder, note, options, save, spread
from benchmarks.worker import Worker
from opportune.models.placing import has_bfloat16

RANK, WARM = 16, 1  # steps of each training that are not timed
Lessons = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Setting:
    """How a peer is run: `rows` lessons in one forward pass."""

    rows: int
    dtype: str = "float32"
    grouped: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One task: `sweep` are the numbers of lessons that a peer may take into one forward pass."""

    task: str
    method: str
    lessons: int
    dev: int
    batch: int
    rate: float
    sweep: tuple[int, ...]
    target: float  # the ratio to TRL to reach
    sweep_steps: int
    emulated: bool = False  # whether to try bfloat16 where the processor has none
    length: int | None = None  # tokens of a lesson cut from a running text; None: a lesson is an example
    seeds: int = 2


CASES = {
    "trec6-lora": Case("trec6", "lora", 256, 128, 16, 1e-3, (4, 8, 16), 3.5, sweep_steps=4, emulated=True, seeds=3),
    "pubmedqa-lora": Case("pubmedqa", "lora", 24, 16, 4, 1e-3, (1, 2, 4), 1.5, sweep_steps=2),
    "peps512-lora": Case("peps_code_docs", "lora", 16, 8, 4, 1e-3, (1, 2), 1.7, sweep_steps=2, length=512),
    "trec6-full": Case("trec6", "full", 256, 128, 16, 1e-4, (4, 8, 16), 2.5, sweep_steps=4),
    "peps512-full": Case("peps_code_docs", "full", 16, 8, 4, 1e-4, (1, 2), 1.5, sweep_steps=2, length=512),
}


def main() -> None:
    """Measure the cases asked for."""
    parser = options(__doc__ or "")
    parser.add_argument("--case", action="append", choices=list(CASES), help="repeatable (default: all)")
    given = parser.parse_args()
    model = model_folder(given.model)
    for name in given.case or list(CASES):
        case = _quick(CASES[name]) if given.quick else CASES[name]
        with tempfile.TemporaryDirectory() as scratch:
            sides = [Trl(case, given.threads, model, scratch), Litgpt(case, given.threads, model, scratch)]
            bench = Bench(case, given.threads, model, Path(given.data, case.task).resolve(), sides)
            save(given.out, f"training-{name}", bench.measure(Path(scratch)) | {"quick": given.quick})


class Trl:
    """TRL's SFTTrainer with PEFT."""

    def __init__(self, case: Case, threads: int, model: str, scratch: str) -> None:
        self.case, self._threads, self._model = case, threads, model
        self._python = peers.python()

    def worker(self) -> Worker:
        """A process of this side."""
        return Worker(self._python, "benchmarks.peer_trl", self._threads)

    def name(self, versions: dict[str, Any]) -> str:
        """With versions."""
        return f"TRL {versions['trl']}" + (f" + PEFT {versions['peft']}" if self.case.method == "lora" else "")

    def groupings(self, best: Setting) -> list[Setting]:
        """The best number of rows, lessons put together by length."""
        return [replace(best, grouped=True)] if len(self.case.sweep) > 1 else []

    def learn(self, worker: Worker, setting: Setting, lessons: Lessons, **work: Any) -> dict[str, Any]:
        """Some steps, or an epoch whose weights go to `folder`."""
        work.pop("dev", None)
        run: dict[str, Any] = worker.ask(do="learn", model=self._model, lessons=lessons, **work, **asdict(setting))
        return run


class Litgpt:
    """litgpt's own loops."""

    def __init__(self, case: Case, threads: int, model: str, scratch: str) -> None:
        self.case, self._threads = case, threads
        self._python = peers.python(peers.LITGPT)
        with self.worker() as worker:
            self._model = worker.ask(do="convert", model=model, folder=scratch)

    def worker(self) -> Worker:
        """A process of this side."""
        return Worker(self._python, "benchmarks.peer_litgpt", self._threads)

    def name(self, versions: dict[str, Any]) -> str:
        """With versions."""
        return f"litgpt {versions['litgpt']}"

    def groupings(self, best: Setting) -> list[Setting]:
        """It has none."""
        return []

    def learn(self, worker: Worker, setting: Setting, lessons: Lessons, **work: Any) -> dict[str, Any]:
        """Some steps, or an epoch and the loss on `dev` after it."""
        work.pop("folder", None)
        how = {"rows": setting.rows, "dtype": setting.dtype, "dev": work.pop("dev", [])}
        run: dict[str, Any] = worker.ask(do="learn", model=self._model, lessons=lessons, **work, **how)
        return run


@dataclass(frozen=True, slots=True)
class Bench:
    """One case on one machine."""

    case: Case
    threads: int
    model: str
    source: Path
    sides: list[Any]

    def measure(self, scratch: Path) -> dict[str, Any]:
        """The figures of the case."""
        case = self.case
        with self._own() as own:
            dtype = own.ask(do="load", model=self.model, dtype="auto")["dtype"]
            lessons, dev = self._lessons(own, 0, case.lessons), self._lessons(own, case.lessons, case.dev)
        tried = [self._sweep(side, lessons) for side in self.sides]
        rounds = [self._round(seed, tried, lessons, dev, scratch) for seed in range(case.seeds)]
        with self.sides[0].worker() as judge:
            untrained = judge.ask(do="judge", method=case.method, model=self.model, folder=None, lessons=dev)
            for run in (run for runs in rounds for run in runs if "folder" in run):
                asked = {"method": case.method, "model": self.model, "folder": run["folder"], "lessons": dev}
                run["dev_loss"] = judge.ask(do="judge", **asked)
        ours = _side([runs[-1] for runs in rounds])
        real = sum(len(lesson["ids"]) for lesson in lessons)
        how = f"LoRA rank {RANK}" if case.method == "lora" else "full fine-tuning"
        return {
            "unit": "real tokens/s",
            "work": f"{case.task}, {how}, {case.lessons} lessons of {real / len(lessons):.0f} tokens",
            "threads": self.threads,
            "batch": case.batch,
            "rate": case.rate,
            "dev_lessons": case.dev,
            "untrained_dev_loss": untrained,
            "opportune": {"dtype": dtype, **ours},
            "peers": [
                found | _compared(ours, _side([runs[place] for runs in rounds])) for place, found in enumerate(tried)
            ],
            "ratio_to_reach": case.target,
        }

    def _lessons(self, own: Worker, first: int, count: int) -> Lessons:
        asked: dict[str, Any] = {"do": "lessons", "folder": str(self.source), "split": "train"}
        if self.case.length is not None:
            asked = {"do": "windows", "path": str(self.source / "train.txt"), "length": self.case.length}
        found: Lessons = own.ask(first=first, count=count, **asked)
        return found

    def _sweep(self, side: Any, lessons: Lessons) -> dict[str, Any]:
        """The side's speed under each setting: first the rows, then lessons grouped by length, then bfloat16."""
        case = self.case
        with side.worker() as worker:
            versions = worker.ask(do="versions")
            tried = [self._tried(side, worker, Setting(rows), lessons) for rows in case.sweep]
            tried += [self._tried(side, worker, setting, lessons) for setting in side.groupings(_best(tried))]
            if has_bfloat16("cpu") or case.emulated:
                best = _best(tried)
                some = [replace(best, dtype=dtype) for dtype in ("autocast", "bfloat16")]
                tried += [self._tried(side, worker, setting, lessons) for setting in some]
        name = side.name(versions)
        note(f"{case.task}: {name} is best with {_best(tried)}")
        return {
            "name": name,
            "setting": asdict(_best(tried)),
            "tokens_per_second_by_setting": [asdict(one) | {"speed": round(rate, 2)} for one, rate in tried],
            "torch": versions["torch"],
        }

    def _tried(self, side: Any, worker: Worker, setting: Setting, lessons: Lessons) -> tuple[Setting, float]:
        """A few steps, the first not timed. A bfloat16 that the processor must emulate is several times slower: one
        short step tells."""
        work, some, steps = self._work(0), lessons, self.case.sweep_steps
        if setting.dtype != "float32" and not has_bfloat16("cpu"):
            setting = replace(setting, rows=min(setting.rows, 4))
            work["batch"], some, steps = setting.rows, lessons[: setting.rows], 1
        run = side.learn(worker, setting, some, steps=steps, **work)
        note(f"{type(side).__name__} with {setting}: {_speed(run):.0f} tokens/s")
        return setting, _speed(run)

    def _round(self, seed: int, tried: list[Any], lessons: Lessons, dev: Lessons, scratch: Path) -> list[Any]:
        """One training on each side, Opportune's last."""
        work, runs = self._work(seed), []
        for side, found in zip(self.sides, tried, strict=True):
            folder = str(scratch / f"{type(side).__name__}-{seed}")
            with side.worker() as worker:
                run = side.learn(worker, Setting(**found["setting"]), lessons, folder=folder, dev=dev, **work)
            runs.append(run if "dev_loss" in run else run | {"folder": folder})
        folder = str(scratch / f"opportune-{seed}")
        with self._own() as own:
            own.ask(do="load", model=self.model, dtype="auto")
            runs.append(own.ask(do="learn", lessons=lessons, folder=folder, **work) | {"folder": folder})
        note(f"seed {seed}: {', '.join(f'{_speed(run):.0f}' for run in runs)} tokens/s, Opportune's last")
        return runs

    def _work(self, seed: int) -> dict[str, Any]:
        case = self.case
        return {"method": case.method, "rank": RANK, "rate": case.rate, "batch": case.batch, "seed": seed}

    def _own(self) -> Worker:
        return Worker(Path(sys.executable), "benchmarks.own", self.threads)


def _compared(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """A peer's figures, and Opportune's over them."""
    return theirs | {
        "ratio": round(ours["speed"]["median"] / theirs["speed"]["median"], 2),
        "memory_ratio": round(ours["peak_bytes"] / theirs["peak_bytes"], 3),
    }


def _best(tried: list[tuple[Setting, float]]) -> Setting:
    return max(tried, key=lambda item: item[1])[0]


def _speed(run: dict[str, Any]) -> float:
    """Real tokens a second after the warm-up, where there is more than that."""
    warm = WARM if len(run["seconds"]) > WARM else 0
    return float(sum(run["tokens"][warm:]) / sum(run["seconds"][warm:]))


def _side(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "speed": spread([_speed(run) for run in runs]),
        "peak_bytes": max(run["peak_bytes"] for run in runs),
        "bytes_before_training": max(run["bytes_before"] for run in runs),
        "dev_loss": spread([run["dev_loss"] for run in runs]),
        "training_loss": [[round(loss, 4) for loss in run["losses"]] for run in runs],
    }


def _quick(case: Case) -> Case:
    return replace(case, lessons=2 * case.batch, dev=4, sweep=case.sweep[:1], emulated=False, seeds=1)


if __name__ == "__main__":
    main()

"""Training, against TRL + PEFT: real tokens a second of LoRA on the same lessons, peak memory, and the loss on dev.

Both sides get the same token ids, lessons a step, learning rate at every step, rank and targets. TRL trains with the
best of some CPU settings, found first. Each measured training is a process of its own; the sides take turns, a seed a
round. One judge (transformers + PEFT, lesson by lesson) reads the loss on the
next lessons (dev) from the adapters that both saved.

    python -m benchmarks.training [--task trec6]
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


@dataclass(frozen=True, slots=True)
class Setting:
    """How TRL is run: `rows` lessons in one forward pass."""

    rows: int
    dtype: str = "float32"
    grouped: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One task: `sweep` are the numbers of lessons that TRL may take into one forward pass."""

    task: str
    lessons: int
    dev: int
    batch: int
    rate: float
    sweep: tuple[int, ...]
    target: float  # the ratio to reach
    sweep_steps: int
    emulated: bool  # whether to try bfloat16 where the processor has none
    seeds: int = 2


CASES = {
    "trec6": Case("trec6", 256, 128, 16, 1e-3, (4, 8, 16), 3.0, sweep_steps=4, emulated=True, seeds=3),
    "pubmedqa": Case("pubmedqa", 24, 16, 4, 1e-3, (1, 2, 4), 1.5, sweep_steps=2, emulated=False),
}


def main() -> None:
    """Measure the tasks asked for."""
    parser = options(__doc__ or "")
    parser.add_argument("--task", action="append", choices=list(CASES), help="repeatable (default: both)")
    given = parser.parse_args()
    interpreter, model = peers.python(), model_folder(given.model)
    for name in given.task or list(CASES):
        case = _quick(CASES[name]) if given.quick else CASES[name]
        bench = Bench(interpreter, model, str(Path(given.data, name).resolve()), given.threads, case)
        save(given.out, f"training-{name}", bench.measure() | {"quick": given.quick})


@dataclass(frozen=True, slots=True)
class Bench:
    """One case on one machine."""

    interpreter: Path
    model: str
    folder: str
    threads: int
    case: Case

    def measure(self) -> dict[str, Any]:
        """The figures of the case."""
        case = self.case
        with self._own() as own:
            dtype = own.ask(do="load", model=self.model, dtype="auto")["dtype"]
            lessons = own.ask(do="lessons", folder=self.folder, split="train", first=0, count=case.lessons)
            dev = own.ask(do="lessons", folder=self.folder, split="train", first=case.lessons, count=case.dev)
        with self._peer() as peer:
            versions = peer.ask(do="versions")
            tried = self._sweep(peer, lessons)
        best = _best(tried)
        note(f"{case.task}: TRL is best with {best}")
        with tempfile.TemporaryDirectory() as scratch:
            rounds = [self._round(seed, best, lessons, Path(scratch)) for seed in range(case.seeds)]
            with self._peer() as peer:
                untrained = peer.ask(do="judge", model=self.model, folder=None, lessons=dev)
                for theirs, ours in rounds:
                    for run in (theirs, ours):
                        run["dev_loss"] = peer.ask(do="judge", model=self.model, folder=run["folder"], lessons=dev)
        theirs, ours = [_side([pair[side] for pair in rounds]) for side in (0, 1)]
        real = sum(len(lesson["ids"]) for lesson in lessons)
        return {
            "unit": "real tokens/s",
            "work": f"{case.task}, LoRA rank {RANK}, {case.lessons} lessons of {real / len(lessons):.0f} tokens",
            "threads": versions.pop("threads"),
            "batch": case.batch,
            "rate": case.rate,
            "dev_lessons": case.dev,
            "untrained_dev_loss": untrained,
            "peer": {
                "name": f"TRL {versions['trl']} + PEFT {versions['peft']}",
                "setting": asdict(best),
                "tokens_per_second_by_setting": [asdict(one) | {"speed": round(rate, 2)} for one, rate in tried],
                "torch": versions["torch"],
                **theirs,
            },
            "opportune": {"dtype": dtype, **ours},
            "ratio": round(ours["speed"]["median"] / theirs["speed"]["median"], 2),
            "ratio_to_reach": case.target,
            "memory_ratio": round(ours["peak_bytes"] / theirs["peak_bytes"], 3),
        }

    def _sweep(self, peer: Worker, lessons: list[Any]) -> list[tuple[Setting, float]]:
        """TRL's speed under each setting: first the rows, then lessons grouped by length, then bfloat16."""
        case = self.case
        tried = [self._tried(peer, Setting(rows), lessons) for rows in case.sweep]
        if len(case.sweep) > 1:
            tried.append(self._tried(peer, replace(_best(tried), grouped=True), lessons))
        if has_bfloat16("cpu") or case.emulated:
            best = _best(tried)
            tried += [self._tried(peer, replace(best, dtype=dtype), lessons) for dtype in ("autocast", "bfloat16")]
        return tried

    def _tried(self, peer: Worker, setting: Setting, lessons: list[Any]) -> tuple[Setting, float]:
        """A few steps, the first not timed. A bfloat16 that the processor must emulate is several times slower: one
        short step tells."""
        work, some, steps = self._work(0), lessons, self.case.sweep_steps
        if setting.dtype != "float32" and not has_bfloat16("cpu"):
            setting = replace(setting, rows=min(setting.rows, 4))
            work["batch"], some, steps = setting.rows, lessons[: setting.rows], 1
        run = peer.ask(do="learn", lessons=some, steps=steps, **work, **asdict(setting))
        note(f"TRL with {setting}: {_speed(run):.0f} tokens/s")
        return setting, _speed(run)

    def _round(self, seed: int, best: Setting, lessons: list[Any], scratch: Path) -> tuple[Any, Any]:
        """One training on each side."""
        folders = [str(scratch / f"{side}-{seed}") for side in ("peer", "opportune")]
        work = self._work(seed)
        with self._peer() as peer:
            theirs = peer.ask(do="learn", lessons=lessons, folder=folders[0], **work, **asdict(best))
        with self._own() as own:
            own.ask(do="load", model=work.pop("model"), dtype="auto")
            ours = own.ask(do="learn", lessons=lessons, folder=folders[1], **work)
        note(f"seed {seed}: TRL {_speed(theirs):.0f}, Opportune {_speed(ours):.0f} tokens/s")
        return theirs | {"folder": folders[0]}, ours | {"folder": folders[1]}

    def _work(self, seed: int) -> dict[str, Any]:
        case = self.case
        return {"model": self.model, "rank": RANK, "rate": case.rate, "batch": case.batch, "seed": seed}

    def _peer(self) -> Worker:
        return Worker(self.interpreter, "benchmarks.peer_trl", self.threads)

    def _own(self) -> Worker:
        return Worker(Path(sys.executable), "benchmarks.own", self.threads)


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

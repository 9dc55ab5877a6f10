"""Is LoRA less flexible on complex tasks? Rank 1, 4, 16, 64 against full fine-tuning on SCAN's simple split.

python -m benchmarks.flexibility

2,000 training examples, read once; each arm at its own learning rate, chosen on dev among four. Schulman 2025 expects
equal scores as long as the adapter's capacity is not exceeded. Goes on where an earlier sitting stopped.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import scan
from benchmarks.common import note, options, read, save
from benchmarks.compared import row_of
from benchmarks.kept import accuracy_by, keep_option, measure_kept
from opportune.api import task_from_records

RANKS, EPOCHS = (1, 4, 16, 64), 1
SIZES = {"train": 2000, "dev": 100, "test": 200}
QUICK = {"train": 8, "dev": 2, "test": 4}
BANDS = (8, 16, 24, 48)  # actions, up to


def main() -> None:
    """One run with all arms."""
    given = keep_option(options(__doc__ or "")).parse_args()
    sizes, epochs = (QUICK, 1) if given.quick else (SIZES, EPOCHS)
    folder = str(Path(given.data, "scan_simple"))
    rows = scan.rows(read(folder, "train"))
    task = task_from_records(
        {
            "train": rows[: sizes["train"]],
            "dev": rows[sizes["train"] :][: sizes["dev"]],
            "test": scan.rows(read(folder, "test"))[: sizes["test"]],
        },
        name="SCAN, simple split",
        metric="exact-match",
        kind="text",
        instruction=scan.INSTRUCTION,
    )
    recipes = [*(f"lora:rank={rank},epochs={epochs}+zero-shot" for rank in RANKS), f"full:epochs={epochs}+zero-shot"]
    found = measure_kept(task, recipes[:1] + recipes[-1:] if given.quick else recipes, given.model, given.runs)
    by_length = accuracy_by(given.runs, found, lambda _, target: next(b for b in BANDS if len(target.split()) <= b))
    arms = []
    for row in found.rows:
        (seed,) = row.seeds
        arms.append(
            row_of(row)
            | {
                "rate": seed.facts.rate,
                "rate_at_edge": seed.facts.rate_at_edge,
                "trainable": seed.facts.trainable_parameters,
                "training_seconds": row.measured.training.seconds,
                "tuning_seconds": row.measured.tuning.seconds,
                "by_length": by_length[row.recipe],
            }
        )
        note(f"{row.recipe}: {row.score and row.score.value:.3f} at {seed.facts.rate}")
    work = f"SCAN simple, {', '.join(f'{count} {split}' for split, count in sizes.items())}, read once"
    save(given.out, "flexibility", {"work": work, "quick": given.quick, "rows": arms})


if __name__ == "__main__":
    main()

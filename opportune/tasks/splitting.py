"""Train, dev and test: as given, the missing ones drawn from train, nothing shared between them, cut to a limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opportune.errors import TaskError
from opportune.tasks.duplicates import group_key, inseparable, near_duplicates, question_key, without
from opportune.tasks.examples import Draft, Drafts
from opportune.tasks.sampling import hold_out, keep
from opportune.types import Split

TEST_SHARE, MOST_TEST = 0.20, 1000
DEV_SHARE, MOST_DEV = 0.15, 300  # of what test leaves
FEWEST = 4  # examples: two to learn from, one to choose by, one to test with
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
Limit = int | str | Mapping[str, int]


def split_examples(drafts: Drafts, by_label: bool, seed: int) -> tuple[Drafts, tuple[str, ...]]:
    """All three splits, with what was removed or drawn. Raises TaskError when one of them stays empty.

    What test holds is removed from dev and train, what dev holds from train: by question and by group. A split drawn
    from train takes or leaves all examples of one question or group.
    """
    count = sum(map(len, drafts.values()))
    if count < FEWEST:
        raise TaskError(f"{drafts['train'][0].place}: only {count} examples in all; at least {FEWEST} are needed")
    train, dev, test = drafts["train"], drafts.get("dev", []), drafts.get("test", [])
    notes: list[str] = []
    dev = _apart(dev, "dev", test, "test", notes)
    train = _apart(train, "train", [*dev, *test], "dev or test", notes)
    if "test" not in drafts:
        train, test = _draw("test", train, _size(train, TEST_SHARE, MOST_TEST), by_label, seed, notes)
    if "dev" not in drafts:
        train, dev = _draw("dev", train, _size(train, DEV_SHARE, MOST_DEV), by_label, seed, notes)
    settled: Drafts = {"train": train, "dev": dev, "test": test}
    for split, part in settled.items():
        if not part:
            raise TaskError(f"no examples left for {split}" + (f" ({'; '.join(notes)})" if notes else ""))
    return settled, tuple(notes)


def limit_examples(drafts: Drafts, limit: Limit | None, by_label: bool, seed: int) -> tuple[Drafts, tuple[str, ...]]:
    """At most so many examples of each split, in their order. Train keeps one of every label while there is room."""
    limited, notes = dict(drafts), []
    for split, most in parse_limit(limit).items():
        part = drafts[split]
        labels = _labels(part, by_label)
        chosen = keep(labels, most, f"{split} limit:{seed}", every_label=split == "train")
        limited[split] = [draft for index, draft in enumerate(part) if index in chosen]
        all_there_are = f"{len(part)} examples are all there are, {most} were asked for"
        notes.append(f"{split}: {all_there_are if len(part) < most else f'limited to {most} of {len(part)}'}")
        missing = len(set(labels)) - len(set(_labels(limited[split], by_label)))
        if split == "train" and missing:
            notes.append(f"train: {missing} of {len(set(labels))} labels have no example within the limit")
    return limited, tuple(notes)


def parse_limit(limit: Limit | None) -> dict[Split, int]:
    """At most so many examples by split. A number holds for every split; else "train=128,dev=60,test=150"."""
    if limit is None:
        return {}
    if isinstance(limit, str) and "=" in limit:
        limit = {name.strip(): _positive(number) for name, _, number in (p.partition("=") for p in limit.split(","))}
    if isinstance(limit, Mapping):
        unknown = [name for name in limit if name not in SPLITS]
        if unknown:
            raise TaskError(f"limit: {unknown[0]!r} is no split; they are {', '.join(SPLITS)}")
        return {split: _positive(limit[split]) for split in SPLITS if split in limit}
    return dict.fromkeys(SPLITS, _positive(limit))


def near_duplicate_notes(drafts: Drafts) -> tuple[str, ...]:
    """How many dev and test inputs nearly repeat a train input, with an example of each."""
    notes = []
    train = [draft.example.input for draft in drafts["train"]]
    held_out: tuple[Split, ...] = ("dev", "test")
    for split in held_out:
        held = [draft.example.input for draft in drafts[split]]
        pairs = near_duplicates(held, train)
        if pairs:
            first, like = held[pairs[0][0]], train[pairs[0][1]]
            example = f"such as {_short(first)}, like {_short(like)}"
            notes.append(f"{split}: {len(pairs)} of {len(held)} inputs nearly repeat a train input, kept; {example}")
    return tuple(notes)


def _apart(part: list[Draft], name: str, held: Sequence[Draft], held_name: str, notes: list[str]) -> list[Draft]:
    """The examples that share no question and no group with those held out."""
    for key, what in ((question_key, "question"), (group_key, "group")):
        left = without(part, key, held)
        if len(left) < len(part):
            notes.append(f"{len(part) - len(left)} {name} examples removed, whose {what} is in {held_name} too")
        part = left
    return part


def _draw(
    name: str, train: list[Draft], count: int, by_label: bool, seed: int, notes: list[str]
) -> tuple[list[Draft], list[Draft]]:
    """Train without the new split, and the split."""
    held = hold_out(_labels(train, by_label), inseparable(train), count, f"{name}:{seed}")
    if not held:
        hint = "every label has one example only, or one group holds nearly all; give more examples or the split itself"
        raise TaskError(f"no examples left for {name}: of {len(train)} in train none can be spared ({hint})")
    notes.append(f"{name}: {len(held)} of {len(train)} examples drawn from train (seed {seed})")
    return [d for i, d in enumerate(train) if i not in held], [d for i, d in enumerate(train) if i in held]


def _size(train: Sequence[Draft], share: float, most: int) -> int:
    return min(most, max(1, round(share * len(train))))


def _labels(drafts: Sequence[Draft], by_label: bool) -> list[str]:
    return [draft.example.target if by_label else "" for draft in drafts]


def _positive(value: int | str) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if number < 1:
        raise TaskError(
            f"limit: a whole number from 1 is expected, as in 500 or train=128,dev=60,test=150, not {value!r}"
        )
    return number


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")

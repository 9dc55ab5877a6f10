"""Continual pretraining on Python's enhancement proposals: what replay of general text gains and costs.

python -m benchmarks.continual

Arms of the same number of tokens at the same learning rate: replay 0, 5 and 25 % of WikiText, and general text alone
(the control). For each the loss on proposals held out and on WikiText's test text, before and after; and closed-book
questions about the proposals that every arm has read, as they are, with typing errors, and put in other words. A run
that was cut off goes on where it stopped.
"""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import note, options, save

REPLAYS = (0.0, 0.05, 0.25, 1.0)
TOKENS, RATE, BLOCK = 100_000, 3e-4, 512
CHOICES = 4
FIELDS = {  # header of a proposal -> the question, and the same in other words
    "Title": ("What is the title of PEP {number}?", "PEP {number}: which title does it carry?"),
    "Author": ("Who wrote PEP {number}, {title}?", "{title} (PEP {number}) is the work of which author?"),
    "Status": ("What is the status of PEP {number}, {title}?", "{title}, PEP {number}: how did it end?"),
    "Created": ("In which year was PEP {number}, {title}, created?", "PEP {number} ({title}) dates from which year?"),
}
VARIANTS = ("plain", "typos", "paraphrase")


def main() -> None:
    """One comparison of all arms on the questions."""
    parser = options(__doc__ or "")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of each arm (default %(default)s)")
    parser.add_argument("--rate", type=float, default=RATE, help="of each arm (default %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path(tempfile.gettempdir(), "opportune-continual"))
    given = parser.parse_args()
    import torch

    from opportune.api import compare
    from opportune.comparison import show_json
    from opportune.store import Store

    torch.set_num_threads(given.threads)
    data = Path(given.data).resolve()
    corpus, general = data / "peps_code_docs" / "train.txt", data / "wikitext2_small"
    tokens, block, most = (1024, 64, 4) if given.quick else (given.tokens, BLOCK, None)
    sizes = f"tokens={tokens},context={block},rate={given.rate}"
    recipes = [_recipe(corpus, general / "train.txt", replay, sizes) for replay in REPLAYS]
    task = _task(corpus, given.model, max(4 * BLOCK, round(tokens * (1 - REPLAYS[2]))), most)
    note(f"{len(task.test)} questions, {len(recipes)} arms of {tokens:,} tokens; kept in {given.runs}")
    compared = compare(
        task,
        recipes=["zero-shot:format=plain", *recipes],
        models=[given.model] if given.model else [],
        general=None if given.quick else general / "test.txt",
        runs=given.runs,
    )
    with Store.open(given.runs, create=False) as store:
        shown = show_json(store, compared.run)
    rows = [_row(row, shown["outcomes"]) for row in shown["rows"]]
    work = {"corpus": "peps_code_docs", "general": "wikitext2_small", "tokens": tokens, "rate": given.rate}
    models = [{key: model[key] for key in ("name", "parameters", "digest")} for model in shown["models"]]
    save(given.out, "continual", {"work": work, "quick": given.quick, "models": models, "rows": rows})


def _recipe(corpus: Path, general: Path, replay: float, sizes: str) -> str:
    mixed = f',general="{general}",replay={replay}' if replay else ""
    return f'continual:corpus="{corpus}",{sizes}{mixed}+zero-shot:format=plain'


def _row(row: dict[str, Any], outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    own = [o for o in outcomes if o["recipe"] == row["recipe"] and o["split"] == "test"]
    scores = {variant: [o["score"] for o in own if o["example"].startswith(variant)] for variant in VARIANTS}
    read = row["read"][0] if row["read"] else None
    return {
        "recipe": re.sub(r'"[^"]*/([^"]*)"', r"\1", row["recipe"]),
        "replay": read["replayed"] / read["tokens"] if read else None,
        "target": read and {name: read["held_out"][name] for name in ("tokens", "before", "after")},
        "general": row["forgetting"] and {name: row["forgetting"][name] for name in ("tokens", "before", "after")},
        "questions": {
            variant: {"accuracy": sum(some) / len(some), "n": len(some)} for variant, some in scores.items() if some
        },
        "cost": {name: row["cost"][name]["measured"] for name in ("tuning", "training")},
    }


# ---- the questions --------------------------------------------------------------------------------------------------


def _task(corpus: Path, model: str | None, tokens: int, most: int | None) -> Any:
    """Questions about the proposals within the first `tokens` tokens that are trained on; train and dev are about
    others."""
    from opportune.corpus.division import divided
    from opportune.corpus.stream import tokenise
    from opportune.models.loading import load_model
    from opportune.types import Example, Task

    tokenizer = load_model(model).tokenizer
    documents = list(divided(corpus).train())
    starts = tokenise(documents, tokenizer).starts
    read = [text for text, start in zip(documents, starts, strict=True) if start + BLOCK <= tokens]
    pools = {field: sorted({known[field] for known in map(_header, documents) if field in known}) for field in FIELDS}
    asked = list(_questions(read, pools))[:most]
    others = list(_questions(documents[len(read) :], pools))[:16]
    test = [
        Example(f"{variant}-{place}", question[variant], question["target"], question["choices"])
        for variant in VARIANTS
        for place, question in enumerate(asked)
    ]
    rest = [Example(f"other-{i}", q["plain"], q["target"], q["choices"]) for i, q in enumerate(others)]
    instruction = "Answer the question about Python's enhancement proposals (PEPs)."
    return Task("peps", instruction, "choice", None, "accuracy", tuple(rest[:8]), tuple(rest[8:]), tuple(test))


def _header(text: str) -> dict[str, str]:
    """The fields at the top of a proposal."""
    top = text.split("\n\n", 1)[0]
    found = dict(re.findall(r"^(PEP|Title|Author|Status|Created): *(.+)$", top, re.MULTILINE))
    if "Author" in found:
        found["Author"] = re.sub(r"\s*<[^>]*>.*", "", found["Author"].split(",")[0]).strip()
    if "Created" in found:
        found["Created"] = found["Created"][-4:]
    return found


def _questions(documents: list[str], pools: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
    for header in map(_header, documents):
        if not {"PEP", "Title"} <= set(header):
            continue
        draw = random.Random(header["PEP"])
        for field, (plain, other) in FIELDS.items():
            wrong = [value for value in pools[field] if value != header.get(field)]
            if field not in header or len(wrong) < CHOICES - 1:
                continue
            choices = [header[field], *draw.sample(wrong, CHOICES - 1)]
            draw.shuffle(choices)
            about = {"number": header["PEP"], "title": header["Title"]}
            question = plain.format(**about)
            yield {
                "plain": question,
                "typos": _mistyped(question, draw),
                "paraphrase": other.format(**about),
                "target": header[field],
                "choices": tuple(choices),
            }


def _mistyped(text: str, draw: random.Random) -> str:
    """Neighbouring letters swapped in about every third word of four letters or more; numbers stay."""
    words = text.split(" ")
    for place, word in enumerate(words):
        if len(word) > 3 and word.isalpha() and draw.random() < 1 / 3:
            at = draw.randrange(len(word) - 1)
            words[place] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


if __name__ == "__main__":
    main()

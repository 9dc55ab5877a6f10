"""Opportune: prompt it or tune it? Measure it.

    tasks/        where examples come from            strategies/   how to ask, one technique a file
    methods/      which weights move                  models/       whom to ask, one backend a file
    metrics/      how good, one metric a file         inference/    token trees, batched decoding
    training/     the one training loop               corpus/       text to read, in blocks
    pretraining/  a model from nothing but text       planner/      what it will cost
    report/       tables, plots, the HTML page

    evaluate.py  recipe.py  run.py     makers: model x strategy x task -> outcomes -> run, in the store
    comparison.py  statistics.py       readers: run -> comparison
    api.py  cli/                       the faces

Public names are imported when first used, so that `import opportune` is fast.
"""

from __future__ import annotations

from typing import Any

_PLACES = {
    "Amount": "cost",
    "Answer": "types",
    "Comparison": "rows",
    "Cost": "cost",
    "Example": "types",
    "Lesson": "types",
    "Message": "types",
    "OpportuneError": "errors",
    "Prompt": "types",
    "Task": "types",
    "ask": "api",
    "compare": "api",
    "curve": "api",
    "export": "api",
    "load_task": "api",
    "show": "api",
}

__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'opportune' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"opportune.{_PLACES[name]}"), name)

"""The house's own rules: imports point one way, tables are complete, files stay small, help is fast to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import opportune

ROOT = Path(opportune.__file__).parent
# Each layer may import the layers before it, and itself unless it is a row of peers.
LAYERS = [
    {"errors", "words"},
    {"types"},
    {"spec", "cost", "values", "reading"},
    {"options", "own_code", "database", "products", "widths"},
    {"tasks", "strategies", "methods", "metrics"},
    {"inference"},
    {"models"},
    {"training", "planner"},
    {"corpus", "peaks"},
    {"records"},
    {"migrations"},
    {"statistics", "distributions"},
    {"scoring", "advantage"},
    {"shift", "labels"},
    {"rows"},
    {"schema", "recommend", "reasoned", "volume"},
    {"store"},
    {"evaluate"},
    {"recipe"},
    {"journal", "estimate", "aside", "ledger", "budget", "fits"},
    {"bill", "forgetting"},
    {"course"},
    {"artefacts", "pretraining", "settings"},
    {"arm", "checking", "together"},
    {"run"},
    {"answering", "comparison"},
    {"parity", "curves"},
    {"lens", "exporting"},
    {"report"},
    {"api"},
    {"cli"},
    {"__init__", "__main__"},
]
READERS = (
    "records",
    "migrations",
    "database",
    "statistics",
    "distributions",
    "scoring",
    "shift",
    "rows",
    "schema",
    "reasoned",
    "store",
    "comparison",
    "report.page",
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def modules():
    return sorted(ROOT.rglob("*.py"))


def unit(path):
    """The layer's name of a file: its folder, or its own name at the top."""
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path, *, top_level_only=False):
    """Own modules that a file imports."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "opportune":
            names = node.module.split(".")[1:]
            yield from [names[0]] if names else [alias.name for alias in node.names]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    mine = unit(path)
    for other in imports(path):
        if other in RANK and other != mine:
            assert RANK[other] < RANK[mine], f"{mine} may not import {other}"


def test_every_module_has_its_layer():
    assert {unit(path) for path in modules()} <= set(RANK)


@pytest.mark.parametrize("folder", ["strategies", "methods", "metrics", "models"])
def test_every_entry_of_a_table_is_there_and_every_technique_is_in_it(folder):
    import importlib

    table = importlib.import_module(f"opportune.{folder}").TABLE
    for place in table.values():
        module, _, name = place.partition(":")
        found = getattr(importlib.import_module(module), name)
        assert found.__doc__
        assert found.summary
        assert found.source
    listed = {place.partition(":")[0].rpartition(".")[2] for place in table.values()}
    techniques = {path.stem for path in (ROOT / folder).glob("*.py") if "source: ClassVar" in path.read_text()}
    assert techniques <= listed


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_have_one_purpose_and_say_it(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 320
    assert ast.get_docstring(ast.parse(text))


def test_readers_never_import_torch():
    names = ", ".join(f"opportune.{name}" for name in READERS)
    code = f"import {names}, sys; assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_line_starts_without_heavy_imports():
    heavy = ["torch", "transformers", "sqlalchemy", "pandas", "numpy", "sklearn", "rich", "jinja2"]
    code = f"import opportune.cli.main, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_sorted_and_there():
    assert list(opportune.__all__) == sorted(opportune.__all__)
    for name in opportune.__all__:
        assert getattr(opportune, name)

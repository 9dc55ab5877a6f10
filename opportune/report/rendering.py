"""HTML from the templates beside this file; everything that is put into one is escaped."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from opportune.report import numbers

_FOLDER = Path(__file__).parent / "templates"


def render(template: str, **context: Any) -> Markup:
    """The template filled in."""
    return Markup(_environment().get_template(template).render(**context))  # the template has escaped its parts


def asset(name: str) -> Markup:
    """A style sheet or script of ours, as it is."""
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))


def policy(style: str, script: str | None = None) -> str:
    """The Content-Security-Policy of a page that may use this style sheet and script, and nothing else."""
    scripts = f" script-src '{_hash(script)}';" if script is not None else ""
    return f"default-src 'none'; style-src '{_hash(style)}';{scripts} base-uri 'none'; form-action 'none'"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def write_whole(path: Path, page: str) -> Path:
    """Write a page; an old one stays until the new is whole."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(page, encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def breakable(recipe: str) -> Markup:
    """The recipe as code that breaks after its separators rather than inside a word."""
    parts = re.split(r"(?<=[,+:(\[])|(?=@)", recipe)
    return Markup("<code>{}</code>").format(Markup("<wbr>").join(Markup("<span>{}</span>").format(p) for p in parts))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "recipe": breakable,
        "duration": numbers.duration,
        "memory": numbers.memory,
        "money": numbers.money,
        "quantity": numbers.count,
        "flops": numbers.flops,
        "joules": numbers.joules,
        "rate": numbers.rate,
        "score": numbers.score,
        "bill": numbers.bill,
    }
    return environment

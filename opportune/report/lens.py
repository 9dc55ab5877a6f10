"""The lens shown: in the terminal, as JSON, and as one self-contained page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.columns import Columns
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from opportune.distributions import bits
from opportune.lens import Apart, Choice, Lens, Reading
from opportune.report import lens_plots, numbers, plots
from opportune.report.figures import Figure
from opportune.report.lens_plots import Bar
from opportune.report.rendering import asset, policy, render, write_whole
from opportune.report.terminal import console

SCHEMA = 1
_BAR = 8  # characters of a bar for a probability of 1
_LONGEST = 28  # characters of a token or an answer
_CHOICES = 20  # of a page: the likeliest
_EIGHTHS = " ▏▎▍▌▋▊▉"


def probability(value: float | None) -> str:
    """As `0.123`, or with two digits that count where it is small: `0.0012`, `3.1e-09`."""
    if value is None:
        return numbers.UNKNOWN
    return f"{value:.3f}" if value >= 0.0995 or value == 0 else f"{value:#.2g}"


def in_bits(nats: float | None) -> str:
    """Nats as bits, to two places."""
    return numbers.UNKNOWN if nats is None else f"{bits(nats):.2f}"


# ---- the terminal ---------------------------------------------------------------------------------------------------


def print_lens(lens: Lens, most: int = 10) -> None:
    """Print the figures, and for each recipe the likeliest tokens and choices, `most` of these at most."""
    out = console()
    out.print(Text(lens.text, style="bold"))
    out.print(Text(f"What each recipe expects where the answer begins; task {lens.task}", style="dim"))
    out.print()
    out.print(_figures(lens))
    out.print(Text(_explanation(lens), style="dim"))
    out.print()
    blocks = [_block(lens, number, reading, most) for number, reading in enumerate(lens.readings, 1)]
    out.print(Columns(blocks, padding=(1, 4)))


def _explanation(lens: Lens) -> str:
    text = "Entropy and divergences in bits, over the whole vocabulary where the answer begins"
    text += "; among the choices: of the answer itself." if any(r.choices for r in lens.readings) else "."
    if any(lens.apart(reading) is None for reading in lens.readings):
        text += " — : another vocabulary, whose tokens cannot be compared."
    return text


def _figures(lens: Lens) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("recipe")
    for title in ("prompt\ntokens", "entropy\n ", "among the\nchoices", "KL from 1\nKL(1‖·)", "Jensen-\nShannon"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("answer")
    for number, reading in enumerate(lens.readings, 1):
        apart = lens.apart(reading) if number > 1 else None
        table.add_row(
            Text(f"{number} {reading.recipe}"),
            f"{reading.tokens:,}",
            in_bits(reading.entropy),
            in_bits(reading.choice_entropy),
            in_bits(apart.from_first if apart else None) if number > 1 else "",
            in_bits(apart.jensen_shannon if apart else None) if number > 1 else "",
            Text(numbers.UNKNOWN if reading.answer is None else _short(reading.answer)),
        )
    return table


def _block(lens: Lens, number: int, reading: Reading, most: int) -> Group:
    parts: list[Any] = [Text(f"{number} {reading.recipe}", style="bold")]
    parts.append(_tokens(lens, number, reading))
    if reading.choices:
        parts.append(Padding(_choices(reading, most), (1, 0, 0, 0)))
    return Group(*parts)


def _tokens(lens: Lens, number: int, reading: Reading) -> Table:
    table = _listing("next token", "probability", "under 1" if number > 1 else "")
    for token in reading.top:
        value = math.exp(token.log_probability)
        before = lens.under_first(reading, token) if number > 1 else None
        beside = probability(before) if number > 1 else ""
        table.add_row(Text(_short(token.text)), probability(value), Text(bar(value), style="blue"), beside)
    rest = 1 - sum(math.exp(token.log_probability) for token in reading.top)
    table.add_row(Text("all others", style="dim"), probability(max(0.0, rest)))
    return table


def _choices(reading: Reading, most: int) -> Table:
    """The choices by their share: as answered, where the strategy calibrates."""
    calibrated = any(choice.answered is not None for choice in reading.choices)
    table = _listing("choice", "calibrated" if calibrated else "share", "share" if calibrated else "", "whole choice")
    ordered = sorted(reading.choices, key=lambda choice: -_final(choice))
    for choice in ordered[:most]:
        value = math.exp(_final(choice))
        beside = probability(math.exp(choice.share)) if calibrated else ""
        whole = probability(math.exp(choice.log_probability))
        table.add_row(Text(_short(choice.text)), probability(value), Text(bar(value), style="green"), beside, whole)
    if len(ordered) > most:
        rest = sum(math.exp(_final(choice)) for choice in ordered[most:])
        table.add_row(Text(f"{len(ordered) - most} others", style="dim"), probability(rest))
    return table


def _final(choice: Choice) -> float:
    return choice.share if choice.answered is None else choice.answered


def _listing(name: str, value: str, *beside: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(name, no_wrap=True)
    table.add_column(value, justify="right", no_wrap=True)
    table.add_column("", width=_BAR, no_wrap=True)
    for title in beside:
        table.add_column(title, justify="right", no_wrap=True, style="dim")
    return table


def bar(value: float) -> str:
    """A bar of blocks, to an eighth of a character; something for whatever is not next to nothing."""
    eighths = round(8 * _BAR * min(1.0, value))
    eighths = max(eighths, 1 if value > 0.001 else 0)
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


# ---- JSON -----------------------------------------------------------------------------------------------------------


def to_json(lens: Lens) -> dict[str, Any]:
    """The object that `opportune lens --json` prints."""
    return {
        "schema": SCHEMA,
        "text": lens.text,
        "task": lens.task,
        "readings": [_reading_json(lens, number, reading) for number, reading in enumerate(lens.readings, 1)],
    }


def _reading_json(lens: Lens, number: int, reading: Reading) -> dict[str, Any]:
    return {
        "recipe": reading.recipe,
        "model": reading.model,
        "run": reading.run,
        "answer": reading.answer,
        "prompt": reading.prompt,
        "prompt_tokens": reading.tokens,
        "entropy": _both(reading.entropy),
        "choice_entropy": None if reading.choice_entropy is None else _both(reading.choice_entropy),
        "against_first": _apart_json(lens.apart(reading)) if number > 1 else None,
        "top": [
            {
                "id": token.id,
                "token": token.text,
                "probability": math.exp(token.log_probability),
                "under_first": lens.under_first(reading, token),
            }
            for token in reading.top
        ],
        "choices": [
            {
                "choice": choice.text,
                "log_probability": _finite(choice.log_probability),
                "share": math.exp(choice.share),
                "answered": None if choice.answered is None else math.exp(choice.answered),
            }
            for choice in reading.choices
        ],
    }


def _apart_json(apart: Apart | None) -> dict[str, Any] | None:
    if apart is None:
        return None
    return {
        "kl_first_this": _both(apart.from_first),
        "kl_this_first": _both(apart.to_first),
        "jensen_shannon": _both(apart.jensen_shannon),
    }


def _both(nats: float) -> dict[str, float | None]:
    return {"bits": _finite(bits(nats)), "nats": _finite(nats)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# ---- the page -------------------------------------------------------------------------------------------------------


def write_page(lens: Lens, path: Path) -> Path:
    """Write the lens as one page that loads nothing; returns its path."""
    return write_whole(path, page(lens))


def page(lens: Lens) -> str:
    """The page's text."""
    style = asset("report.css")
    highest = max(math.exp(reading.top[0].log_probability) for reading in lens.readings)
    shown = [
        (n, reading, lens.apart(reading), _token_figure(lens, n, reading, highest), _choice_figure(reading))
        for n, reading in enumerate(lens.readings, 1)
    ]
    return render(
        "lens.html.j2",
        lens=lens,
        shown=shown,
        style=style,
        policy=policy(style),
        explanation=_explanation(lens),
        bits=in_bits,
    )


def _token_figure(lens: Lens, number: int, reading: Reading, highest: float) -> Figure:
    names = _unique([token.text for token in reading.top], [token.id for token in reading.top])
    found = [
        Bar(name, math.exp(token.log_probability), lens.under_first(reading, token) if number > 1 else None)
        for name, token in zip(names, reading.top, strict=True)
    ]
    told = ", ".join(f"{bar.name} {probability(bar.value)}" for bar in found)
    chart = lens_plots.bars(found, highest)
    caption = "The likeliest tokens where the answer begins." + (" Orange: under recipe 1." if number > 1 else "")
    return Figure("Next token", caption, plots.svg(chart, f"Next token under {reading.recipe}: {told}"))


def _choice_figure(reading: Reading) -> Figure | None:
    if not reading.choices:
        return None
    calibrated = any(choice.answered is not None for choice in reading.choices)
    ordered = sorted(reading.choices, key=lambda choice: -_final(choice))[:_CHOICES]
    found = [
        Bar(choice.text, math.exp(_final(choice)), math.exp(choice.share) if calibrated else None) for choice in ordered
    ]
    told = ", ".join(f"{bar.name} {probability(bar.value)}" for bar in found)
    caption = "Probability of each whole choice, made to sum to 1."
    if calibrated:
        caption = "After calibration; orange: before."
    if len(reading.choices) > _CHOICES:
        caption += f" The {_CHOICES} likeliest of {len(reading.choices)}."
    svg = plots.svg(lens_plots.bars(found, 1.0), f"Choices under {reading.recipe}: {told}")
    return Figure("Choices", caption, svg)


def _unique(names: Sequence[str], ids: Sequence[int]) -> list[str]:
    """Names told apart where different tokens look the same."""
    return [name if names.count(name) == 1 else f"{name} #{id}" for name, id in zip(names, ids, strict=True)]

"""Plans and the comparison of ways to train, on the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from opportune.planner.architecture import count
from opportune.planner.asking import Asking
from opportune.planner.calibration import Estimate
from opportune.planner.choosing import Room
from opportune.planner.grid import Row, assumptions
from opportune.planner.plan import Plan
from opportune.report import numbers

_WORDS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer state",
    "activations": "activations",
    "logits": "logits and loss",
    "adapters": "adapters and their states",
    "gathered": "layers gathered from shards",
    "workspace": "dequantisation workspace",
}
_STYLE = {"fits": "bold green", "may fit": "bold yellow", "does not fit": "bold red"}


def span(estimate: Estimate | None, write: Callable[[float | None], str]) -> str:
    """As `3.2 h [2.5, 4.1 h]`."""
    if estimate is None:
        return numbers.UNKNOWN
    return f"{write(estimate.value)} {numbers.interval(estimate.low, estimate.high, write)}"


def long_time(seconds: float | None) -> str:
    """Durations of plans, to two or three digits: `9.6 min`, `4.8 h`, `39 d`."""
    if seconds is None or seconds < 60:
        return numbers.duration(seconds)
    value, unit = seconds / 86400, "d"
    if seconds < 90 * 60:
        value, unit = seconds / 60, "min"
    elif seconds < 72 * 3600:
        value, unit = seconds / 3600, "h"
    return f"{value:,.1f} {unit}" if value < 9.95 else f"{value:,.0f} {unit}"


def watt_hours(joules: float | None) -> str:
    """Energy as `420 Wh`, `3.4 kWh`, `12 MWh`."""
    if joules is None:
        return numbers.UNKNOWN
    value, units = joules / 3600, ("Wh", "kWh", "MWh", "GWh", "TWh")
    place = 0
    while value >= 999.5 and place < len(units) - 1:
        value, place = value / 1000, place + 1
    return f"{value:,.1f} {units[place]}" if value < 9.95 else f"{value:,.0f} {units[place]}"


def parameters(number: float) -> str:
    """As `950`, `2.1M`, `8.0B`."""
    return numbers.count(number).replace("k", "K").replace("G", "B")


def price(dollars: float | None) -> str:
    """Dollars to a cent below ten, whole beyond, in millions from there on."""
    if dollars is None or dollars < 9.995:
        return numbers.money(dollars)
    return f"${dollars:,.0f}" if dollars < 999_500 else f"${dollars / 1e6:,.1f}M"


def print_plan(plan: Plan, out: Console) -> None:
    """One plan: what it needs, whether it fits, what it costs, and why."""
    a = plan.job.architecture
    out.print(Text(f"{plan.request.method} on {a.name}", style="bold"))
    out.print(
        f"{parameters(count(a).total)} parameters ({a.layers} layers, {a.hidden} wide), "
        f"{parameters(plan.change.moving)} trainable ({plan.change.moving / count(a).total:.3%})\n"
    )
    out.print(_costs(plan))
    out.print(_memory(plan))
    _print_verdict(plan.fit, plan.advice, out)
    out.print(Text("\nAssumed: " + "; ".join(plan.assumptions) + ".", style="dim"))


def _print_verdict(fit: Room, advice: Sequence[str], out: Console, where: str = "") -> None:
    """Whether it fits, and what would."""
    high, room = numbers.memory(fit.reserved.high), numbers.memory(fit.available)
    told = f" ({room} a device; the upper end of what will be reserved is {high})"
    out.print(Text.assemble(where, (fit.verdict, _STYLE[fit.verdict]), told))
    for change in advice:
        out.print(f"  would fit with: {change}" if "no single" not in change else f"  {change}")


def _costs(plan: Plan) -> Table:
    t = plan.times
    table = Table(box=None, pad_edge=False, padding=(0, 2), show_header=False)
    items = {"computing": t.computing, "optimizer": t.optimizer, "evaluation": t.evaluation, "start-up": t.start,
             "lost": t.lost}  # fmt: skip
    shown = ", ".join(f"{name} {long_time(value)}" for name, value in items.items() if value > 0.005 * t.total)
    rows = [
        ("devices", f"{plan.job.cluster}: {_layout(plan)}"),
        ("host", f"{plan.host_cores} cores, {numbers.memory(plan.host_memory)}"),
        ("time", f"{span(plan.seconds, long_time)}  ({plan.steps:,} steps; {shown})"),
        ("computed", numbers.flops(plan.flops.value)),
        ("energy", span(plan.joules, watt_hours)),
        ("dollars", span(plan.dollars, price)),
    ]
    for name, value in rows:
        table.add_row(Text(name, style="dim"), value)
    return table


def _layout(plan: Plan) -> str:
    job = plan.job
    parts = [f"{job.micro} sequences at once"]
    if job.accumulate > 1:
        parts.append(f"{job.accumulate} times a step")
    if job.replicas > 1:
        sharded = {"none": "copies", "optimizer": "copies with a sharded optimizer", "gradients": "ZeRO-2 shards",
                   "all": "shards of everything"}  # fmt: skip
        parts.append(f"{job.replicas} {sharded[job.sharding]}")
    if job.tensor > 1:
        parts.append(f"layers split {job.tensor} ways")
    if job.pipeline > 1:
        parts.append(f"{job.pipeline} pipeline stages")
    if job.checkpoint != "none":
        parts.append("checkpointed")
    return ", ".join(parts)


def _memory(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2), title_justify="left")
    table.add_column(Text("\nmemory of a device at the peak", style="dim"))
    table.add_column("", justify="right")
    for name, value in asdict(plan.fit.memory).items():
        if value:
            table.add_row(f"  {_WORDS[name]}", numbers.memory(value))
    table.add_row("allocated", Text(span(plan.fit.allocated, numbers.memory), style="bold"))
    table.add_row("reserved, with the driver's share", span(plan.fit.reserved, numbers.memory))
    return table


def print_asking(plan: Asking, out: Console) -> None:
    """What 1,000 questions cost, and whether the model that answers fits."""
    each = plan.each
    out.print(Text(f"\n1,000 questions by {plan.recipe}", style="bold"))
    table = Table(box=None, pad_edge=False, padding=(0, 2), show_header=False)
    table.add_row(Text("calls", style="dim"), f"{1000 * each.calls:,.0f}")
    read, written = numbers.count(1000 * each.tokens_in), numbers.count(1000 * each.tokens_out)
    table.add_row(
        Text("tokens", style="dim"), f"{read} read ({each.shared:,.0f} shared by all), {written} written at most"
    )
    rows = [
        ("shared prefix kept", plan.seconds, plan.dollars),
        ("nothing kept", plan.seconds_uncached, plan.dollars_uncached),
    ]
    for name, seconds, dollars in rows:
        table.add_row(Text(name, style="dim"), f"{span(seconds, long_time)}  {span(dollars, price)}")
    out.print(table)
    out.print(Text("Assumed: " + "; ".join(plan.assumptions) + ".", style="dim"))
    _print_verdict(plan.fit, plan.advice, out, f"{plan.cluster}: ")


# ---- the comparison --------------------------------------------------------------------------------------------------


def columns(row: Row) -> tuple[tuple[str, str], ...]:
    """Cells of a row: the figure, and its interval or detail beneath."""
    p = row.plan
    per_gpu = p.fit.reserved
    cpu = row.processor
    return (
        (f"{p.host_cores:,} cores", numbers.memory(p.host_memory)),
        (f"{p.job.cluster.count:,} × {p.job.cluster.device.name.upper()}", f"{numbers.memory(per_gpu.value)} each"),
        _cell(p.seconds, long_time),
        (long_time(cpu.seconds.value), _bounds(cpu.seconds, long_time)) if cpu else (numbers.UNKNOWN, ""),
        _cell(p.joules, watt_hours),
        _cell(p.dollars, price),
    )


TITLES = (
    ("CPU", "beside the GPUs"),
    ("GPUs", "reserved"),
    ("time on GPUs", "90 % interval"),
    ("on CPU alone", "90 % interval"),
    ("energy", "90 % interval"),
    ("dollars", "90 % interval"),
)


def _cell(estimate: Estimate | None, write: Callable[[float | None], str]) -> tuple[str, str]:
    return (numbers.UNKNOWN, "") if estimate is None else (write(estimate.value), _bounds(estimate, write))


def _bounds(estimate: Estimate, write: Callable[[float | None], str]) -> str:
    """As `20 – 79 d`: a unit that both ends share is written once."""
    low, high = write(estimate.low), write(estimate.high)
    number, _, unit = low.rpartition(" ")
    return f"{number if unit and high.endswith(' ' + unit) and number.count(' ') == 0 else low} – {high}"


def print_grid(rows: Sequence[Row], out: Console) -> None:
    """The comparison on the terminal."""
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    table.add_column(Text("predicted,\nnothing was run", style="dim"), no_wrap=True)
    for title, detail in TITLES:
        table.add_column(Text(f"{title}\n{detail}", style="dim"), justify="right", no_wrap=True)
    size = ""
    for row in rows:
        if row.size != size:
            size = row.size
            a = row.plan.job.architecture
            table.add_row("")
            table.add_row(
                Text(f"{size} parameters", style="bold").append(f"\n{a.layers} layers, {a.hidden} wide", style="dim")
            )
        cells = [Text(main).append(f"\n{detail}", style="dim") for main, detail in columns(row)]
        moving = Text(f"  {row.way.title}\n").append(f"  {parameters(row.plan.change.moving)} trainable", style="dim")
        table.add_row(moving, *cells)
    out.print(table)
    for line in assumptions(rows):
        out.print(Text(f"· {line}", style="dim"))


def markdown(rows: Sequence[Row]) -> str:
    """The comparison as Markdown."""
    titles = ["size", "way", "trainable", *(f"{title}, {detail}" for title, detail in TITLES)]
    lines = ["| " + " | ".join(titles) + " |", "|---|---|--:|" + "--:|" * len(TITLES)]
    for row in rows:
        cells = [f"{main}<br>{detail}" if detail else main for main, detail in columns(row)]
        lines.append("| " + " | ".join([row.size, row.way.title, parameters(row.plan.change.moving), *cells]) + " |")
    return "\n".join([*lines, "", *(f"- {line}" for line in assumptions(rows)), ""])

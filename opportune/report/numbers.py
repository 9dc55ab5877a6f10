"""How numbers are written, the same on the terminal, in Markdown and on the page. Unknown is a dash."""

from __future__ import annotations

from collections.abc import Callable

from opportune.cost import Amount

UNKNOWN = "—"


def duration(seconds: float | None) -> str:
    """As `40 µs`, `12 ms`, `1.2 s`, `42 s`, `3 min 04 s` or `2 h 05 min`."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.0009995:
        return f"{_short(seconds * 1e6)} µs"
    if seconds < 0.9995:
        return f"{_short(seconds * 1000)} ms"
    if seconds < 59.5:
        return f"{_short(seconds)} s"
    if seconds < 3599.5:
        return "{} min {:02} s".format(*divmod(round(seconds), 60))
    return "{:,} h {:02} min".format(*divmod(round(seconds / 60), 60))


def memory(size: float | None) -> str:
    """As `640 MiB` or `1.3 GiB`."""
    return UNKNOWN if size is None else _scaled(size, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def money(dollars: float | None) -> str:
    """As `$12.40`, or with two digits that count where it is less than a cent: `$0.0021`."""
    if dollars is None:
        return UNKNOWN
    if dollars == 0 or dollars >= 0.00995:
        return f"${dollars:,.2f}"
    places = 2
    while round(dollars, places) * 10 ** (places - 1) < 1 and places < 12:
        places += 1
    return f"${dollars:.{places}f}"


def count(number: float | None) -> str:
    """As `950`, `12.3k` or `1.5M`."""
    return UNKNOWN if number is None else _scaled(number, 1000, ("", "k", "M", "G", "T", "P")).replace(" ", "")


def flops(number: float | None) -> str:
    """Floating-point operations, as `3.4 TFLOP`."""
    if number is None:
        return UNKNOWN
    return _scaled(number, 1000, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"))


def joules(number: float | None) -> str:
    """As `3.4 kJ`."""
    return UNKNOWN if number is None else _scaled(number, 1000, ("J", "kJ", "MJ", "GJ"))


def bill(amount: Amount) -> str:
    """What is to be paid: dollars where the machine has a price, else its time."""
    return duration(amount.seconds) if amount.dollars is None else money(amount.dollars)


def score(value: float | None) -> str:
    """As `0.72`."""
    return UNKNOWN if value is None else f"{value:.2f}"


def difference(value: float | None) -> str:
    """With its sign, as `+0.05`; a true minus, so that columns line up."""
    return UNKNOWN if value is None else f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")


def interval(low: float | None, high: float | None, write: Callable[[float | None], str] = score) -> str:
    """As `[0.65, 0.78]`."""
    return UNKNOWN if low is None or high is None else f"[{write(low)}, {write(high)}]"


def probability(p: float | None) -> str:
    """A p-value, as `0.031` or `<0.001`."""
    if p is None:
        return UNKNOWN
    return "<0.001" if p < 0.0005 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def rate(value: float | None) -> str:
    """A learning rate, as `3e-4`."""
    if value is None:
        return UNKNOWN
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def _short(value: float) -> str:
    """Two or three digits that count: `0.4`, `1.2`, `42`, `640`."""
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def _scaled(value: float, base: int, units: tuple[str, ...]) -> str:
    place = 0
    while value >= base * 0.9995 and place < len(units) - 1:
        value, place = value / base, place + 1
    text = f"{value:.0f}" if place == 0 or value >= 99.95 else f"{value:.1f}"
    return f"{text} {units[place]}"

"""What something cost: one type for predicted and measured, and the meter that measures it."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Self

_RAPL = Path("/sys/class/powercap")
_COUNTS = ("tokens_in", "tokens_out", "calls")


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount of everything that costs; None where unknown. Amounts add up, except peaks, which take the larger."""

    seconds: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    calls: int | None = None
    flops: float | None = None
    peak_bytes: int | None = None
    joules: float | None = None
    dollars: float | None = None

    def __add__(self, other: Amount) -> Amount:
        values = {}
        for item in fields(self):
            mine, theirs = getattr(self, item.name), getattr(other, item.name)
            present = [value for value in (mine, theirs) if value is not None]
            combine = max if item.name == "peak_bytes" else sum
            values[item.name] = combine(present) if present else None
        return Amount(**values)

    def scaled(self, factor: float) -> Amount:
        """The amount for `factor` times the work: counts to the nearest whole, the peak stays."""
        values = {k: None if v is None else v * factor for k, v in asdict(self).items() if k != "peak_bytes"}
        counts = {k: round(v) for k, v in values.items() if v is not None and k in _COUNTS}
        return Amount(**{**values, **counts, "peak_bytes": self.peak_bytes})

    def priced(self, dollars_per_hour: float | None) -> Amount:
        """With the machine's time turned into dollars, where a price is given."""
        if dollars_per_hour is None or self.seconds is None:
            return self
        return replace(self, dollars=(self.dollars or 0.0) + self.seconds / 3600 * dollars_per_hour)


@dataclass(frozen=True, slots=True)
class Cost:
    """The four items of an arm's bill."""

    loading: Amount = Amount()
    tuning: Amount = Amount()
    training: Amount = Amount()
    asking: Amount = Amount()

    def priced(self, dollars_per_hour: float | None) -> Cost:
        """The bill with the machine's time turned into dollars, where a price is given."""
        items = (self.loading, self.tuning, self.training, self.asking)
        return Cost(*(item.priced(dollars_per_hour) for item in items))

    def total(self) -> Amount:
        """All items together."""
        return self.loading + self.tuning + self.training + self.asking


class Meter:
    """Measures a block: seconds, peak memory, joules.

    Peak memory is the process's resident high-water mark, reset on entry where the system allows it (Linux:
    /proc/self/clear_refs), else sampled every 20 ms; on a GPU it is the peak allocated by torch. A meter within another
    resets the marks, so the outer one notes them before and takes over what the inner one found. Joules come from the
    processor's energy counter (RAPL) where it can be read.

        with Meter() as meter: work()
        meter.amount.seconds
    """

    def __init__(self) -> None:
        self.amount = Amount()
        self._sampler: _Sampler | None = None
        self._high, self._gpu_high = 0, 0  # before marks were reset by meters within this one

    def __enter__(self) -> Self:
        for outer in _running:
            outer._note(None if outer._sampler else _high_water(), _gpu_peak())
        _running.append(self)
        return_free_memory()
        self._sampler = None if _reset_high_water() else _Sampler()
        _reset_gpu_peak()
        self._joules = _energy_counters()
        self._began = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        seconds = time.perf_counter() - self._began
        self._note(self._sampler.stop() if self._sampler else _high_water(), _gpu_peak())
        _running.remove(self)
        peak = self._gpu_high or self._high or None
        self.amount = Amount(seconds=seconds, peak_bytes=peak, joules=_energy_since(self._joules))

    def _note(self, peak: int | None, gpu: int | None) -> None:
        """These were the marks at some time while it ran. Where marks cannot be reset, its own sampler knows better."""
        if peak is not None:
            self._high = max(self._high, peak)
        self._gpu_high = max(self._gpu_high, gpu or 0)


_running: list[Meter] = []


def return_free_memory() -> None:
    """Hand freed heap back to the system, so that one arm's garbage is not the next arm's peak (glibc only)."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _reset_high_water() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status_bytes(key: str) -> int | None:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return None


def _high_water() -> int | None:
    return _status_bytes("VmHWM")


class _Sampler:
    """Resident memory sampled from a thread, for systems whose high-water mark cannot be reset."""

    def __init__(self) -> None:
        import psutil

        self._process, self._peak, self._done = psutil.Process(), 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self._peak = max(self._peak, int(self._process.memory_info().rss))

    def stop(self) -> int:
        self._done.set()
        self._thread.join()
        return max(self._peak, int(self._process.memory_info().rss))


def _cuda() -> object | None:
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None


def _reset_gpu_peak() -> None:
    if (cuda := _cuda()) is not None:
        cuda.reset_peak_memory_stats()  # type: ignore[attr-defined]


def _gpu_peak() -> int | None:
    cuda = _cuda()
    return None if cuda is None else int(cuda.max_memory_allocated()) or None  # type: ignore[attr-defined]


def _energy_counters() -> dict[Path, tuple[int, int]]:
    """Microjoules and wrap-around range by package; empty where the counter is absent or not readable."""
    counters = {}
    for folder in _RAPL.glob("intel-rapl:?"):
        try:
            counters[folder] = (
                int((folder / "energy_uj").read_text()),
                int((folder / "max_energy_range_uj").read_text()),
            )
        except (OSError, ValueError):
            continue
    return counters


def _energy_since(before: dict[Path, tuple[int, int]]) -> float | None:
    after = _energy_counters()
    if not before or after.keys() != before.keys():
        return None
    # The counter wraps around; one wrap is told apart, several in one block (hours on a large package) are not.
    used = [(after[k][0] - start) % wrap for k, (start, wrap) in before.items()]
    return sum(used) / 1e6

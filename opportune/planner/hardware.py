"""Devices: peaks, memory, bandwidth, links, power and dated prices, shipped in hardware.json; users add their own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal

from opportune.errors import UsageError

_SHIPPED = Path(__file__).with_name("hardware.json")
_COUNT = re.compile(r"(?P<name>.+?)x(?P<count>\d+)")
THIS = "this-machine"  # the name of the device that a probe measures
PER_NODE = 8  # GPUs that share the fast link
MATMUL = 0.8  # share of the peak that large matrix products reach where nobody measured it


@dataclass(frozen=True, slots=True)
class Device:
    """One device; peaks are dense (never with sparsity), memory is in gigabytes as vendors print it (see `memory`)."""

    name: str
    tflops_16bit: float
    memory_gb: float
    bandwidth_gb_s: float
    what: str = ""
    kind: str = ""
    tflops_32bit: float | None = None
    bfloat16: bool = True
    matmul_share: float | None = None  # measured
    watts: float | None = None
    link: str = ""
    link_gb_s: float | None = None  # one way, between neighbours; None: over PCI Express or the network
    price: float | None = None  # dollars an hour
    price_low: float | None = None
    price_high: float | None = None
    price_source: str = ""
    source: str = ""
    notes: str = ""
    cores: int | None = None  # of a processor
    step_factor: float | None = None  # a real training step over what the figures above give (a probe)

    @property
    def cpu(self) -> bool:
        """Whether it is a processor rather than an accelerator."""
        return self.kind == "CPU"

    @property
    def memory(self) -> float:
        """Bytes: vendors' gigabytes of GPUs are binary (an A100 80GB has 80 GiB less what the driver keeps)."""
        return self.memory_gb * (1e9 if self.cpu else 1024**3) * 0.985

    @property
    def matmul(self) -> float:
        """FLOP/s of large 16-bit matrix products."""
        return self.tflops_16bit * 1e12 * (self.matmul_share or MATMUL)

    def speed(self, base: str) -> float:
        """FLOP/s of large matrix products with weights kept so: 32-bit products have a peak of their own."""
        return 1e12 * (self.tflops_32bit or self.tflops_16bit) if base == "float32" else self.matmul

    @property
    def base(self) -> Literal["bfloat16", "float16", "float32"]:
        """How weights are kept where nothing else is asked for."""
        return "bfloat16" if self.bfloat16 else "float32" if self.cpu else "float16"

    @property
    def bandwidth(self) -> float:
        """Bytes a second to and from its memory."""
        return self.bandwidth_gb_s * 1e9


@dataclass(frozen=True, slots=True)
class Cluster:
    """So many of one device."""

    device: Device
    count: int = 1

    def __str__(self) -> str:
        return self.device.name if self.count == 1 else f"{self.device.name}x{self.count}"

    @property
    def nodes(self) -> int:
        """Machines they sit in."""
        return self.count if self.device.cpu else -(-self.count // PER_NODE)


Table = Mapping[str, Device]


@cache
def shipped() -> Table:
    """The devices that come with the project, by name."""
    return {row["name"]: Device(**row) for row in json.loads(_SHIPPED.read_text(encoding="utf-8"))}


def read_devices(path: Path) -> dict[str, Device]:
    """A user's file: a JSON list of objects with the fields of `Device`. Raises UsageError."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--devices {path} cannot be read: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"--devices {path} should be a JSON list of objects with name, tflops_16bit, memory_gb, ...")
    devices = [_device(row, f"--devices {path}, row {i}") for i, row in enumerate(rows, 1)]
    return {plain(device.name): device for device in devices}


def _device(row: dict[str, Any], place: str) -> Device:
    kinds = {item.name: str(item.type) for item in fields(Device)}
    for name in ("name", "tflops_16bit", "memory_gb", "bandwidth_gb_s"):
        if name not in row:
            raise UsageError(f"{place}: {name} is missing")
    if not isinstance(row["name"], str) or not row["name"].strip():
        raise UsageError(f"{place}: name={row['name']!r} should be a text")
    for name, value in row.items():
        if name not in kinds:
            raise UsageError(f"{place}: unknown {name!r}; known are {', '.join(kinds)}")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if kinds[name].startswith(("float", "int")) and value is not None and not (number and value > 0):
            raise UsageError(f"{place}: {name}={value!r} should be a number above 0")
    return Device(**row)


def plain(name: str) -> str:
    """A device's name as tables have it: small letters, no spaces."""
    return "-".join(name.lower().split())


def cluster(text: str, table: Table | None = None) -> Cluster:
    """`h100`, or `h100x8`. Raises UsageError with the known names."""
    table = table or shipped()
    name, number = plain(text), 1
    if name not in table and (found := _COUNT.fullmatch(name)):
        name, number = found["name"].strip("-"), int(found["count"])
    if name == THIS and name not in table:
        raise UsageError(f"--hardware {text.strip()!r}: not measured yet; run `opportune plan --probe` first")
    if name not in table:
        near = get_close_matches(name, table, 3, 0.4)
        hint = f"near it: {', '.join(near)}; " if near else ""
        raise UsageError(f"--hardware {text!r}: unknown device; {hint}known are {', '.join(table)}")
    if not 1 <= number <= 100_000:
        raise UsageError(f"--hardware {text!r}: {number} devices are out of range: 1 to 100000")
    return Cluster(table[name], number)

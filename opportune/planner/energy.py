"""Joules and dollars from device-hours.

A training device draws less than its thermal design power: 0.54 to 0.69 of it in the measured runs of Patterson et
al. (2021) and 0.64 to 0.69 in the OLMo runs; the hall adds 1.08 to 1.2 (power usage effectiveness); the host beside
the devices adds its share. Prices are a provider's on a date, and their spread over providers is part of the
interval.
"""

from __future__ import annotations

from opportune.planner.calibration import Estimate
from opportune.planner.hardware import Cluster

DRAWN = (0.54, 0.64, 0.75)  # share of the thermal design power: low, middle, high
HALL = (1.08, 1.12, 1.25)
HOST = 60.0  # watts of processor and memory for each accelerator
UNKNOWN_WATTS = 300.0


def watts(cluster: Cluster) -> Estimate:
    """Power of all devices with their hosts and the hall."""
    design = cluster.device.watts or UNKNOWN_WATTS
    host = 0.0 if cluster.device.cpu else HOST
    drawn = (0.8, 0.9, 1.0) if cluster.device.cpu else DRAWN
    low, middle, high = ((share * design + host) * hall for share, hall in zip(drawn, HALL, strict=True))
    return Estimate(middle, low, high).times(cluster.count)


def joules(cluster: Cluster, seconds: Estimate) -> Estimate:
    """Energy of so many seconds."""
    power = watts(cluster)
    return Estimate(power.value * seconds.value, power.low * seconds.low, power.high * seconds.high)


def dollars(cluster: Cluster, seconds: Estimate) -> Estimate | None:
    """Rent of so many seconds; None where no price of the device is known."""
    device = cluster.device
    if device.price is None:
        return None
    hours = cluster.count / 3600
    low, high = device.price_low or device.price, device.price_high or device.price
    return Estimate(
        device.price * seconds.value * hours,
        min(low, device.price) * seconds.low * hours,
        max(high, device.price) * seconds.high * hours,
    )


def price_note(cluster: Cluster) -> str:
    """The price with its provider, date and spread."""
    device = cluster.device
    if device.price is None:
        return f"no price of {device.name} in a source that was read"
    spread = ""
    if device.price_low and device.price_high and device.price_low < device.price_high:
        spread = f"; seen from ${device.price_low:.2f} to ${device.price_high:.2f}"
    return f"${device.price:.2f} an hour and device: {device.price_source}{spread}"

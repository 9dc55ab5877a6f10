"""Where a model runs and in which numbers, unless the user says."""

from __future__ import annotations

from opportune.errors import ModelError

DTYPES = ("float32", "bfloat16", "float16")


def choose_device(device: str | None) -> str:
    """The device asked for, else the best there is: cuda, mps, cpu. Raises ModelError when it is not here."""
    here = devices()
    if device is None or device == "auto":
        return here[0]
    if device == "cuda" and "cuda:0" in here:
        return "cuda:0"
    if device not in here:
        raise ModelError(f"device {device!r} is not available; this machine has {', '.join(here)} (or auto)")
    return device


def devices() -> list[str]:
    """What torch can compute on here, best first."""
    import torch

    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*cuda, *mps, "cpu"]


def choose_dtype(dtype: str | None, device: str) -> str:
    """The dtype asked for, else bfloat16 where the hardware multiplies it, float32 elsewhere. Raises ModelError.

    A processor without bfloat16 products emulates them, several times slower than float32.
    """
    if dtype is None or dtype == "auto":
        return "bfloat16" if has_bfloat16(device) else "float32"
    if dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r} is unknown; allowed: {', '.join(DTYPES)}, auto")
    return dtype


def has_bfloat16(device: str) -> bool:
    """Whether the device has instructions for products of bfloat16 matrices."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device != "cpu":
        return False
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))

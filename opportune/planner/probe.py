"""This machine, measured: matrix products at a model's shapes, memory bandwidth, and a few real training steps."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from opportune.models.cache import cache_folder
from opportune.planner import calibration
from opportune.planner.architecture import Architecture
from opportune.planner.hardware import THIS, Cluster, Device
from opportune.planner.job import Job
from opportune.planner.stacks import STACKS
from opportune.planner.techniques import Full
from opportune.planner.timing import step

SHAPES = ((256, 576, 1536), (256, 2048, 5632))  # rows, inputs, outputs: small and large models' widest layers
MODEL = Architecture("the probe's model", 4, 576, 9, 3, 64, 1536, 8192, tied=True)
BATCH, LENGTH = 4, 128


def place() -> Path:
    """Where the measurement is kept."""
    return cache_folder() / "probe.json"


def kept() -> Device | None:
    """The last probe of this machine; None where there was none or it cannot be read."""
    try:
        return Device(**json.loads(place().read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def probe() -> Device:
    """Measure, keep and return; about twenty seconds."""
    import psutil
    import torch

    cuda = torch.cuda.is_available()
    where = torch.device("cuda" if cuda else "cpu")
    wide, narrow = (_products(dtype, where) for dtype in (torch.float32, torch.bfloat16))
    found = Device(
        name=THIS,
        what=torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
        kind="" if cuda else "CPU",
        tflops_16bit=narrow / 1e12,
        tflops_32bit=wide / 1e12,
        bfloat16=narrow > wide,
        matmul_share=1.0,
        memory_gb=(
            torch.cuda.get_device_properties(0).total_memory / 1024**3 if cuda else psutil.virtual_memory().total / 1e9
        ),
        bandwidth_gb_s=_bandwidth(where) / 1e9,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        source="opportune plan --probe",
        notes=f"measured {time.strftime('%Y-%m-%d')}",
    )
    found = replace(found, step_factor=_step(where, narrow > wide) / _expected(found))
    place().parent.mkdir(parents=True, exist_ok=True)
    place().write_text(json.dumps(asdict(found), indent=1), encoding="utf-8")
    return found


def _products(dtype: Any, where: Any) -> float:
    """FLOP/s, the mean over the shapes."""
    import torch

    speeds = []
    for rows, inputs, outputs in SHAPES:
        left = torch.ones(rows, inputs, dtype=dtype, device=where)
        right = torch.ones(inputs, outputs, dtype=dtype, device=where)
        seconds = _median(lambda a=left, b=right: float((a @ b)[0, 0]), 1.0)  # type: ignore[misc]
        speeds.append(2.0 * rows * inputs * outputs / seconds)
    return sum(speeds) / len(speeds)


def _bandwidth(where: Any) -> float:
    """Bytes a second of reading and writing, by copying 128 MiB."""
    import torch

    source = torch.ones(2**25, dtype=torch.float32, device=where)
    target = torch.empty_like(source)
    return 2.0 * source.nbytes / _median(lambda: float(target.copy_(source)[0]), 1.0)


def _median(work: Callable[[], object], seconds: float) -> float:
    """Median time of a call, over about so long; the first call warms up, and stands for all where it took as long."""
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 2 or (time.perf_counter() - began < seconds and len(times) < 200):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
        if times[0] > seconds:
            return times[0]
    return sorted(times[1:])[len(times[1:]) // 2]


def _step(where: Any, half: bool) -> float:
    """Seconds of a real step: forward, backward, AdamW."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    m = MODEL
    config = LlamaConfig(
        vocab_size=m.vocabulary, hidden_size=m.hidden, num_hidden_layers=m.layers, num_attention_heads=m.heads,
        num_key_value_heads=m.kv_heads, intermediate_size=m.ffn, tie_word_embeddings=True,
    )  # fmt: skip
    dtype = torch.bfloat16 if half else torch.float32
    network = LlamaForCausalLM(config).to(device=where, dtype=dtype)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    ids = torch.zeros(BATCH, LENGTH, dtype=torch.long, device=where)

    def once() -> float:
        network(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(next(network.parameters()).detach()[0, 0])

    return _median(once, 5.0)


def _expected(device: Device) -> float:
    base: Any = "bfloat16" if device.bfloat16 else "float32"
    job = Job(MODEL, Full().change(MODEL), Cluster(device), BATCH, LENGTH, base=base, stack=STACKS["transformers"])
    return step(job, calibration.shipped().speeds).seconds

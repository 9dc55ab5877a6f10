"""Training, scoring and generation on a GPU, with networks of random weights: tokens a second and share of the peak.

Everything runs through the product's own code: `training.loop.train` for `full`, `lora` and `prompt-tuning` at several
batch and sequence lengths in bfloat16, the local backend for ranking choices and for writing. Nothing is downloaded and
nothing is kept but one small JSON file. Start it through gpu_check.sh.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.common import RESULTS, note, save
from opportune.cost import Meter
from opportune.errors import OpportuneError
from opportune.methods.full import Full
from opportune.methods.lora import Lora
from opportune.methods.prompt_tuning import PromptTuning
from opportune.models.local import Local
from opportune.training.loop import Settings, Step, train
from opportune.training.packing import TokenLesson
from opportune.types import Message, ModelInfo, Prompt

# Dense bfloat16 products in tensor cores, FLOP/s, as the vendor states them for these cards.
PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "4090": 165e12,
    "3090": 71e12,
}
SIZES = {
    # hidden, inner, layers, heads, key heads, vocabulary, tied
    "toy": (64, 128, 2, 4, 2, 512, True),
    "0.1B": (576, 1536, 30, 9, 3, 49152, True),
    "1B": (2048, 8192, 16, 32, 8, 128256, True),
    "8B": (4096, 14336, 32, 32, 8, 128256, False),
}
LENGTHS = ((32, 128), (8, 512), (4, 2048), (16, 1024))  # lessons a step, tokens of each
TOY_LENGTHS = ((4, 16), (2, 48))
METHODS: dict[str, Any] = {
    "full": Full(),
    "lora": Lora(rank=16),
    "prompt-tuning": PromptTuning(tokens=20, init="vocabulary"),
}
MOST_STEPS, WARM, SECONDS = 12, 2, 8.0  # of one case
LIMIT = 500.0  # seconds: what has not begun by then is left out, and said so


@dataclass(frozen=True)
class Machine:
    """Where it runs, and what a FLOP there is a share of."""

    device: torch.device
    name: str
    peak: float | None  # as stated by the vendor
    product: float  # FLOP/s of one large product of matrices, measured


class Enough(Exception):  # noqa: N818  (no error)
    """The case has run long enough."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--toy", action="store_true", help="a network of 0.1 million parameters on a CPU")
    options.add_argument("--out", type=Path, default=RESULTS, help="folder of the result file (default %(default)s)")
    toy = options.parse_args().toy
    if not toy and not torch.cuda.is_available():
        raise SystemExit("gpu_check: no NVIDIA GPU that torch can use here; --toy shows that the script works")
    out, began = options.parse_args().out, time.monotonic()
    where = machine(toy)
    note(f"{where.name}: a large product of matrices reaches {where.product / 1e12:.3g} TFLOP/s")
    training, asking = [], []
    for size in ["toy"] if toy else ["1B", "8B", "0.1B"]:
        for case in cases(where, size, toy, began):
            note(f"  {case}")
            training.append(case)
        asking.append({"model": size, **guarded(lambda size=size: asked(where, size, toy), began)})
        note(f"  {asking[-1]}")
    figures = {
        "quick": toy,
        "device": where.name,
        "peak_flops_per_second": where.peak,
        "product_flops_per_second": round(where.product),
        "dtype": str(dtype_of(where)),
        "seconds": round(time.monotonic() - began, 1),
        "training": training,
        "asking": asking,
    }
    save(out, "gpu-check-toy" if toy else "gpu-check", figures)


def machine(toy: bool) -> Machine:
    """This machine, by a product of square matrices."""
    device = torch.device("cpu" if toy else "cuda")
    name = "CPU" if toy else torch.cuda.get_device_name()
    peak = next((value for key, value in PEAKS.items() if not toy and all(w in name for w in key.split())), None)
    side = 256 if toy else 8192
    one = torch.randn(side, side, device=device, dtype=torch.float32 if toy else torch.bfloat16)
    times = []
    for _ in range(10):
        begun = time.perf_counter()
        float((one @ one)[0, 0])  # reading a value waits for the device
        times.append(time.perf_counter() - begun)
    return Machine(device, name, peak, 2 * side**3 / statistics.median(times))


def dtype_of(where: Machine) -> torch.dtype:
    """bfloat16; a CPU may have to emulate that."""
    return torch.float32 if where.device.type == "cpu" else torch.bfloat16


def network_of(where: Machine, size: str) -> Any:
    """A Llama of random weights, made where it is used."""
    hidden, inner, layers, heads, key_heads, vocabulary, tied = SIZES[size]
    config = transformers.LlamaConfig(
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=8192,
    )
    torch.manual_seed(0)
    with where.device:
        return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype_of(where)).eval()


def cases(where: Machine, size: str, toy: bool, began: float) -> Iterator[dict[str, Any]]:
    """Every method at every batch and length."""
    for name, method in METHODS.items():
        network: Any = None
        for batch, length in TOY_LENGTHS if toy else LENGTHS:
            case = {"model": size, "method": name, "batch": batch, "length": length}
            if late(began):
                yield case | {"left_out": "no time left"}
                continue
            if network is None:
                network = Local(network_of(where, size), tokenizer(), info(size, where)).network
                parameters = sum(weight.numel() for weight in network.parameters())
                network = method.attach(network, 0)
            found = guarded(lambda n=network, b=batch, k=length: trained(where, n, b, k), began)
            yield case | {"parameters": parameters} | with_shares(found, where, network, name, parameters)
        del network
        released()


def trained(where: Machine, network: Any, batch: int, length: int) -> dict[str, Any]:
    """The steps of one case after the first ones. Every token but the first is learned."""
    steps: list[Step] = []
    began = time.perf_counter()

    def watch(step: Step) -> None:
        steps.append(step)
        if len(steps) > WARM and time.perf_counter() - began > SECONDS:
            raise Enough

    settings = Settings(rate=1e-6, epochs=1, batch=batch, warmup=0.0, checkpoint_seconds=1e9)
    made = lessons(network, batch * MOST_STEPS, length)
    done = None
    with tempfile.TemporaryDirectory() as folder, Meter() as meter, suppress(Enough):
        done = train(network, made, settings, Path(folder), None, watch)
    timed = steps[WARM:]
    seconds = sum(step.seconds for step in timed)
    return {
        "steps": len(timed),
        "tokens_per_second": round(sum(step.tokens for step in timed) / seconds, 1),
        "flops_per_second": round(sum(step.flops for step in timed) / seconds),
        "peak_bytes": torch.cuda.max_memory_allocated() if where.device.type == "cuda" else meter.amount.peak_bytes,
        "layout": done.layout if done else None,
        "loss": [round(step.loss, 3) for step in (steps[0], steps[-1])],
    }


def with_shares(found: dict[str, Any], where: Machine, network: Any, method: str, parameters: int) -> dict[str, Any]:
    """Shares of the peak: of the FLOPs counted product by product (attention included; layers computed a second
    time to save memory count once), and by the rule of 6 N a token for full, 4 N where the weights are frozen."""
    if "tokens_per_second" not in found:
        return found
    embedding = network.get_input_embeddings().weight.numel()
    tied = network.config.get_text_config().tie_word_embeddings
    used = parameters - (0 if tied else embedding)  # a tied embedding is the head, which computes
    rule = (6 if method == "full" else 4) * used * found["tokens_per_second"]
    peak = where.peak or where.product
    return found | {
        "share_of_peak": round(found["flops_per_second"] / peak, 4),
        "share_of_peak_by_rule": round(rule / peak, 4),
        "share_of_product": round(found["flops_per_second"] / where.product, 4),
    }


def lessons(network: Any, number: int, length: int) -> list[TokenLesson]:
    """Random tokens, after the virtual ones where there are some."""
    draw = random.Random(0)
    vocabulary = network.config.get_text_config().vocab_size
    virtual = tuple(range(vocabulary, vocabulary + getattr(network, "virtual_tokens", 0)))
    own = max(2, length - len(virtual))
    return [
        TokenLesson((*virtual, *(draw.randrange(vocabulary) for _ in range(own))), len(virtual) + 1)
        for _ in range(number)
    ]


def asked(where: Machine, size: str, toy: bool) -> dict[str, Any]:
    """Ranking six choices after shared demonstrations, and writing answers to other questions side by side."""
    model = Local(network_of(where, size), tokenizer(), info(size, where))
    questions, answers, words = (4, 4, 8) if toy else (512, 64, 64)
    shots = "".join(f"Question {n}: {sentence(n)}\nAnswer: {n % 6}\n\n" for n in range(2 if toy else 24))
    ranked = [
        Prompt((Message("user", f"{shots}Question: {sentence(1000 + n)}\nAnswer:"),), tuple("012345"), "plain")
        for n in range(questions)
    ]
    written = [
        Prompt((Message("user", sentence(2000 + n)),), None, "plain", max_tokens=words, stop=("\0\0\0",))
        for n in range(answers)
    ]
    scoring, generating = timed(model, ranked), timed(model, written)
    return {
        "scoring": {
            "questions_per_second": round(questions / scoring[0], 2),
            "prompt_tokens_per_second": round(scoring[1] / scoring[0], 1),
        },
        "generation": {"side_by_side": answers, "tokens_per_second": round(generating[2] / generating[0], 1)},
    }


def timed(model: Local, prompts: list[Prompt]) -> tuple[float, int, int]:
    """Seconds, tokens read and tokens written, the second time it is asked; nothing is kept from the first."""
    for _ in range(2):
        fresh = model.with_network(model.network)
        began = time.perf_counter()
        usages = [completion.usage for _, completion in fresh.complete(prompts, {})]
        seconds = time.perf_counter() - began
    return seconds, sum(usage.tokens_in for usage in usages), sum(usage.tokens_out for usage in usages)


def sentence(seed: int) -> str:
    """Twelve words that are none."""
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefghijklmnop", k=5)) for _ in range(12))


def tokenizer() -> Any:
    """One token a byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={token: place for place, token in enumerate(["<end>", *alphabet])}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made)  # without an end token: nothing ends early


def info(size: str, where: Machine) -> ModelInfo:
    """Which model it is."""
    return ModelInfo(size, "", 0, f"random-{size}", str(dtype_of(where)), str(where.device))


def guarded(work: Any, began: float) -> dict[str, Any]:
    """What the work gives, or why it does not: out of time, or memory that does not hold it."""
    if late(began):
        return {"left_out": "no time left"}
    try:
        found: dict[str, Any] = work()
        return found
    except (OpportuneError, torch.OutOfMemoryError) as error:
        return {"left_out": str(error).splitlines()[0]}
    finally:
        released()


def late(began: float) -> bool:
    """Whether no further case may begin."""
    return time.monotonic() - began > LIMIT


def released() -> None:
    """Give memory back, as far as nothing refers to it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()

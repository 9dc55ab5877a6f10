"""The peer of generation: transformers' own batched `generate` (runs in the peers' environment).

Timed is the call for all prompts, tokenisation and prefill included; loading the model is not.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.worker import peak_bytes, reset_peak, serve

_state: dict[str, Any] = {}


def load(model: str, dtype: str) -> dict[str, Any]:
    """The model, with no more than one held at a time."""
    import torch
    import transformers

    _state.clear()
    network = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    _state.update(network=network, tokenizer=tokenizer)
    return {"transformers": transformers.__version__, "torch": torch.__version__}


def write(texts: list[str], batch: int, tokens: int) -> dict[str, Any]:
    """Continue every text greedily by up to `tokens` tokens, `batch` texts at a time."""
    import torch

    network, tokenizer = _state["network"], _state["tokenizer"]
    reset_peak()
    began, written, answers = time.perf_counter(), 0, []
    with torch.inference_mode():
        for start in range(0, len(texts), batch):
            some = texts[start : start + batch]
            inputs = tokenizer(some, return_tensors="pt", padding=True, add_special_tokens=False)
            output = network.generate(
                **inputs, max_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
            for row in output[:, inputs["input_ids"].shape[1] :]:
                ends = (row == network.generation_config.eos_token_id).nonzero()
                length = int(ends[0]) + 1 if len(ends) else len(row)
                written += length
                answers.append(tokenizer.decode(row[:length], skip_special_tokens=True))
    return {
        "seconds": time.perf_counter() - began,
        "tokens": written,
        "answers": answers,
        "peak_bytes": peak_bytes(),
    }


if __name__ == "__main__":
    serve({"load": load, "write": write})

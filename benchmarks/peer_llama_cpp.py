"""The peer of generation: llama.cpp's server through xllamacpp, on the default model's own GGUF (its fastest format).

All prompts are sent at once and share its slots; its prompt cache is on. Timed is the time until the last answer.
"""

from __future__ import annotations

import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.worker import serve

_state: dict[str, Any] = {}


def load(model: str, threads: int, slots: int, context: int) -> dict[str, Any]:
    """Start the server."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.n_ctx = slots * context
    parameters.n_parallel = slots
    parameters.cpuparams.n_threads = threads
    parameters.cpuparams_batch.n_threads = threads
    parameters.cache_prompt = True
    parameters.cont_batching = True
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    _state["server"] = server = xllamacpp.Server(parameters)
    _state["url"] = server.listening_address
    return {"xllamacpp": xllamacpp.__version__, "address": server.listening_address}


def write(texts: list[str], tokens: int, shared: str) -> dict[str, Any]:
    """Continue every text greedily by up to `tokens` tokens; `shared` is read first, so that it is in the cache of a
    slot when the timed questions come, as in serving. Its reading is timed with them."""
    began = time.perf_counter()
    _complete(shared, 1)
    with ThreadPoolExecutor(len(texts)) as pool:
        answers = list(pool.map(lambda text: _complete(text, tokens), texts))
    return {
        "seconds": time.perf_counter() - began,
        "tokens": sum(answer["tokens_predicted"] for answer in answers),
        "answers": [answer["content"] for answer in answers],
    }


def _complete(text: str, tokens: int) -> dict[str, Any]:
    body = {"prompt": text, "n_predict": tokens, "temperature": 0, "cache_prompt": True}
    request = urllib.request.Request(
        f"{_state['url']}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as reply:
        found: dict[str, Any] = json.load(reply)
    return found


if __name__ == "__main__":
    serve({"load": load, "write": write})

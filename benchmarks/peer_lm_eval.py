"""The peer of scoring: lm-evaluation-harness, its own task, prompts and `hf` backend (runs in the peers' environment).

Timed is the call that answers the requests (tokenisation and forward passes); loading the model and building the
requests are not.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from benchmarks.worker import peak_bytes, reset_peak, serve

_state: dict[str, Any] = {}


def load(model: str, dtype: str) -> dict[str, Any]:
    """The model, with no more than one held at a time."""
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM

    _state.clear()
    _state["model"] = HFLM(pretrained=model, dtype=dtype, device="cpu", batch_size=1)
    return {"lm_eval": lm_eval.__version__, "torch": torch.__version__, "threads": torch.get_num_threads()}


def build(folder: str, shots: int, questions: int) -> dict[str, Any]:
    """The harness's requests for the first `questions` test questions."""
    from lm_eval.tasks import TaskManager

    labels = json.loads((Path(folder) / "labels.json").read_text())
    name = f"local_{Path(folder).name}"
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {split: f"{folder}/{split}.jsonl" for split in ("train", "test")}},
        "output_type": "multiple_choice",
        "training_split": "train",
        "test_split": "test",
        "fewshot_split": "train",
        "num_fewshot": shots,
        "fewshot_config": {"sampler": "first_n"},
        "doc_to_text": "Text: {{input}}\nLabel:",
        "doc_to_choice": labels,
        "doc_to_target": f"{{{{{labels!r}.index(target)}}}}",
        "metric_list": [{"metric": "acc"}],
        "metadata": {"version": 1},
    }
    task = TaskManager().load([config])["tasks"][name]
    task.build_all_requests(limit=questions)
    _state["requests"], _state["labels"] = task.instances, len(labels)
    first = task.instances[0].args
    return {"requests": len(task.instances), "prompt": first[0], "continuation": first[1]}


def score(batch: int, first: int = 0, count: int | None = None) -> dict[str, Any]:
    """Answer `count` requests (all by default): seconds, the peak of memory, and each question's log-probabilities."""
    model, labels = _state["model"], _state["labels"]
    requests = _state["requests"][first : None if count is None else first + count]
    model.batch_size_per_gpu = batch
    reset_peak()
    began = time.perf_counter()
    answers = model.loglikelihood(requests, disable_tqdm=True)
    seconds = time.perf_counter() - began
    flat = [logprob for logprob, _ in answers]
    scores = [flat[i : i + labels] for i in range(0, len(flat), labels)]
    return {"seconds": seconds, "peak_bytes": peak_bytes(), "scores": scores}


if __name__ == "__main__":
    serve({"load": load, "build": build, "score": score})

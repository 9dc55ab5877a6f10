"""GGUF files (the format of llama.cpp) turned into plain transformers folders.

The weights are dequantised to float32, which holds every dequantised value exactly; what the quantisation lost stays
lost. transformers does the work; this module makes it twice as fast, and corrects the tokenizers that
transformers rebuilds with the wrong way of splitting text.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from opportune.errors import ModelError, first_line
from opportune.models.cache import cached
from opportune.models.digest import file_digest
from opportune.models.quiet import quiet
from opportune.types import Progress

RECIPE = "f32"  # part of the cached folder's name: to change when the conversion gives something else

# llama.cpp's names for ways of splitting text before byte-pair encoding (tokenizer.ggml.pre), which transformers
# takes for GPT-2's without a word when it does not know them. These split off every digit first, then as GPT-2 does:
_DIGITS_APART = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})
# and these are GPT-2's indeed.
_GPT2 = frozenset({"gpt-2", "mpt", "olmo", "jais", "phi-2"})


def converted(path: Path, progress: Progress) -> Path:
    """The transformers folder of a GGUF file, made in the cache the first time. Raises ModelError."""
    name = f"{path.stem}-{file_digest(path)}-{RECIPE}"
    return cached(name, lambda folder: convert(path, folder, progress))


def convert(path: Path, folder: Path, progress: Progress) -> None:
    """Write the model of the GGUF file `path` into `folder`, in float32 safetensors. Raises ModelError."""
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError(f"{path} is not a GGUF file: it does not begin with the four letters GGUF")
    from safetensors import SafetensorError

    quiet()
    try:
        with _reading_once(progress):
            network, tokenizer = _read(path)
    except ModelError:
        raise
    except Exception as error:  # the readers of a broken or foreign file raise what they stumble over
        raise ModelError(f"{path} cannot be read as a language model: {first_line(error)}") from error
    try:
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except SafetensorError as error:  # how a full disk looks from there
        raise OSError(first_line(error)) from error


def _read(path: Path) -> tuple[Any, Any]:
    """The network in float32 and its tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GgufConfig, PreTrainedTokenizerFast

    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name, "local_files_only": True}
    config = AutoConfig.from_pretrained(**where)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(**where, model_max_length=config.max_position_embeddings)
    _correct_splitting(tokenizer.backend_tokenizer, path)
    network = AutoModelForCausalLM.from_pretrained(
        **where, config=config, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    return network, tokenizer


def _correct_splitting(tokenizer: Any, path: Path) -> None:
    """Split text before byte-pair encoding as the file's `tokenizer.ggml.pre` says.

    Otherwise the blank line before a number is two tokens where the model learnt from one, and the like.
    """
    from tokenizers import pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    from transformers.integrations.gguf.reader import read_gguf_metadata

    metadata, _ = read_gguf_metadata(str(path))
    kind, splitting = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if kind != "gpt2" or splitting in _GPT2 or splitting in GGUF_PRE_TOKENIZER_SPLITS:
        return
    if splitting not in _DIGITS_APART:
        raise ModelError(
            f"{path}: its tokenizer splits text in the way {splitting!r}, which cannot be rebuilt from a GGUF file; "
            "give the Hugging Face folder of the same model"
        )
    digits_apart = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits_apart, tokenizer.pre_tokenizer])


@contextmanager
def _reading_once(progress: Progress) -> Iterator[None]:
    """Let transformers parse the file and build its table of tensor names once instead of 3 and 400 times.

    Both are pure functions of their arguments, called again at each step: remembering their results took the default
    model from 34 s to 16 s. Its progress bar goes to `progress` instead of the terminal.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as reading

    def watched(tensors: list[Any], **_: object) -> Iterator[Any]:
        for done, tensor in enumerate(tensors):
            progress("converting the model's weights (once)", done, len(tensors))
            yield tensor
        progress("converting the model's weights (once)", len(tensors), len(tensors))

    with ExitStack() as stack:
        for name in ("GGUFReader", "get_tensor_name_map"):
            stack.enter_context(_replaced(gguf, name, functools.cache(getattr(gguf, name))))
        stack.enter_context(_replaced(reading, "tqdm", watched))
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)

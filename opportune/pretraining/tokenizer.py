"""A byte-level BPE tokenizer (Sennrich et al. 2016; Radford et al. 2019); it can write any text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

END = "<|endoftext|>"


def train_tokenizer(documents: Iterable[str], vocabulary: int, file: Path) -> None:
    """Train a tokenizer of at most so many tokens, the token between documents included, and write it to a file."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    beside = file.with_suffix(".part")
    tokenizer.save(str(beside))
    beside.replace(file)


def open_tokenizer(file: Path, context: int) -> Any:
    """The trained tokenizer as transformers knows it."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_file=str(file), bos_token=END, eos_token=END, pad_token=END, model_max_length=context
    )

"""Prompt tuning: learned vectors in front of every prompt, alone or together with the model (Lester et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from opportune.errors import RecipeError
from opportune.methods.common import check_common, merged
from opportune.methods.full import Full
from opportune.methods.lora import Lora
from opportune.options import within
from opportune.types import NO_HINTS, Hints

Init = Literal["labels", "text", "vocabulary", "random"]
COMMON = 5000  # tokens that `vocabulary` draws from: Lester et al. take the most common ones, which come first


@dataclass(frozen=True, slots=True)
class PromptTuning:
    """Trains `tokens` vectors; with=lora or with=full the model moves along."""

    tokens: int = 20
    init: Init = "labels"
    with_: Literal["none", "lora", "full"] = "none"
    rank: int | None = None  # of with=lora; None: 8
    rate: float | None = None  # None: searched on the grid
    epochs: int = 4
    batch: int = 4  # lessons a step
    budget: int | None = None  # training tokens, choosing the rate included; None: as many as the epochs take

    summary: ClassVar[str] = "learn a soft prompt: vectors in front of every prompt"
    source: ClassVar[str] = "Lester et al. 2021"

    def __post_init__(self) -> None:
        within("prompt-tuning", "tokens", self.tokens, 1, 10_000)
        if self.rank is not None:
            within("prompt-tuning", "rank", self.rank, 1, 65_536)
            if self.with_ != "lora":
                raise RecipeError(f"prompt-tuning:rank={self.rank} is LoRA's: it needs with=lora")
        check_common("prompt-tuning", self.rate, self.epochs, self.batch, self.budget)

    @property
    def grid(self) -> tuple[float, ...]:
        """Lester et al. use 0.3 with Adafactor; Adam wants one or two orders less. Together with the model, what the
        model itself can bear."""
        return {"lora": Lora.grid, "full": Full.grid}.get(self.with_, (3e-3, 1e-2, 3e-2, 1e-1))

    def attach(self, network: Any, seed: int, hints: Hints = NO_HINTS) -> Any:
        """The network with virtual tokens; `hints` give the tokens that init=labels and init=text begin with."""
        from opportune.methods.virtual import add_tokens, embedding_of

        network = merged(network)
        network = add_tokens(network, first_vectors(network, self.tokens, self.init, seed, hints))
        vectors = embedding_of(network).vectors
        if self.with_ == "full":
            network.requires_grad_(True)
        elif self.with_ == "lora":
            network = self._lora().attach(network, seed)
            vectors.requires_grad_(True)
        return network

    def save(self, network: Any, folder: Path) -> None:
        """The vectors in peft's format; what moved along beside them, in the format of its own method."""
        from opportune.methods.virtual import embedding_of

        save_vectors(network, embedding_of(network).table(), folder)
        if self.with_ == "lora":
            self._lora().save(network, folder / "model")
        elif self.with_ == "full":
            Full().save(network, folder / "model")

    def load(self, network: Any, folder: Path) -> Any:
        """The network with the folder's virtual tokens and what was trained along."""
        from opportune.methods.virtual import add_tokens

        network = merged(network)
        if self.with_ == "full":
            network = Full().load(network, folder / "model")
        network = add_tokens(network, read_vectors(folder)).requires_grad_(False)
        return self._lora().load(network, folder / "model") if self.with_ == "lora" else network.eval()

    def _lora(self) -> Lora:
        return Lora(rank=8 if self.rank is None else self.rank)


def first_vectors(network: Any, tokens: int, init: Init, seed: int, hints: Hints) -> Any:
    """What the virtual tokens are before training: [tokens, hidden]. Raises RecipeError where a hint is missing."""
    import torch

    from opportune.methods.virtual import cycled

    embedding = network.get_input_embeddings()
    table, generator = embedding.weight, torch.Generator().manual_seed(seed)
    common = min(COMMON, len(table))

    @torch.no_grad()
    def read(ids: Any) -> Any:
        """Tokens as the network reads them: some architectures (Gemma) scale their embeddings."""
        return table[ids] if table.is_meta else embedding(ids.to(table.device))

    if init == "random":  # uniform on [-0.5, 0.5], scaled to the embeddings (Lester et al. 2021)
        spread = float(read(torch.arange(common)).float().std()) if not table.is_meta else 1.0
        return (torch.rand(tokens, table.shape[1], generator=generator) - 0.5) * 2 * spread
    if init == "vocabulary" or table.is_meta:
        return read(torch.randint(0, common, (tokens,), generator=generator))
    ids = hints.labels if init == "labels" else hints.text
    if not ids:
        known = "labels" if init == "labels" else "an instruction"
        raise RecipeError(f"init={init}: this task has no {known}; use init=vocabulary")
    first = cycled(read(torch.tensor(ids)), min(tokens, len(ids)))
    rest = first_vectors(network, tokens - len(first), "vocabulary", seed, hints) if tokens > len(first) else first[:0]
    return torch.cat([first, rest])


def save_vectors(network: Any, vectors: Any, folder: Path) -> None:
    """Write virtual tokens [tokens, hidden] as peft's prompt tuning, which loads them by itself."""
    from peft import PromptTuningConfig
    from safetensors.torch import save_file

    config = network.config.get_text_config()
    PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=len(vectors),
        token_dim=vectors.shape[1],
        num_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_transformer_submodules=1,
        inference_mode=True,
    ).save_pretrained(str(folder))
    save_file({"prompt_embeddings": vectors.detach().contiguous()}, folder / "adapter_model.safetensors")


def read_vectors(folder: Path) -> Any:
    """What `save_vectors` wrote."""
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")["prompt_embeddings"]

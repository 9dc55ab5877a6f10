"""From what was given as `--model` to a local backend: find it, check it, load it.

Everything ends as a local Hugging Face folder with safetensors: the default model and GGUF files are converted into the
cache, hub models are downloaded first. The checks come before the loading, so that their one line names the folder and
the file instead of the trace of another library.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from opportune.errors import ModelError, first_line
from opportune.models import gguf, hub, smollm2
from opportune.models.digest import model_digest
from opportune.models.folder import check_folder, read_config
from opportune.models.local import Local
from opportune.models.placing import choose_device, choose_dtype
from opportune.models.quantising import check_quantisation, quantisation
from opportune.models.quiet import quiet
from opportune.types import ModelInfo, Progress, digest

DEFAULT = smollm2.NAME


def load_model(
    name: str | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    quantise: str | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Local:
    """The model as a backend to ask. Raises ModelError, one line that says what is wrong and what is allowed.

    `name`: None or "smollm2-135m" for the default model, a local Hugging Face folder, a .gguf file, or a hub name.
    `device`: cpu, cuda, cuda:N or mps; `dtype`: float32, bfloat16 or float16; automatic where None or "auto".
    `quantise`: nf4 for weights of four bits, on a GPU with bitsandbytes.
    `trust_remote_code` lets the model's folder run its own Python code on this machine.
    `progress` is told about a download or a conversion, which happen once; by default a line on standard error.
    """
    quiet()
    place = choose_device(device)
    kind = choose_dtype(dtype, place)
    check_quantisation(quantise, place)
    folder = find(name, progress or announce)
    check_folder(folder)
    config = read_config(folder, trust_remote_code)
    options = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    network = _network(folder, config, place, kind, options | quantisation(quantise, kind))
    own = model_digest(folder)
    info = ModelInfo(
        name=_label(name) + (f" in {quantise}" if quantise else ""),
        path=str(folder),
        parameters=count_parameters(network),
        digest=digest([own, quantise]) if quantise else own,  # other weights, another model
        dtype=kind,
        device=place,
        quantise=quantise,
    )
    return Local(network=network, tokenizer=_tokenizer(folder, options), info=info)


def find(name: str | None, progress: Progress) -> Path:
    """The local folder of a model, fetched or converted where need be. Raises ModelError."""
    if name is None or name == DEFAULT:
        return smollm2.fetch(progress)
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise ModelError(f"{path} is not a model: give a Hugging Face folder, a .gguf file or a hub name")
        return gguf.converted(path.resolve(), progress)
    if path.suffix.lower() == ".gguf" or not hub.is_hub_name(name):
        raise ModelError(f"no model at {path}: there is no such file or folder, and it is not a hub name (OWNER/NAME)")
    return hub.fetch(name, progress)


def count_parameters(network: Any) -> int:
    """How many numbers the network has; weights used twice (tied) count once."""
    return int(network.num_parameters())


def _label(name: str | None) -> str:
    """A short name: of a path its last part (without .gguf), of a hub name all of it."""
    if name is None:
        return DEFAULT
    path = Path(name).expanduser()
    if not path.exists():
        return name
    return path.stem if path.is_file() else path.resolve().name


def _network(folder: Path, config: Any, device: str, dtype: str, options: dict[str, Any]) -> Any:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        network, report = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=getattr(torch, dtype),
            device_map=None if device == "cpu" else device,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
    except (ImportError, OSError, RuntimeError, SafetensorError, ValueError) as error:
        raise ModelError(f"the weights in {folder} cannot be loaded: {first_line(error)}") from error
    # What is missing or does not fit, transformers fills with random numbers, and goes on.
    if misfits := sorted(name for name, *_ in report["mismatched_keys"]):
        raise ModelError(f"the weights in {folder} do not fit its config.json: the shape of {misfits[0]!r} differs")
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"the weights in {folder} lack {len(missing)} of the model's tensors, first {missing[0]!r}")
    return network.eval()


def _tokenizer(folder: Path, options: dict[str, bool]) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, **options)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ModelError(f"the tokenizer in {folder} cannot be loaded: {first_line(error)}") from error


def announce(stage: str, done: int, _total: int) -> None:
    """A line on standard error when a stage begins."""
    if done == 0:
        print(f"{stage} ...", file=sys.stderr)

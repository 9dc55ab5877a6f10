"""A trained arm as a folder that other software loads, behind the parity gate of `parity`.

Merged: the base model with what was trained in its weights, computed in float32 and saved once in the number format
that the run measured, in the layout that transformers and vLLM read. As an adapter: the artefact as peft reads it. The
folder gets its name once it has passed; one that has not is kept beside it as NAME.failed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opportune.answering import StoredArm
from opportune.errors import ParityError, RecipeError, UsageError
from opportune.methods.common import merged
from opportune.models.loading import load_model
from opportune.models.local import Local
from opportune.parity import Parity, check
from opportune.store import Store
from opportune.types import Progress

NOTES = "opportune.json"  # in the folder: where it comes from and how it was asked
_WHOLE_WEIGHTS = ("full", "continual", "bias")  # methods whose weights are the model's own
_SHOWN = 10  # differing examples that an error names


@dataclass(frozen=True, slots=True)
class Exported:
    """A folder that passed the gate."""

    folder: Path
    run: str
    recipe: str
    parity: Parity


def check_places(merged: Path | None, adapter: Path | None) -> None:
    """Raises UsageError where one of the folders cannot be made, before anything is done for the other."""
    for folder in (merged, adapter):
        if folder is not None:
            _refuse_taken(folder.expanduser())
    if merged and adapter and merged.expanduser().resolve().is_relative_to(adapter.expanduser().resolve()):
        raise UsageError(f"--merged {merged} is the folder of --adapter {adapter}, or within it: name two folders")


def export_merged(store: Store, run: str, recipe: str, folder: Path, tell: Progress) -> Exported:
    """The base model with the trained weights merged into it. Raises RecipeError where they cannot be, UsageError for a
    folder that is not empty, ParityError (naming the differing examples) where the result answers otherwise."""
    arm = _trained_arm(store, run, recipe)
    known = arm.known()
    if arm.recipe.model and "quantise" in arm.recipe.model.options:
        raise RecipeError(f"what was trained on a quantised model does not fit the whole one; {_instead(arm)}")

    def make(part: Path) -> None:
        tell("merging in float32", 0, 1)
        model = arm.base("cpu", "float32")
        network = model.network
        for place, method in enumerate(arm.methods):
            network = method.load(network, _artefact(arm) / str(place))
        _refuse_virtual(arm, network)
        _save(_merged(arm, network), model, known["dtype"], part)
        tell("merging in float32", 1, 1)

    def loaded(part: Path) -> Local:
        return load_model(str(part), device=known["device"], dtype=known["dtype"], trust_remote_code=arm.trusts)

    return _gated(arm, folder, make, loaded, tell)


def export_adapter(store: Store, run: str, recipe: str, folder: Path, tell: Progress) -> Exported:
    """The trained weights alone, in peft's format. Raises as `export_merged` does."""
    arm = _trained_arm(store, run, recipe)
    known, method = arm.known(), arm.methods[-1]
    artefact = _artefact(arm) / "0"
    if len(arm.methods) > 1:
        raise RecipeError(f"{recipe}: its last adapter rests on what the methods before it trained; use --merged")
    if not _is_adapter(arm):
        what = arm.recipe.parts[0].name
        instead = "use --merged" if what in _WHOLE_WEIGHTS else "answer with `opportune ask`"
        raise RecipeError(f"{recipe}: what {what} trained is not one adapter that peft reads; {instead}")

    def make(part: Path) -> None:
        shutil.copytree(artefact, part, dirs_exist_ok=True)
        config = json.loads((part / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = known["path"]
        (part / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")

    def loaded(part: Path) -> Local:
        model = arm.base(known["device"], known["dtype"])
        model.tokenizer.save_pretrained(part)
        return model.with_network(method.load(model.network, part))

    return _gated(arm, folder, make, loaded, tell)


def _trained_arm(store: Store, run: str, recipe: str) -> StoredArm:
    arm = StoredArm.find(store, run, recipe)
    if arm.artefact is None:
        base = f"; its model is the one in {arm.known()['path']}" if arm.recipe.model and arm.record.model else ""
        raise RecipeError(f"{recipe} trains nothing, so there is nothing to export{base}")
    return arm


def _artefact(arm: StoredArm) -> Path:
    path = arm.artefact
    assert path is not None
    return path


def _is_adapter(arm: StoredArm) -> bool:
    """Whether peft alone reads what was trained."""
    artefact = _artefact(arm) / "0"
    whole = (artefact / "adapter_config.json").exists() and not any(path.is_dir() for path in artefact.iterdir())
    return len(arm.methods) == 1 and whole


def _instead(arm: StoredArm) -> str:
    """What to do with what cannot be merged."""
    also = "export it with --adapter, or " if _is_adapter(arm) else ""
    return f"{arm.record.recipe}: {also}answer with `opportune ask`"


def _refuse_virtual(arm: StoredArm, network: Any) -> None:
    if getattr(network, "virtual_tokens", 0):
        raise RecipeError(f"a soft prompt is input, no weight that could be merged into the model; {_instead(arm)}")


def _merged(arm: StoredArm, network: Any) -> Any:
    """The network with all that was trained in tensors that its architecture knows. Raises RecipeError otherwise."""
    import torch

    try:
        network = merged(network)
    except RecipeError as error:
        raise RecipeError(f"{error}; {_instead(arm)}") from error
    with torch.device("meta"):
        known = set(type(network)(network.config).state_dict())
    if strange := sorted(set(network.state_dict()) - known):
        raise RecipeError(
            f"{type(network).__name__} has no place for {len(strange)} of the trained tensors, first {strange[0]!r}; "
            f"{_instead(arm)}"
        )
    return network


def _gated(
    arm: StoredArm, folder: Path, make: Callable[[Path], None], loaded: Callable[[Path], Local], tell: Progress
) -> Exported:
    """Make the folder beside its place, let it answer, and give it its name."""
    folder = folder.expanduser()
    _refuse_taken(folder)
    part, failed = folder.with_name(f"{folder.name}.part"), folder.with_name(f"{folder.name}.failed")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        make(part)
        parity = check(arm, loaded(part), tell)
        _write_notes(arm, part, parity)
        shutil.rmtree(failed, ignore_errors=True)
        if not parity.holds:
            part.rename(failed)
            raise ParityError(_complaint(arm, parity, failed))
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Exported(folder, arm.record.run, arm.record.recipe, parity)


def _refuse_taken(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already and not empty: name a new folder")


def _save(network: Any, model: Local, dtype: str, folder: Path) -> None:
    """Weights, configuration, tokenizer with its chat template, and how to generate: greedily, as the run asked, up to
    the tokens that ended its answers."""
    import torch
    from transformers import GenerationConfig

    network = network.to(getattr(torch, dtype))
    base = network.generation_config
    # Nothing else of the base's: a penalty for repetition, say, is not what the run asked with.
    network.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=base.bos_token_id,
        pad_token_id=base.pad_token_id,
        eos_token_id=sorted(model.ends(chat=bool(model.tokenizer.chat_template))) or None,
    )
    network.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)


def _write_notes(arm: StoredArm, folder: Path, parity: Parity) -> None:
    first = arm.examples("test")[0].id
    calls = arm.store.calls(arm.record.run, arm.record.hash, arm.record.seed, "test")
    asked = next((call for call in calls if call.example == first), None)
    known = arm.known()
    notes = {
        "run": arm.record.run,
        "recipe": arm.record.resolved["recipe"],
        "base": {key: known[key] for key in ("name", "digest", "dtype")},
        "task": {key: arm.config["task"][key] for key in ("name", "instruction", "metric", "labels")},
        "asked": asked and {"prompt": asked.prompt, "choices": asked.choices},
        "parity": asdict(parity) | {"holds": parity.holds},
    }
    (folder / NOTES).write_text(json.dumps(notes, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _complaint(arm: StoredArm, parity: Parity, folder: Path) -> str:
    lines = [
        f"the exported {arm.record.recipe} does not answer as the trained model did; kept for a look in {folder}",
        f"score {_number(parity.score_before)} trained, {_number(parity.score_after)} exported; "
        f"{len(parity.differences)} of {parity.examples} test examples differ by more than the noise of {parity.dtype}",
    ]
    if parity.one_sided:
        lines.append(f"{parity.ties} answers changed within the noise, but the score went one way more than by chance")
    for found in parity.differences[:_SHOWN]:
        off = "" if found.nats is None else f", {found.nats:.2g} nats off"
        text = " ".join(found.input.split())[:60]
        lines.append(f"  {found.example}: {found.trained!r} trained, {found.exported!r} exported{off}: {text}")
    if len(parity.differences) > _SHOWN:
        lines.append(f"  and {len(parity.differences) - _SHOWN} more, in {folder / NOTES}")
    return "\n".join(lines)


def _number(score: float | None) -> str:
    return "—" if score is None else f"{score:.4f}"

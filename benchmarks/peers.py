"""Makes the peers' environment, benchmarks/.peers/venv; does nothing when it is there and up to date.

python -m benchmarks.peers
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE / ".peers" / "venv"
REQUIREMENTS = HERE / "peers.txt"
TORCH = "torch==2.13.0"  # installed before the rest, which would otherwise choose a torch of its own


def python() -> Path:
    """The interpreter of the peers' environment, which is made on the first call (minutes, about 2 GB)."""
    interpreter = FOLDER / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    wanted = f"{TORCH}\n{REQUIREMENTS.read_text()}"
    stamp = FOLDER / "installed.txt"  # written last: an interrupted installation is begun again
    if stamp.exists() and stamp.read_text() == wanted:
        return interpreter
    print(f"installing the peers in {FOLDER}", file=sys.stderr)
    shutil.rmtree(FOLDER, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(FOLDER))
    _run(str(interpreter), "-m", "pip", "install", "--quiet", TORCH)
    _run(str(interpreter), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS))
    stamp.write_text(wanted)
    return interpreter


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    print(python())

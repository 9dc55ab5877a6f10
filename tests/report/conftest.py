from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opportune.store import Store

sys.path.insert(0, str(Path(__file__).parent))  # synthetic.py, whoever starts pytest from wherever


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "runs") as opened:
        yield opened

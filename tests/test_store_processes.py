"""The store under several processes, and under processes that are killed."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from opportune.store import Store


def test_many_processes_may_open_and_write_at_once(tmp_path: Path) -> None:
    script = f"""
import sys
from dataclasses import replace
from opportune.store import Store
from opportune.records import OutcomeRecord
name = sys.argv[1]
with Store.open({str(tmp_path)!r}) as store:
    for number in range(20):
        store.put_outcomes([OutcomeRecord("r", name, 0, "test", str(number), "a", "a", "ok", 1.0)])
"""
    children = [subprocess.Popen([sys.executable, "-c", script, str(n)], stderr=subprocess.PIPE) for n in range(4)]
    assert [(child.communicate()[1], child.returncode) for child in children] == [(b"", 0)] * 4
    assert len(Store.open(tmp_path).outcomes("r")) == 80


WRITER = """
import sys
from opportune.records import CallRecord
from opportune.store import Store
folder, start = sys.argv[1], int(sys.argv[2])
store = Store.open(folder)
print("ready", flush=True)
for batch in range(start, 10**9):
    store.put_calls([
        CallRecord("r", "h", 0, "test", str(batch), 0, place, f"{batch}/{place}", "prompt " * 200) for place in range(5)
    ])
    print(batch, flush=True)
"""


def test_kill_at_any_moment_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    chance, acknowledged = random.Random(0), -1
    for _ in range(5):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(acknowledged + 1)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        if chance.random() < 0.8:  # else while it opens the store
            assert child.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0, 0.1))
        child.kill()
        said = [line for line in child.communicate()[0].split("\n")[:-1] if line != "ready"]
        acknowledged = int(said[-1]) if said else acknowledged
        with Store.open(tmp_path) as store:
            calls = store.calls("r")
        with sqlite3.connect(tmp_path / "opportune.db") as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        batches = {int(call.example) for call in calls}
        assert len(calls) == 5 * len(batches)  # no batch is there in part
        assert batches == set(range(len(batches)))
        assert len(batches) in (acknowledged + 1, acknowledged + 2)  # the last may be in without its acknowledgement
        acknowledged = len(batches) - 1
    assert acknowledged > 10

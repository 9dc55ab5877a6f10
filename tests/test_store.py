"""The store: what is acknowledged is kept, whatever happens to the process; bad situations are one clear line."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opportune import migrations
from opportune.cost import Amount, Cost
from opportune.errors import StoreError
from opportune.records import (
    ArmRecord,
    CallRecord,
    CurvePoint,
    ExampleRecord,
    Facts,
    Latency,
    OutcomeRecord,
    RunConfig,
    RunRecord,
    Trial,
)
from opportune.store import DATABASE, Store

CONFIG: RunConfig = {
    "task": {
        "name": "colours",
        "source": "colours.csv",
        "kind": "choice",
        "instruction": "Name the colour.",
        "metric": "accuracy",
        "labels": ["red", "blue"],
        "notes": ["2 duplicates removed"],
    },
    "models": [],
    "seeds": [0],
    "tolerance": 0.03,
    "machine_price": None,
    "versions": {"opportune": "0.1.0"},
}
ARM = ArmRecord(
    *("r", "h", 1, 0, "lora:rank=4+zero-shot", "tiny", {"rank": 4}, "done", None),
    predicted=Cost(tuning=Amount(seconds=3.0)),
    measured=Cost(asking=Amount(seconds=1.5, tokens_in=7, peak_bytes=2**40)),
    facts=Facts(latency=Latency(0.1, 0.2), saved=Amount(seconds=9.0), trials=(Trial(1e-3, 0.5, None, 9, True),)),
)
CALL = CallRecord(
    *("r", "h", 0, "test", "e1", 0, 0, "key-1", 'Say "hi" \x00 <é𝄞>\n', ("red", "blue"), (), (-1.25, -0.1)),
    *(2**40, 0, 0.25, 1e15, 3, 4, None, False),
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store of its own; in the database named by OPPORTUNE_TEST_DATABASE where that is set."""
    if url := os.environ.get("OPPORTUNE_TEST_DATABASE"):
        import sqlalchemy

        engine = sqlalchemy.create_engine(url)
        metadata = sqlalchemy.MetaData()
        metadata.reflect(engine)
        metadata.drop_all(engine)
        return Store.open(url, tmp_path)
    return Store.open(tmp_path)


def test_records_and_tables_have_the_same_columns(store: Store) -> None:
    kinds = {
        "runs": RunRecord,
        "examples": ExampleRecord,
        "arms": ArmRecord,
        "calls": CallRecord,
        "outcomes": OutcomeRecord,
        "curves": CurvePoint,
    }
    for name, kind in kinds.items():
        assert [column.name for column in store._tables[name].columns] == [field.name for field in fields(kind)]


def test_every_record_comes_back_equal(store: Store) -> None:
    examples = [
        ExampleRecord("r", "test", 1, "e2", "in\x1f", "blue", None, "g"),
        ExampleRecord("r", "test", 0, "e1", "", "red", ("red", "blue")),
        ExampleRecord("r", "dev", 0, "e3", "x", "y"),
    ]
    outcomes = [
        OutcomeRecord("r", "h", 0, "test", "e1", "red", "red!", "ok", 1.0, {"red": 0.1}),
        OutcomeRecord("r", "h", 0, "test", "e2", None, "", "failed", None),
    ]
    curve = [CurvePoint("r", "h", 0, "rate=0.001", step, {"loss": 1 / (step + 1)}) for step in range(3)]
    call = replace(CALL, prompt='Say "hi" <é𝄞>\n')
    store.put_examples(examples)
    store.put_arm(ARM)
    store.put_calls([call])
    store.put_outcomes(outcomes)
    store.put_curve(curve)
    assert store.examples("r", "test") == [examples[1], examples[0]]
    assert len(store.examples("r")) == 3
    assert store.arms("r") == [ARM]
    assert store.calls("r", "h", 0, "test") == store.calls("r") == [call]
    assert store.outcomes("r", hash="h", split="test") == outcomes
    assert store.curves("r") == curve
    assert store.calls("r", "h", 0, "dev") == store.outcomes("other") == []


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One store for many small checks."""
    return Store.open(tmp_path_factory.mktemp("shared"))


@settings(max_examples=60, deadline=None)
@given(
    prompt=st.text(st.characters(exclude_categories=["Cs"])),
    scores=st.none() | st.lists(st.floats(allow_nan=False, allow_infinity=False)).map(tuple),
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]))).map(tuple),
    flops=st.floats(0, 1e30),
)
def test_calls_come_back_to_the_bit(
    shared: Store, prompt: str, scores: tuple[float, ...] | None, texts: tuple[str, ...], flops: float
) -> None:
    call = replace(CALL, prompt=prompt, scores=scores, texts=texts, flops=flops)
    shared.put_calls([call])
    assert shared.calls("r") == [call]


def test_a_number_that_is_not_finite_is_kept_as_unknown(store: Store) -> None:
    store.put_curve([CurvePoint("r", "h", 0, "", 0, {"loss": float("nan"), "dev_loss": float("inf"), "rate": 0.1})])
    assert store.curves("r")[0].values == {"loss": None, "dev_loss": None, "rate": 0.1}


def test_writing_again_replaces(store: Store) -> None:
    call = replace(CALL, prompt="p", error="timeout")
    store.put_calls([call, replace(call, position=1)])
    store.put_calls([replace(call, error=None)])
    assert [c.error for c in store.calls("r")] == [None, "timeout"]
    store.put_arm(replace(ARM, status="running"))
    store.put_arm(replace(ARM, status="failed", reason="diverged"))
    assert [(arm.status, arm.reason) for arm in store.arms("r")] == [("failed", "diverged")]


def test_a_batch_is_written_whole_or_not_at_all(store: Store) -> None:
    broken = replace(CALL, prompt="p", position=1, texts=None)  # type: ignore[arg-type]
    object.__setattr__(broken, "prompt", None)  # a column that must be filled
    with pytest.raises(StoreError):
        store.put_calls([replace(CALL, prompt="p"), broken])
    assert store.calls("r") == []


def test_find_calls_gives_what_succeeded_and_was_paid_for(store: Store) -> None:
    paid = replace(CALL, prompt="p", hash="z")
    copy = replace(paid, hash="a", shared=True)
    failed = replace(paid, example="e2", key="key-2", error="timeout")
    elsewhere = replace(paid, run="other", key="key-3")
    store.put_calls([copy, paid, failed, elsewhere])
    assert store.find_calls("r", ["key-1", "key-2", "key-3", "key-4"]) == {"key-1": paid}
    many = [replace(paid, example=f"m{i}", key=f"many-{i}") for i in range(1200)]
    store.put_calls(many)
    assert store.find_calls("r", [call.key for call in many]) == {call.key: call for call in many}


def test_runs_are_found_by_key_prefix_and_age(store: Store) -> None:
    with pytest.raises(StoreError, match="no runs in"):
        store.latest_run()
    first = store.begin_run("key a", "colours", CONFIG)
    second = store.begin_run("key b", "colours", CONFIG)
    assert store.begin_run("key a", "another name", CONFIG) == first
    assert store.list_runs() == [second, first]
    assert store.latest_run() == second
    assert store.run(first.id) == store.run(first.id[:-1]) == first
    with pytest.raises(StoreError, match=f"no run '%'.*the latest: {second.id}, {first.id}"):
        store.run("%")
    with pytest.raises(StoreError, match="2 runs begin with '20'"):
        store.run("20")
    store.finish_run(first.id)
    assert store.run(first.id).status == "finished"
    assert store.run(second.id).status == "running"


def test_no_store_is_made_for_a_reader(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no runs in .*nowhere.*opportune compare"):
        Store.open(tmp_path / "nowhere", create=False)
    assert not (tmp_path / "nowhere").exists()


def test_a_second_process_on_the_run_is_told_who_has_it(store: Store) -> None:
    script = f"""
from opportune.store import Store
with Store.open({str(store.folder)!r}).lock_run("r"):
    print("held", flush=True); input()
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(StoreError, match=f"run r is in use by process {child.pid}"), store.lock_run("r"):
        pytest.fail("the lock was given twice")
    with store.lock_run("another run"):
        pass
    child.kill()
    child.wait()
    with store.lock_run("r"):
        pass
    with store.lock_run("r"):
        pass


def test_a_newer_store_is_not_touched(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "opportune.db") as database:
        database.execute("INSERT INTO migrations VALUES ('m999_from_the_future')")
    with pytest.raises(StoreError, match=r"opportune\.db is of a newer version .*m999_from_the_future.*update"):
        Store.open(tmp_path)


def test_a_failing_migration_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(tmp_path) as store:
        store.put_calls([replace(CALL, prompt="p")])

    def m002_breaks(connection: migrations.Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE calls ADD COLUMN colour TEXT")
        connection.exec_driver_sql("ALTER TABLE absent ADD COLUMN colour TEXT")

    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, m002_breaks))
    with pytest.raises(StoreError, match="no such table: absent"):
        Store.open(tmp_path)
    monkeypatch.undo()
    with Store.open(tmp_path) as store:
        assert store.calls("r") == [replace(CALL, prompt="p")]


def test_what_is_not_a_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "opportune.db").write_text("not a database, but long enough to be looked at" * 100)
    with pytest.raises(StoreError, match=r"opportune\.db: file is not a database"):
        Store.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot use .*file"):
        Store.open(tmp_path / "file")


def test_a_teams_database_is_named_by_its_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATABASE, f"sqlite:///{tmp_path / 'team.db'}")
    with Store.open(tmp_path / "mine") as mine:
        run = mine.begin_run("key", "desk", CONFIG)
        assert mine.run_folder(run.id).parent == tmp_path / "mine"
    with Store.open(tmp_path / "yours", create=False) as yours:
        assert [record.id for record in yours.list_runs()] == [run.id]
    assert not (tmp_path / "mine" / "opportune.db").exists()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mssql+pyodbc://user:secret@host/db", "only sqlite and postgresql"),
        ("postgresql+nonsense://user:secret@host/db", "cannot use the database postgresql.nonsense"),
    ],
)
def test_a_database_that_is_not_supported_is_refused(
    url: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE, url)
    with pytest.raises(StoreError, match=reason) as caught:
        Store.open(tmp_path)
    assert "secret" not in str(caught.value)


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.put_calls([replace(CALL, prompt="p")])
        with store._engine.connect() as connection:  # the pool hands the same connection to the writes below
            connection.exec_driver_sql("PRAGMA max_page_count = 40")
        with pytest.raises(StoreError, match=r"opportune\.db: database or disk is full; free some space") as caught:
            store.put_calls([replace(CALL, position=n, prompt="long" * 1000) for n in range(1, 500)])
        assert "\n" not in str(caught.value)
        assert store.calls("r") == [replace(CALL, prompt="p")]


def test_a_read_only_store_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(tmp_path) as store:
        store.put_calls([replace(CALL, prompt="p")])
    monkeypatch.setenv(DATABASE, f"sqlite:///file:{tmp_path}/opportune.db?mode=ro&uri=true")
    with Store.open(tmp_path) as store:
        assert len(store.calls("r")) == 1
        with pytest.raises(StoreError, match="readonly"):
            store.put_arm(ARM)

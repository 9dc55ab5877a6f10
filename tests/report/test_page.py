from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opportune.comparison import of_run
from opportune.cost import Amount, Cost
from opportune.report import numbers
from opportune.report.page import fragment, write_report
from opportune.store import Store

from .synthetic import ARMS, Plan, make_run

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"&\u2028`${1}"


def written(store: Store, run: str, folder: Path) -> str:
    return write_report(store, run, folder / "report.html").read_text(encoding="utf-8")


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_the_page_needs_nothing_but_itself(store: Store, tmp_path: Path) -> None:
    page = written(store, make_run(store, arms=[ARMS[1], ARMS[4], ARMS[8]]), tmp_path)
    assert not re.findall(r"""(?:src|href|action|srcset)\s*=\s*["']?(?!["']?#)""", page.split('id="data"')[0])
    assert not re.findall(r"url\(|@import|\bfetch\(|XMLHttpRequest|\beval\(|innerHTML|https?://", page)
    policy = html.unescape(re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[0])
    for tag in ("style", "script"):
        text = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert len(text) == 1
        digest = base64.b64encode(hashlib.sha256(text[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert not re.findall(r"<[^>]* (?:style|on\w+)=", page.split('id="data"')[0])  # the policy would block them


def test_data_and_answers_can_do_nothing(store: Store, tmp_path: Path) -> None:
    run = make_run(store, arms=ARMS[:5], labels=[HOSTILE, "b", "c"], messages=[HOSTILE], tests=12, failed=0.3)
    page = written(store, run, tmp_path)
    assert page.count("<script") == page.count("</script") == 2
    assert "<img" not in page
    assert "\u2028" not in data_of_text(page)
    example = data_of(page)["examples"][0]
    assert example["input"].startswith(HOSTILE)
    assert example["target"] == HOSTILE


def data_of_text(page: str) -> str:
    return page.split('id="data">')[1].split("</script>")[0]


def test_every_prompt_answer_and_log_probability_is_there(store: Store, tmp_path: Path) -> None:
    run = make_run(store, arms=[ARMS[0], ARMS[4], ARMS[8]], tests=20)
    data = data_of(written(store, run, tmp_path))
    assert data["arms"] == ["majority", "k-shot:k=8", "lora:rank=16"]
    rows = list[list[int]]()
    for shared, *rest in data["prompts"]:
        rows.append((rows[-1][:shared] if rows else []) + rest)
    prompts = ["".join(data["pieces"][number] for number in row) for row in rows]
    calls = {(call.hash, call.example): call for call in store.calls(run, stage="test")}
    outcomes = {(outcome.hash, outcome.example): outcome for outcome in store.outcomes(run, split="test")}
    for example in data["examples"]:
        for name, asked in zip(data["arms"], example["asked"], strict=True):
            outcome = outcomes[f"hash{name}", example["id"]]
            assert (asked["status"], asked["answer"], asked["score"]) == (outcome.status, outcome.answer, outcome.score)
            call = calls.get((f"hash{name}", example["id"]))
            assert [prompts[shown["prompt"]] for shown in asked["calls"]] == ([call.prompt] if call else [])
            if call:
                assert asked["calls"][0]["scores"] == pytest.approx(list(call.scores or ()), abs=1e-3)
                assert data["choices"][asked["calls"][0]["choices"]] == list(call.choices or ())


def test_a_big_run_stays_small(store: Store, tmp_path: Path) -> None:
    plans = [Plan(f"k-shot:k=72,seed={i}", 0.6, 72, 0.05, nearest=i % 2 == 0) for i in range(10)]
    run = make_run(store, arms=plans, tests=150)
    lengths = [len(call.prompt) for call in store.calls(run, stage="test")]
    assert len(lengths) == 1500
    assert min(lengths) > 6000
    assert len(written(store, run, tmp_path).encode()) < 6_000_000


@pytest.mark.parametrize("done", [0, 2])
def test_an_unfinished_run_has_a_page(store: Store, tmp_path: Path, done: int) -> None:
    page = written(store, make_run(store, arms=[ARMS[1], ARMS[8], ARMS[2]], done=done), tmp_path)
    assert "No recommendation yet" in page or "So far" in page
    assert ("pending" in page) == (done == 0)


def test_the_page_of_a_finished_run_begins_with_its_recommendation(store: Store, tmp_path: Path) -> None:
    run = make_run(store, arms=ARMS[:3])
    page = written(store, run, tmp_path)
    text = of_run(store, run).recommendation_text
    assert html.escape(text, quote=False) in html.unescape(page).replace("&", "&amp;") or text in html.unescape(page)
    assert page.index("Recommendation") < page.index("<table")
    assert "the sealed test split was scored once per arm" in page
    assert "(inferred from the targets)" in page


def test_many_labels_and_seeds(store: Store, tmp_path: Path) -> None:
    labels = [f"intent number {i}" for i in range(77)]
    run = make_run(store, arms=[ARMS[2], ARMS[8]], labels=labels, tests=154, seeds=2)
    page = written(store, run, tmp_path)
    assert "the 20 most confused of 77 labels" in page
    assert data_of(page)["arms"] == [
        "zero-shot (seed 0)",
        "lora:rank=16 (seed 0)",
        "zero-shot (seed 1)",
        "lora:rank=16 (seed 1)",
    ]


def test_an_old_page_stays_when_a_new_one_cannot_be_written(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(self: Path, text: str, encoding: str) -> int:
        with self.open("w", encoding=encoding) as file:
            file.write(text[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_report(store, make_run(store, arms=ARMS[:1]), path)
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir() if item.is_file()] == ["report.html"]


def test_a_notebook_gets_the_table_and_the_plot(store: Store) -> None:
    shown = fragment(of_run(store, make_run(store, arms=ARMS[:3])))
    assert "<table" in shown
    assert "<svg" in shown
    assert "<script" not in shown


def test_predicted_stands_beside_measured(store: Store, tmp_path: Path) -> None:
    run = make_run(store, arms=[ARMS[1], ARMS[8]], price=2.0)
    for arm in store.arms(run):
        expected = Cost(training=Amount(seconds=1800, peak_bytes=3 << 30))
        store.put_arm(replace(arm, predicted=expected if arm.model else None))
    table = written(store, run, tmp_path).split("Predicted beside measured</h3>")[1].split("</table>")[0]
    by_arm = {row.split("</th>")[0]: row for row in html.unescape(table).split("<tr>")[2:]}
    baseline, trained = by_arm.values()
    cells = re.findall(r"<td>(.*?)</td>", trained)
    measured = next(arm.measured.total() for arm in store.arms(run) if arm.model)
    assert cells[:4] == ["30 min 00 s", numbers.duration(measured.seconds), "3.0 GiB", "1.9 GiB"]
    assert cells[4:] == ["$1.00", numbers.money((measured.seconds or 0) / 1800)]
    assert re.findall(r"<td>(.*?)</td>", baseline)[::2] == ["—"] * 3


def test_without_a_price_no_dollars_are_compared(store: Store, tmp_path: Path) -> None:
    page = written(store, make_run(store, arms=[ARMS[8]]), tmp_path)
    assert "dollars" not in page.split("Predicted beside measured</h3>")[1].split("</table>")[0]


def test_what_was_trained_and_how_large_it_is_stands_on_the_page(store: Store, tmp_path: Path) -> None:
    run = make_run(store, arms=[ARMS[2], ARMS[8]])
    (trained,) = [arm for arm in store.arms(run) if arm.facts.trainable_parameters]
    store.put_arm(replace(trained, facts=replace(trained.facts, artefact_bytes=19 << 20, trials=())))
    bill = written(store, run, tmp_path).split("The bill of each arm</h3>")[1].split("</table>")[0]
    assert "4.9M" in bill
    assert "19.0 MiB" in bill


def test_a_model_behind_a_server_has_no_size_and_says_how_it_chooses(store: Store, tmp_path: Path) -> None:
    run = make_run(store, arms=[ARMS[2]], remote="first-token")
    page = written(store, run, tmp_path)
    assert "0 parameters" not in page
    assert "choices by log-probabilities of the answer's first token" in html.unescape(page)

"""A whole comparison with models behind servers: identity, caps, what failed and is asked again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from opportune.api import _Unwatched, ask, compare, curve, show
from opportune.cli.main import main
from opportune.errors import ModelError, RecipeError
from opportune.models import endpoint as endpoint_module
from opportune.report.table import footnotes
from opportune.store import Store
from tests.models.hostile import HASTY, Reply, StandIn, error
from tests.toy import FRUIT, toy_task


@pytest.fixture(autouse=True)
def little_patience(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr(endpoint_module, "Patience", lambda *given: replace(HASTY, retries=1))


def task():
    """The toy task with right answers to score."""
    whole = toy_task()
    labelled = [replace(e, target="fruit" if any(f in e.input for f in FRUIT) else "tool") for e in whole.test]
    return replace(whole, test=tuple(labelled))


def say(text):
    return "fruit" if any(fruit in text.rpartition("Text:")[2] for fruit in FRUIT) else "tool"


class Noting(_Unwatched):
    """Keeps what a run says before it goes on."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


RECIPES = ["zero-shot", "k-shot:k=4"]


def test_local_arms_and_endpoints_stand_in_one_table(tmp_path):
    with StandIn(say, ways=("constrained",)) as server:
        done = compare(task(), recipes=["majority", *RECIPES], models=["openai:m"], base_url=server.url, runs=tmp_path)
        row = done.row("k-shot:k=4")
        assert [r.status for r in done.rows] == ["done"] * 3
        assert row.score.value == 1.0
        assert row.model == "openai:m"
        assert done.models[0]["device"] == "endpoint"
        assert done.models[0]["path"] == server.url
        assert show(runs=tmp_path).models[0]["choosing"] == "constrained"
        assert row.measured.asking.calls == 4
        assert row.measured.asking.tokens_in > 0
        assert row.measured.asking.flops is None
        assert row.predicted.asking.calls == 4
        assert row.predicted.asking.seconds is None
        asked = len(server.requests)
        again = compare(task(), recipes=["majority", *RECIPES], models=["openai:m"], base_url=server.url, runs=tmp_path)
        assert again.run == done.run
        assert len(server.requests) == asked  # nothing to do, nothing asked
        assert ask("latest", "k-shot:k=4", "a fig", runs=tmp_path).text == "fruit"
        with StandIn(say) as other:
            elsewhere = compare(task(), recipes=RECIPES, models=["openai:m"], base_url=other.url, runs=tmp_path)
            assert elsewhere.run != done.run


def test_failed_calls_and_only_they_are_made_again(tmp_path):
    ill = True

    def sometimes(path, body):
        said = body.get("messages", [{"content": ""}])[-1]["content"]
        return Reply(500, error("ill")) if ill and "the fig" in said else None

    def run():
        return compare(task(), recipes=["zero-shot"], models=["openai:m"], base_url=server.url, runs=tmp_path)

    with StandIn(say, reply=sometimes) as server:
        first = run().rows[0]
        assert (first.status, first.failed, first.n) == ("done", 1, 4)
        assert first.score.high == 1.0
        ill, before = False, len(server.requests)
        second = run().rows[0]
        asked = [b["messages"][-1]["content"] for b in server.bodies()[before:]]
        assert (second.failed, second.score.value) == (0, 1.0)
        assert [text for text in asked if "Text:" in text and "the fig" not in text] == []


def test_failed_calls_that_chose_among_values_are_told_and_made_again(tmp_path):
    ill = True

    def reply(path, body):
        messages = body.get("messages", [])
        if ill and len(messages) == 6 and "one " in messages[-1]["content"]:  # two demonstrations, a question of dev
            return Reply(500, error("ill"))
        if len(messages) == 10:  # with four it is wrong about tools
            return Reply(body=server.answer("/v1/chat/completions", {"messages": [{"content": "Text: a fig"}]}))
        return None

    def run():
        recipes = ["k-shot:k=[4,2]"]
        return compare(task(), recipes=recipes, models=["openai:m"], base_url=server.url, runs=tmp_path)

    with StandIn(say, reply=reply) as server:
        first = run()
        assert "k=4" in first.rows[0].seeds[0].facts.chosen
        assert "4 of the 8 answers on dev that chose failed" in dict(footnotes(first))["k-shot:k=[4,2]"]
        ill = False
        second = run()
        assert "k=2" in second.rows[0].seeds[0].facts.chosen
        assert second.rows[0].score.value == 1.0
        assert "failed" not in dict(footnotes(second))["k-shot:k=[4,2]"]
        asked = len(server.requests)
        run()
        assert len(server.requests) == asked


def test_a_cap_is_kept_over_sittings_and_lifted_by_a_higher_one(tmp_path):
    prices = tmp_path / "prices.csv"
    prices.write_text("model,input,output\nm,1000,1000\n")

    def run(**caps):
        return compare(
            task(), recipes=RECIPES, models=["openai:m"], base_url=server.url, runs=tmp_path, prices=prices, **caps
        )

    with StandIn(say, ways=("constrained",)) as server:
        with pytest.raises(RecipeError, match="max dollars"):
            run(max_dollars=-1.0)
        capped = run(max_tokens=300)  # at these prices $0.3; a cap in dollars leaves whole arms out as well
        paid = (server.tokens_in + server.tokens_out) / 1000
        assert 0.1 < paid <= 0.3
        assert any(row.failed or row.status == "failed" for row in capped.rows)
        again = run(max_tokens=300)
        greeted = (server.tokens_in + server.tokens_out) / 1000 - paid
        assert again.run == capped.run
        assert greeted < 0.2  # a greeting at most
        lifted = run(max_dollars=100.0)
        assert [row.failed for row in lifted.rows] == [0, 0]
        assert lifted.rows[0].measured.asking.dollars > 0
        assert run(max_tokens=1).run == capped.run


def test_an_arm_that_was_done_keeps_its_score_where_a_lower_cap_forbids_its_failed_calls(tmp_path):
    (tmp_path / "prices.csv").write_text("model,input,output\nm,1000,1000\n")

    def ill(path, body):
        return Reply(400, error("no")) if "the file" in str(body) else None

    def run(**caps):
        where = {"base_url": server.url, "runs": tmp_path / "runs", "prices": tmp_path / "prices.csv"}
        return compare(task(), recipes=RECIPES, models=["openai:m"], cache=False, watcher=heard, **where, **caps)

    heard = Noting()
    with StandIn(say, ways=("constrained",), reply=ill) as server:
        first = run()
        assert [(row.status, row.failed) for row in first.rows] == [("done", 1)] * 2
        asked = len(server.requests)
        capped = run(max_dollars=0.01)
        assert not any("Text:" in str(body) for body in server.bodies()[asked:])
    assert [row.score for row in capped.rows] == [row.score for row in first.rows]
    assert [row.measured for row in capped.rows] == [row.measured for row in first.rows]
    assert capped.recommended == first.recommended is not None
    kept = [text for text in heard.notes if "its score stays, its failed calls are not made again (not run: $" in text]
    assert len(kept) == 2


def test_a_curve_keeps_its_caps_over_all_its_runs(tmp_path):
    def run(cap):
        where = {"models": ["openai:m"], "base_url": server.url, "cache": False, "runs": tmp_path}
        return curve(task(), recipes=["k-shot:k=2"], sizes=[4, 8, 16], draws=2, max_tokens=cap, **where)

    with StandIn(say, ways=("constrained",)) as server:
        run(600)
        paid = server.tokens_in + server.tokens_out
        assert 300 < paid <= 600
        lifted = run(100_000)
        assert server.tokens_in + server.tokens_out > 1000
        assert [point.score.value for point in lifted.lines[0].points] == [1.0] * 3


def test_what_failed_calls_have_cost_counts_in_later_sittings(tmp_path):
    empty = Reply(body={"model": "m", "choices": [], "usage": {"prompt_tokens": 990, "completion_tokens": 10}})
    with StandIn(say, reply=lambda path, body: empty if "Text:" in str(body) else None) as server:
        for _ in range(4):
            where = {"base_url": server.url, "runs": tmp_path}
            compare(task(), recipes=["zero-shot"], models=["openai:m"], max_tokens=20_000, **where)
        asked = sum("Text:" in str(body) for body in server.bodies())
    # Not four times twenty; and over the cap by the calls that were under way together at the most.
    assert 15 <= asked < 20 + server.most_running


def test_what_cannot_be_is_said_before_anything_is_asked(tmp_path):
    with StandIn(say) as server:
        here = {"models": ["openai:m"], "base_url": server.url, "runs": tmp_path}
        with pytest.raises(RecipeError, match="trains, but openai:m is an endpoint"):
            compare(task(), recipes=["lora:rank=2"], **here)
        with pytest.raises(ModelError, match="no price is known"):
            compare(task(), recipes=["zero-shot"], max_dollars=1.0, **here)
        assert server.requests == []
    with Store.open(tmp_path) as store:
        assert store.list_runs() == []


def test_of_the_defaults_what_trains_is_left_out(tmp_path):
    with StandIn(say, ways=("constrained",)) as server:
        done = compare(task(), models=["openai:m"], base_url=server.url, runs=tmp_path)
    names = [row.recipe for row in done.rows]
    assert "k-shot:k=8" in names
    assert not any("lora" in name or "full" in name for name in names)


def test_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"the {word} {i},{label}" for i in range(8) for word, label in (("pear", "fruit"), ("saw", "tool"))]
    (tmp_path / "rows.csv").write_text("\n".join(["text,kind", *rows]) + "\n")

    def run(*more):
        with pytest.raises(SystemExit) as stop:
            main(["compare", "rows.csv", "--model", "openai:m", "--try", "zero-shot", *more])
        return stop.value.code, *capsys.readouterr()

    with StandIn(say, ways=("constrained",)) as server:
        code, out, err = run("--base-url", server.url, "--json", "--max-tokens", "100000")
        assert code == 0, err
        assert json.loads(out)["models"][0]["name"] == "openai:m"
        assert f"model openai:m: endpoint {server.url}, chat, choices by constrained generation" in err
    with StandIn(reply=lambda path, body: Reply(401, error("no"))) as server:
        code, out, err = run("--base-url", server.url)
        assert (code, out) == (2, "")
        assert [line for line in err.splitlines() if line.startswith("opportune: ")] == [
            f"opportune: {server.url} refuses the key (401: no): set OPENAI_API_KEY to a valid one"
        ]


def test_a_key_that_is_revoked_under_way_fails_the_arm_and_not_the_run(tmp_path):
    revoked = []

    def guard(path, body):
        said = body.get("messages", [{"content": ""}])[-1]["content"]
        revoked.extend([1] * ("Text:" in said))
        return Reply(403, error("revoked")) if len(revoked) > 3 else None

    with StandIn(say, reply=guard) as server:
        compare(task(), recipes=["zero-shot", "majority"], models=["openai:m"], base_url=server.url, runs=tmp_path)
    rows = {row.recipe: row for row in show(runs=tmp_path).rows}
    assert rows["zero-shot"].status == "failed"
    assert "refuses the key (403: revoked)" in rows["zero-shot"].reason
    assert rows["majority"].status == "done"


def test_the_key_goes_to_the_server_and_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret-key")
    runs = tmp_path / "runs"
    with StandIn(say, share=0.1, seed=4) as server:
        compare(task(), recipes=RECIPES, models=["openai:m"], base_url=server.url, runs=runs)
        assert server.headers["Authorization"] == "Bearer very-secret-key"
    for path in runs.rglob("*"):
        assert path.is_dir() or b"very-secret-key" not in path.read_bytes()

"""The response cache: no call is paid twice, whoever asks, and whatever happens in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import pytest

from opportune.api import ask, compare
from opportune.cli.main import main
from opportune.errors import ModelError
from opportune.models import endpoint as endpoint_module
from opportune.models.endpoint import Endpoint
from opportune.models.prices import Price
from opportune.models.response_cache import Kept, ResponseCache
from opportune.report.table import markdown
from opportune.types import Message, Prompt
from tests.models.hostile import HASTY, Reply, StandIn, error
from tests.models.test_endpoint_run import say, task

PRICE = Price("m", 1000, 1000)


@pytest.fixture(autouse=True)
def little_patience(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr(endpoint_module, "Patience", lambda *given: replace(HASTY, retries=1))


def test_seeds_have_samples_of_their_own_where_the_server_takes_none(response_folder):
    drawn = iter(range(100))

    def refuses(path, body):
        return Reply(400, error("unknown parameter: 'seed'")) if "seed" in body else None

    with StandIn(lambda text: f"no. {next(drawn)}", reply=refuses) as server:
        kept = ResponseCache(response_folder)
        first, second, again = (
            answers(server, kept, prompt("a", temperature=1.0, seed=seed))[0].texts for seed in (1, 2, 1)
        )
    assert first == again != second


@pytest.fixture
def cache(response_folder):
    return ResponseCache(response_folder)


def prompt(text, **options):
    return Prompt((Message("user", text),), **options)


def run(server, runs, *recipes, **options):
    return compare(task(), recipes=recipes, models=["openai:m"], base_url=server.url, runs=runs, **options)


def sent(server, begin=0):
    """Every request that was answered, as text, with how often it was."""
    return Counter(json.dumps([path, body], sort_keys=True) for path, body in server.answered[begin:])


def answers(server, cache, *prompts, **options):
    model = Endpoint("m", server.url, patience=HASTY, cache=cache, **options)
    found = dict(model.complete(prompts, {}))
    return [found[place] for place in range(len(prompts))]


# ---- runs -----------------------------------------------------------------------------------------------------------


def test_another_run_with_other_recipes_pays_only_for_what_is_new(tmp_path):
    prices = tmp_path / "prices.csv"
    prices.write_text("model,input,output\nm,1000,1000\n")
    with StandIn(say, ways=("constrained",)) as server:
        alone = run(server, tmp_path / "alone", "zero-shot", "k-shot:k=4", prices=prices, cache=False)
        uncached = sent(server)
        run(server, tmp_path / "one", "zero-shot", prices=prices)
        begin = len(server.answered)
        both = run(server, tmp_path / "two", "zero-shot", "k-shot:k=4", prices=prices)
        again, before = sent(server, begin), sent(server)
    assert again
    assert not again & (before - again - uncached)  # what the first cached run asked is not asked again
    for row, expected in zip(both.rows, alone.rows, strict=True):
        assert row.score == expected.score
        bill, full = row.measured.asking, expected.measured.asking  # charged as if it ran alone
        assert (bill.tokens_in, bill.tokens_out, bill.calls) == (full.tokens_in, full.tokens_out, full.calls)
        assert bill.dollars == pytest.approx(full.dollars)
    zero, shots = both.rows
    assert zero.cached.dollars == pytest.approx((zero.measured.asking + zero.measured.tuning).dollars)
    assert shots.cached is None
    assert "answered by the response cache" in markdown(both)
    assert "saved by" in (tmp_path / "two" / both.run / "report.html").read_text()


def test_a_repeated_run_asks_nothing(tmp_path):
    with StandIn(say, ways=("constrained",)) as server:
        first = run(server, tmp_path / "one", "zero-shot", "chain-of-thought:k=0")
        begin = len(server.answered)
        second = run(server, tmp_path / "two", "zero-shot", "chain-of-thought:k=0")
        assert len(server.answered) == begin
        assert [row.score for row in second.rows] == [row.score for row in first.rows]
        text = ask("latest", "zero-shot", "a fig", runs=tmp_path / "two").text
        assert len(server.answered) == begin + 1
        assert ask("latest", "zero-shot", "a fig", runs=tmp_path / "one").text == text
        assert len(server.answered) == begin + 1
        ask("latest", "zero-shot", "a fig", runs=tmp_path / "one", cache=False)
        assert len(server.answered) > begin + 1
    after = run(server, tmp_path / "three", "zero-shot")  # the server is gone: what it said is still there
    assert after.rows[0].score == first.rows[0].score
    new = run(server, tmp_path / "three", "k-shot:k=2").rows[0]
    assert new.failed == new.n


def test_a_cap_does_not_count_what_is_kept(tmp_path):
    with StandIn(say, ways=("constrained",)) as server:
        run(server, tmp_path / "one", "zero-shot")
        begin = len(server.answered)
        capped = run(server, tmp_path / "two", "zero-shot", max_tokens=1).rows[0]
        assert len(server.answered) == begin
    assert (capped.status, capped.failed) == ("done", 0)
    spent = capped.measured.total()
    assert spent.tokens_in > 1
    assert (capped.cached.tokens_in, capped.cached.tokens_out) == (spent.tokens_in, spent.tokens_out)


def test_earlier_sittings_count_for_the_cap_only_by_what_was_paid(tmp_path):
    with StandIn(say, ways=("constrained",)) as server:
        run(server, tmp_path / "one", "zero-shot")
        for _ in range(2):  # the second goes on with the first, whose tokens were all kept ones
            assert run(server, tmp_path / "two", "zero-shot", max_tokens=1).rows[0].failed == 0


def test_a_failed_call_is_asked_again(tmp_path):
    ill = True

    def sometimes(path, body):
        return (
            Reply(500, error("ill")) if ill and "the fig" in body.get("messages", [{}])[-1].get("content", "") else None
        )

    with StandIn(say, ways=("constrained",), reply=sometimes) as server:
        assert run(server, tmp_path / "one", "zero-shot").rows[0].failed == 1
        ill = False
        row = run(server, tmp_path / "two", "zero-shot").rows[0]
    assert (row.failed, row.score.value) == (0, 1.0)


def test_a_wrong_key_is_told_at_once_though_the_greeting_is_kept(tmp_path):
    with StandIn(say, ways=("constrained",)) as server:
        run(server, tmp_path / "one", "zero-shot")
        server.listing = 401
        with pytest.raises(ModelError, match="refuses the key"):
            run(server, tmp_path / "two", "zero-shot")


def test_the_key_is_not_in_it(tmp_path, monkeypatch, cache):
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret-key")
    with StandIn(say, ways=("constrained",)) as server:
        run(server, tmp_path, "zero-shot")
    assert cache.path.exists()
    for path in cache.folder.iterdir():
        assert b"very-secret-key" not in path.read_bytes()


# ---- processes ------------------------------------------------------------------------------------------------------

_COMPARE = """
import sys
from opportune.api import compare
from tests.models.test_endpoint_run import task
compare(task(), recipes=sys.argv[3:], models=["openai:m"], base_url=sys.argv[1], runs=sys.argv[2])
"""


def start(server, runs, response_folder, *recipes):
    environment = os.environ | {"OPPORTUNE_CACHE": str(response_folder), "OPENAI_API_KEY": "none"}
    return subprocess.Popen([sys.executable, "-c", _COMPARE, server.url, str(runs), *recipes], env=environment)


RECIPES = ("zero-shot", "k-shot:k=2", "k-shot:k=4")


def test_what_was_answered_before_a_kill_is_not_paid_again(tmp_path, response_folder):
    answered = Counter()

    def say_and_count(text):
        answered[text] += 1
        return say(text)

    with StandIn(say_and_count, ways=("constrained",), latency=0.1) as server:
        child = start(server, tmp_path / "one", response_folder, *RECIPES)
        while len(server.answered) < 14:
            assert child.poll() is None
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        child.wait()
        in_flight, before = server.running, len(server.answered)
        done = run(server, tmp_path / "two", *RECIPES)
    assert [row.failed for row in done.rows] == [0, 0, 0]
    twice = [text for text, count in sent(server).items() if count > 1]
    assert before >= 14
    assert len(twice) <= max(in_flight, server.most_running)  # whose answers nobody had read yet
    assert len(twice) < before / 2


def test_two_processes_share_each_answer_and_each_call(tmp_path, response_folder):
    with StandIn(say, ways=("constrained",), latency=0.05) as server:
        children = [start(server, tmp_path / str(n), response_folder, *RECIPES) for n in range(2)]
        assert [child.wait(timeout=120) for child in children] == [0, 0]
        assert len(server.answered) > 20
        assert set(sent(server).values()) == {1}


# ---- one call -------------------------------------------------------------------------------------------------------


def test_what_is_kept_of_a_server_with_a_dialect_of_its_own_is_there_without_it(cache):
    def refuses(path, body):
        if "max_tokens" in body:
            return Reply(400, error("Unsupported parameter: use 'max_completion_tokens'", param="max_tokens"))
        return Reply(400, error("unknown parameter: 'seed'", param="seed")) if "seed" in body else None

    with StandIn(lambda text: "hello", reply=refuses) as server:
        model = Endpoint("m", server.url, patience=HASTY, cache=cache)
        model.greet(choices=False)
        assert answers(server, cache, prompt("a"))[0].texts == ("hello",)
    gone = Endpoint("m", server.url, patience=HASTY, cache=cache)
    gone.greet(choices=False)
    assert dict(gone.complete([prompt("a")], {}))[0].texts == ("hello",)


def test_every_field_counts(cache):
    asked = [
        prompt("a"),
        prompt("b"),
        prompt("a", max_tokens=3),
        prompt("a", stop=("x",)),
        prompt("a", temperature=0.5),
        prompt("a", temperature=0.5, seed=1),
        prompt("a", format="plain"),
    ]
    with StandIn(str.upper) as server, StandIn(str.upper) as other:
        answers(server, cache, *asked)
        assert len(server.answered) == len(asked)
        answers(server, cache, *asked, *asked)
        assert len(server.answered) == len(asked)
        Endpoint("n", server.url, patience=HASTY, cache=cache)
        answers(other, cache, prompt("a"))
        assert len(other.requests) == 1


def test_samples_are_kept_one_by_one(cache):
    number = iter(range(100))
    with StandIn(lambda text: f"{next(number)} words " + "more " * 5) as server:
        three = answers(server, cache, prompt("a", temperature=1.0, samples=3))[0]
        (one,) = answers(server, cache, prompt("a", temperature=1.0, samples=1))
        (five,) = answers(server, cache, prompt("a", temperature=1.0, samples=5))
        (other,) = answers(server, cache, prompt("a", temperature=1.0, samples=3, seed=9))
        asked = [(body.get("n", 1), body["seed"]) for body in server.bodies()]
    assert asked == [(3, 0), (2, 3), (3, 9)]
    assert one.texts == three.texts[:1]
    assert five.texts[:3] == three.texts
    assert len(set(five.texts)) == 5
    assert not set(other.texts) & set(five.texts)
    assert one.usage.tokens_in == three.usage.tokens_in == 1  # the prompt once, and a share of what was written
    assert one.usage.tokens_out * 3 == three.usage.tokens_out
    assert (one.usage.cached_in, one.usage.cached_out) == (one.usage.tokens_in, one.usage.tokens_out)
    assert five.usage.cached_out == three.usage.tokens_out
    assert three.usage.cached_out == 0


def test_the_same_question_twice_in_a_batch_is_asked_once(cache):
    with StandIn(str.upper, latency=0.05) as server:
        found = answers(server, cache, *[prompt("a")] * 6)
        assert len(server.answered) == 1
    assert {answer.texts for answer in found} == {("A",)}


def test_broken_replies_are_not_kept(cache):
    replies = iter([Reply(body={"choices": []}), Reply(429, error("busy")), Reply(body=b"{")])
    with StandIn(str.upper, reply=lambda path, body: next(replies, None)) as server:
        assert answers(server, cache, prompt("a"))[0].texts == ("A",)
        assert len(server.requests) == 4
    (holding,) = cache.holdings()
    assert (holding.answers, holding.hits) == (1, 0)


def test_scores_come_back_as_they_were(cache):
    asked = [prompt(text, choices=("yes", "no")) for text in ("one", "two")]
    for ways in (("echo",), ("first-token",)):
        with StandIn(ways=ways) as server:
            first = answers(server, cache, *asked)
            begin = len(server.answered)
            assert [answer.scores for answer in answers(server, cache, *asked)] == [answer.scores for answer in first]
            assert len(server.answered) == begin
            assert first[0].scores is not None


# ---- the command ----------------------------------------------------------------------------------------------------


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["cache", *arguments])
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def test_the_command_shows_what_is_kept_and_clears_it(capsys, cache, monkeypatch):
    assert "0 answers" in command(capsys)[1]
    with StandIn(str.upper) as server:
        for _ in range(3):
            answers(server, cache, prompt("one two three"), price=PRICE)
    cache.keep("ab", 0, [Kept([{}], 5, 5, 0.1, None)], "http://old/v1", "old")
    code, out, _ = command(capsys, "--json")
    found = {one["model"]: one for one in json.loads(out)["models"]}
    assert code == 0
    assert json.loads(out)["bytes"] > 0
    assert (found["m"]["answers"], found["m"]["hits"], found["m"]["tokens_saved"]) == (1, 2, 12)
    assert found["m"]["dollars_saved"] == pytest.approx(0.012)
    assert found["old"]["dollars_saved"] is None
    shown = command(capsys)[1]
    assert server.url in shown
    assert "$0.01" in shown
    code, out, err = command(capsys, "clear", "--model", "openai:m")
    assert (code, out) == (2, "")
    assert "remove 1 answer" in err
    assert "--yes" in err
    assert len(cache.holdings()) == 2
    assert command(capsys, "clear", "--older-than", "1h", "--yes")[1] == "removed 0 answers\n"
    assert command(capsys, "clear", "--model", "openai:m", "--yes")[1] == "removed 1 answer\n"
    assert [one.model for one in cache.holdings()] == ["old"]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3700)
    assert command(capsys, "clear", "--older-than", "1h", "--yes")[1] == "removed 1 answer\n"
    assert command(capsys, "clear", "--older-than", "soon", "--yes")[0] == 2


def test_a_folder_that_cannot_be_written_is_one_line(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with StandIn(say) as server:
        monkeypatch.setattr("opportune.models.response_cache.cache_folder", lambda: tmp_path / "file" / "under")
        with pytest.raises(SystemExit) as stop:
            main(["compare", "--model", "openai:m", "--base-url", server.url, "--try", "zero-shot", "--limit", "60"])
    err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("opportune: ")]
    assert stop.value.code == 2
    assert len(err) == 1
    assert "--no-cache" in err[0]

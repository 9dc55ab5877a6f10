"""A model behind a server: what is asked, what comes back, and what becomes of everything that goes wrong."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from opportune.errors import ModelError
from opportune.inference.rendering import plain
from opportune.models.budget import Budget
from opportune.models.endpoint import Endpoint
from opportune.models.endpoint_calls import Patience
from opportune.models.endpoint_failures import retry_after
from opportune.models.endpoint_wire import GO_ON, context_told, too_long
from opportune.models.prices import Price
from opportune.models.response_cache import ResponseCache
from opportune.types import Completion, Message, Prompt
from tests.models.hostile import Reply, StandIn, ask, endpoint, error, prompt, shout


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


# ---- what is asked --------------------------------------------------------------------------------------------------


def test_a_chat_is_asked_and_its_tokens_are_those_the_server_counted():
    with StandIn(shout) as server:
        model = endpoint(server)
        (answer,) = ask(model, [prompt("a pear", max_tokens=9, temperature=0.5, seed=3, stop=("\n",))]).values()
        (body,) = server.bodies()
    assert answer.texts == ("A PEAR",)
    assert (answer.usage.tokens_in, answer.usage.tokens_out) == (server.tokens_in, server.tokens_out) == (4, 2)
    assert answer.usage.seconds > 0
    assert answer.prompt == "[system]\nbe brief\n\n[user]\na pear"
    assert body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "a pear"},
    ]
    wanted = {"model": "m", "max_tokens": 9, "temperature": 0.5, "seed": 3, "stop": ["\n"]}
    assert {key: body[key] for key in wanted} == wanted


def test_plain_prompts_go_to_the_completions_api_rendered_as_on_a_local_model():
    with StandIn(lambda text: f"{text[-5:]}\nmore") as server:
        asked = prompt("Text: pear\nLabel:", format="plain", separator="\n")
        (answer,) = ask(endpoint(server), [asked]).values()
        (body,) = server.bodies("/v1/completions")
        by_default = ask(endpoint(server, api="completions"), [prompt("x")])[0]
    assert body["prompt"] == plain(asked) == answer.prompt == "be brief\nText: pear\nLabel:"
    assert answer.texts == ("abel:",)  # ended at the line's end
    assert by_default.texts == ("ef",)


def test_samples_that_a_server_does_not_give_are_asked_for_again_with_another_seed():
    def one(path, body):
        body["n"] = 1

    with StandIn(lambda text: str(time.perf_counter()), reply=one) as server:
        (answer,) = ask(endpoint(server), [prompt("a", samples=3, temperature=1.0, seed=5)]).values()
        assert len(set(answer.texts)) == 3
        assert [body["seed"] for body in server.bodies()] == [5, 6, 7]
        assert answer.usage.tokens_out == server.tokens_out == 3


BEGUN = Prompt((Message("user", "2 + 2?"), Message("assistant", "Let's see.")))


def test_where_a_server_does_not_go_on_from_a_beginning_it_is_asked_to_and_what_it_repeats_is_taken_off():
    with StandIn(lambda text: "Let's see. It is 4") as server:
        answers = ask(endpoint(server), [BEGUN, BEGUN])
        assert [m["content"] for m in server.bodies()[-1]["messages"]] == ["2 + 2?", "Let's see.", GO_ON]
        assert len(server.requests) == 4  # found out once
    assert answers[0].texts == (" It is 4",)


@pytest.mark.parametrize("wants", [None, "continue_final_message"])
def test_where_a_server_goes_on_from_a_beginning_it_is_let(wants):
    def going_on(path, body):
        begun, on = body["messages"][-1], wants is None or body.get(wants)
        rest = {"The capital of France is Par": "is.", "Let's see.": " 4"}[begun["content"]]
        said = {"role": "assistant", "content": rest if on else "The capital"}
        return Reply(body={"model": "m", "choices": [{"index": 0, "message": said}]})

    with StandIn(reply=going_on) as server:
        (answer,) = ask(endpoint(server), [BEGUN]).values()
        assert [m["content"] for m in server.bodies()[-1]["messages"]] == ["2 + 2?", "Let's see."]
    assert answer.texts == (" 4",)


def test_texts_end_at_their_stops_whatever_the_server_does():
    with StandIn(lambda text: "one. two") as server:
        assert ask(endpoint(server), [prompt("a", stop=(".",))])[0].texts == ("one",)


def test_what_is_known_is_not_asked_and_all_comes_back_in_any_order():
    with StandIn(shout) as server:
        prompts = [prompt(f"q{i}") for i in range(30)]
        answers = ask(endpoint(server), prompts, {7: Completion("")})
        assert len(server.requests) == 29
        assert list(endpoint(server).complete([], {})) == []
    assert {index: answer.texts[0] for index, answer in answers.items()} == {i: f"Q{i}" for i in range(30) if i != 7}


def test_parameters_that_a_server_does_not_know_are_left_out_from_then_on():
    def picky(path, body):
        if "max_tokens" in body:
            return Reply(400, error("'max_tokens' is not supported. Use 'max_completion_tokens'.", param="max_tokens"))
        if "temperature" in body:
            return Reply(400, error("Unsupported value", param="temperature"))
        return None

    with StandIn(shout, reply=picky) as server:
        model = endpoint(server)
        assert [ask(model, [prompt("a")])[0].texts for _ in range(2)] == [("A",), ("A",)]
        assert len(server.requests) == 4
    assert "it takes no temperature" in model.describe()


def test_no_embeddings():
    with pytest.raises(ModelError, match="similarity=bm25"):
        ask(Endpoint("m", "http://localhost:1/v1"), [prompt("a", embed=True)])


# ---- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_of_a_server_that_fails_three_times_in_ten_every_question_is_answered_rightly_or_failed(seed):
    with StandIn(lambda text: f"answer {text}", share=0.3, seed=seed) as server:
        model = endpoint(server)
        model.greet(choices=False)
        spent = model.budget.spent
        greeted = server.tokens_in + server.tokens_out
        answers = ask(model, [prompt(f"q{i}") for i in range(60)])
        assert sorted(answers) == list(range(60))
        assert sum(server.kinds.values()) - server.kinds["good"] > 10
        assert len(server.kinds) > 6
        for index, answer in answers.items():
            assert answer.texts == (f"answer q{index}",) if answer.error is None else answer.texts == ()
        assert sum(answer.error is None for answer in answers.values()) >= 58
        counted = sum(answer.usage.tokens_in + answer.usage.tokens_out for answer in answers.values())
        assert counted == server.tokens_in + server.tokens_out - greeted
        assert model.budget.spent.tokens - spent.tokens >= counted  # what may have been billed counts too


def test_a_call_that_never_succeeds_is_failed_and_says_why():
    with StandIn(reply=lambda path, body: Reply(500, error("oh no"))) as server:
        model = endpoint(server, patience=Patience(1, 5, retries=2, backoff=0.01))
        (answer,) = ask(model, [prompt("a")]).values()
        assert len(server.requests) == 3
    assert answer.error == "the server failed (500: oh no); given up after 3 tries in 0 s"
    assert (answer.texts, answer.scores) == ((), None)


def test_a_model_that_only_thinks_is_failed_and_not_asked_again(tmp_path):
    thought = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": ""}}
    usage = {"prompt_tokens": 5, "completion_tokens": 64}
    budget, cache = Budget(max_tokens=10_000), ResponseCache(tmp_path)
    with StandIn(reply=lambda path, body: Reply(body={"model": "m", "choices": [thought], "usage": usage})) as server:
        for choices in (None, ("fruit", "tool")):
            (answer,) = ask(endpoint(server, budget=budget), [prompt("a", choices=choices)]).values()
            assert answer.error.startswith("the model came to its limit of tokens before it wrote anything")
        asked = sum("be brief" in str(body) for body in server.bodies())
        assert asked == 2
        assert budget.spent.tokens == 69 * len(server.requests)
        for _ in range(2):
            endpoint(server, cache=cache).greet(choices=True)
            (answer,) = ask(endpoint(server, cache=cache), [prompt("a")]).values()
            assert answer.error.startswith("the model came to its limit")
        assert sum("be brief" in str(body) for body in server.bodies()) == asked + 1


def test_silence_ends_at_the_time_limits():
    began = time.monotonic()
    with StandIn(reply=lambda path, body: Reply(delay=5)) as server:
        (answer,) = ask(endpoint(server, patience=Patience(0.2, 0.5, backoff=0.01)), [prompt("a")]).values()
    assert answer.error.startswith("no answer within 0.2 s; given up")
    assert time.monotonic() - began < 2


def test_one_refusal_holds_all_calls_for_as_long_as_the_server_asks():
    told = []

    def busy(path, body):
        if not told:
            told.append(time.monotonic())
            return Reply(429, error("slow down"), {"Retry-After-Ms": "400"})
        starts.append(time.monotonic())
        return None

    starts = []
    with StandIn(shout, reply=busy, latency=0.2) as server:  # the refusal is heard before any answer
        answers = ask(endpoint(server), [prompt(f"q{i}") for i in range(12)])
    assert all(answer.error is None for answer in answers.values())
    assert sum(start - told[0] < 0.4 for start in starts) <= 3  # those that were under way already


def test_a_server_that_asks_for_longer_than_a_call_may_take_is_not_waited_for():
    with StandIn(reply=lambda path, body: Reply(429, error("tomorrow"), {"Retry-After": "3600"})) as server:
        answers = ask(endpoint(server), [prompt(f"q{i}") for i in range(40)])
        assert len(server.requests) <= 8
    assert all("too busy" in a.error or "longer to wait" in a.error for a in answers.values())


def test_retry_after_in_all_its_forms():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert retry_after({"retry-after-ms": "250", "retry-after": "1"}) == 0.25
    assert retry_after({"retry-after": "1.5"}) == 1.5
    assert 27 < retry_after({"retry-after": later}) <= 30
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None


def test_half_a_character_in_a_reply_is_replaced():
    with StandIn(lambda text: "fruit \ud83d, \U0001f350") as server:
        (answer,) = ask(endpoint(server), [prompt("a")]).values()
    assert answer.texts == ("fruit \ufffd, \U0001f350",)


# ---- too long -------------------------------------------------------------------------------------------------------


def test_a_prompt_too_long_loses_its_shots_first_and_then_its_input():
    def small(path, body):
        words = sum(len(m["content"].split()) for m in body["messages"])
        if words <= 40:
            return None
        said = (
            f"maximum context length is 56 tokens. However, you requested {words + 16} tokens ({words} in the messages)"
        )
        return Reply(400, error(said, code="context_length_exceeded"))

    shots = [m for i in range(9) for m in (Message("user", f"shot {i} is so", True), Message("assistant", "yes", True))]
    question = "why " * 100
    with StandIn(shout, reply=small) as server:
        kept = Prompt((Message("user", "do it"), *shots, Message("user", "a b c")), max_tokens=16)
        cut = Prompt((Message("user", "do it"), Message("user", question, cut=(0, 400))), max_tokens=16)
        never = Prompt((Message("user", question),), max_tokens=16)
        answers = ask(endpoint(server), [kept, cut, never])
    assert answers[0].shots_dropped in range(1, 8)
    assert answers[0].texts == ("A B C",)
    assert answers[1].tokens_cut > 0
    assert answers[1].texts[0].startswith("WHY")
    assert "maximum context length" in answers[2].error


def test_servers_say_in_many_words_that_a_prompt_is_too_long():
    for said, told in (
        ("This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.", 8192),
        ("the request exceeds the available context size, try increasing it", None),
        ("Please reduce the length of the messages", None),
    ):
        assert too_long(said, None)
        assert context_told(said, None) == told
    assert context_told("", {"n_ctx": 512}) == 512
    assert not too_long("temperature must be less than 2", "invalid_request_error")


# ---- money ----------------------------------------------------------------------------------------------------------

CHEAP = Price("m", input=1000.0, output=1000.0)  # a tenth of a cent a token


@pytest.mark.parametrize("budget", [Budget(max_tokens=600), Budget(max_dollars=0.6)])
def test_what_is_spent_stays_within_the_cap_and_what_does_not_fit_is_failed(budget):
    with StandIn(lambda text: "word " * 8, latency=0.01) as server:
        model = endpoint(server, budget=budget, price=CHEAP)
        answers = ask(model, [prompt(f"q{i}", max_tokens=8) for i in range(100)])
        paid = server.tokens_in + server.tokens_out
    failed = Counter(answer.error and answer.error[:7] for answer in answers.values())
    assert set(failed) == {None, "the cap"}
    assert 500 < paid <= 600
    assert paid == sum(answer.usage.tokens_in + answer.usage.tokens_out for answer in answers.values())
    assert model.budget.spent.tokens == paid
    assert model.dollars(1000, 500) == pytest.approx(1.5)


@pytest.mark.parametrize(("status", "billed"), [(504, True), (524, True), (500, False)])
def test_a_gateways_timeout_may_have_been_billed(status, billed):
    with StandIn(reply=lambda path, body: Reply(status, error("upstream"))) as server:
        model = endpoint(server, budget=Budget(max_tokens=500), patience=Patience(1, 5, retries=7, backoff=0.01))
        ask(model, [prompt("a", max_tokens=80)])
        assert len(server.requests) == (5 if billed else 8)
        assert (model.budget.spent.tokens > 400) is billed


def test_what_earlier_sittings_spent_counts():
    with StandIn(shout) as server:
        model = endpoint(server, budget=Budget(max_tokens=100))
        model.budget.count(model.spend(60, 30))
        assert "90 are used" in ask(model, [prompt("a")])[0].error
        assert server.requests == []


def test_a_cap_in_dollars_needs_a_price():
    with pytest.raises(ModelError, match=r"no price is known for openai:m at http://localhost:1/v1.*--prices FILE"):
        Endpoint("m", "http://localhost:1/v1", budget=Budget(max_dollars=1.0)).greet(choices=False)


def test_closing_the_answers_cancels_the_calls_in_flight():
    with StandIn(shout, latency=0.1) as server:
        answers = endpoint(server).complete([prompt(f"q{i}") for i in range(200)], {})
        next(answers)
        began = time.monotonic()
        answers.close()
        assert time.monotonic() - began < 1
        time.sleep(0.3)
        seen = len(server.requests)
        time.sleep(0.3)
        assert len(server.requests) == seen < 60

"""Which way of choosing a server truly offers, and what each makes of its replies."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from opportune.models.endpoint_echo import continuations
from opportune.models.endpoint_wire import telling
from opportune.types import Message, Prompt
from tests.models.hostile import Reply, StandIn, endpoint

CHOICES = ("fruit", "tool")


def likes(text):
    """Fruit after a pear, tool after a saw."""
    fruit = 0.7 if "pear" in text else 0.2
    return {"fruit": fruit, "tool": 0.9 - fruit}


def say(text):
    return max(likes(text).items(), key=lambda item: item[1])[0]


def prompt(text, choices=CHOICES, **options):
    return Prompt((Message("user", f"{text}\nLabel:"),), choices=choices, **options)


def ask(model, *prompts):
    answers = dict(model.complete(prompts, {}))
    return [answers[index] for index in range(len(prompts))]


def test_whole_answers_are_scored_where_the_text_is_echoed():
    with StandIn(say, ways=("echo", "first-token", "constrained"), likes=likes) as server:
        model = endpoint(server)
        pear, saw = ask(model, prompt("pear"), prompt("saw"))
    assert model.choosing == "echo"
    assert pear.scores == pytest.approx((math.log(0.7), math.log(0.2)))
    assert saw.scores == pytest.approx((math.log(0.2), math.log(0.7)))
    assert pear.texts == ()
    assert pear.prompt == "pear\nLabel:"


class Vllm(StandIn):
    """Echoes as vLLM does: a first token of the text's own, places that count it, parts of characters by themselves."""

    def __init__(self, *given, first="", **options):
        super().__init__(*given, **options)
        self.first = first

    def _echoed(self, text):
        found = super()._echoed(text)
        tokens = [self.first, *(token.replace("🎈", "\ufffd\ufffd\ufffd") for token in found["tokens"])]
        places = [sum(map(len, tokens[:i])) for i in range(len(tokens))]
        return {"tokens": tokens, "token_logprobs": [None, -3.0, *found["token_logprobs"][1:]], "text_offset": places}


@pytest.mark.parametrize("first", ["<s>", "<bos>", "<|begin_of_text|>"])
def test_a_first_token_that_the_server_adds_does_not_shift_the_answer(first):
    with Vllm(ways=("echo",), likes=likes, first=first) as server:
        model = endpoint(server)
        pear, saw = ask(model, prompt("pear"), prompt("saw"))
    assert model.choosing == "echo"
    assert pear.scores == pytest.approx((math.log(0.7), math.log(0.2)))
    assert saw.scores == pytest.approx((math.log(0.2), math.log(0.7)))


def test_characters_of_several_tokens_are_found_all_the_same():
    balloons = ("🎈", "tool")
    with Vllm(ways=("echo",), likes=lambda text: {"tool": 0.5, "🎈": 0.25}, first="<s>") as server:
        (answer,) = ask(endpoint(server), prompt("a 🎈🎈 pear", balloons))
    assert answer.scores == pytest.approx((math.log(0.25), math.log(0.5)))


def test_parts_of_characters_where_prompt_and_answer_meet_count_for_the_answer():
    logs = {"tokens": ["a", "\ufffd", "\ufffd", "\ufffd", "\ufffd"], "token_logprobs": [None, -1.0, -2.0, -3.0, -4.0]}
    found = continuations({"choices": [{"index": 0, "logprobs": logs}]}, ["a：🎈"], 2)
    assert found == [pytest.approx(-2.0 - 3.0 - 4.0)]


def test_tokens_that_do_not_make_up_the_text_are_not_asked_for_again():
    def odd(path, body):
        texts = body["prompt"] if body.get("echo") else []
        if not any("odd" in text for text in texts):
            return None
        logs = {"tokens": ["some", "thing"], "token_logprobs": [None, -1.0], "text_offset": [0, 4]}
        return Reply(body={"model": "m", "choices": [{"index": i, "logprobs": logs} for i in range(len(texts))]})

    with StandIn(say, ways=("echo", "constrained"), likes=likes, reply=odd) as server:
        pear, strange = ask(endpoint(server), prompt("pear"), prompt("an odd pear"))
        assert sum("odd" in str(body.get("prompt")) for body in server.bodies("/v1/completions")) == 1
    assert pear.scores is not None
    assert strange.texts == ("fruit",)


def test_more_choices_than_fit_in_one_request():
    many = tuple(f"x{i}" for i in range(37))
    with StandIn(ways=("echo",), likes=lambda text: {"x20": 0.5}) as server:
        (answer,) = ask(endpoint(server), prompt("pear", many))
    assert len(answer.scores) == 37
    assert max(answer.scores) == answer.scores[20]


def test_log_probabilities_that_make_no_sense_are_not_used():
    with StandIn(say, ways=("echo", "nonsense", "constrained"), likes=likes) as server:
        model = endpoint(server)
        pear, saw = ask(model, prompt("pear"), prompt("saw"))
        assert len(server.requests) < 10  # and not asked for again and again
    assert model.choosing == "constrained"
    assert (pear.texts, saw.texts) == (("fruit",), ("tool",))
    assert pear.scores is None


def test_first_tokens_are_enough_where_no_two_choices_begin_alike():
    pieces = {"fru": 0.5, " Fruit": 0.2, "to": 0.2, "xyz": 0.05, "f": 0.0001}
    with StandIn(say, ways=("first-token",), likes=lambda text: pieces) as server:
        model = endpoint(server)
        (answer,) = ask(model, prompt("pear"))
        (unlisted,) = ask(model, prompt("pear", ("fruit", "zebra")))
        (alike,) = ask(model, prompt("pear", ("fruit", "fruitcake")))
    assert model.choosing == "first-token"
    assert answer.scores == pytest.approx((math.log(0.7001), math.log(0.2)))
    assert unlisted.scores[1] == pytest.approx(math.log(0.0001))  # at most the last one listed
    assert alike.scores is None
    assert alike.texts == ("fruit",)


def test_first_tokens_that_do_not_tell_are_followed_by_a_written_answer():
    with StandIn(say, ways=("first-token", "constrained"), likes=lambda text: {"The": 0.9, "A": 0.05}) as server:
        (answer,) = ask(endpoint(server), prompt("saw pear"))
    assert answer.scores is None
    assert answer.texts == ("fruit",)


def test_constrained_generation_only_where_the_server_obeys():
    with StandIn(say, ways=("constrained",)) as server:
        obeying = endpoint(server)
        assert ask(obeying, prompt("pear"))[0].texts == ("fruit",)
    with StandIn(say) as server:
        model = endpoint(server)
        assert ask(model, prompt("pear"))[0].texts == ("fruit",)
        told = server.bodies()[-1]["messages"][0]["content"]
    assert (obeying.choosing, model.choosing) == ("constrained", "text")
    assert told.startswith("The answer is exactly one of: fruit; tool.")
    assert "choices by constrained generation" in obeying.describe()


def test_choices_are_said_once():
    with StandIn(say, ways=("constrained",)) as server:
        messages = (Message("system", "Is it a fruit or a tool?"), Message("user", "pear"))
        ask(endpoint(server), Prompt(messages, choices=CHOICES))
        assert [m["content"] for m in server.bodies()[-1]["messages"]] == ["Is it a fruit or a tool?", "pear"]


def test_what_the_input_happens_to_say_does_not_count_as_said():
    said = "Is it so?\n\nText: I know my eyes saw it, yes or no"
    begin = len("Is it so?\n\nText: ")
    asked = Prompt((Message("user", said, False, (begin, len(said))),), choices=("yes", "no"))
    assert "exactly one of: yes; no" in telling(asked).messages[0].content
    named = replace(asked, messages=(Message("user", f"yes/no? {said}", False, (begin + 8, len(said) + 8)),))
    assert telling(named) is named


def test_the_completions_api_alone():
    with StandIn(say, ways=("echo",), likes=likes) as server:
        model = endpoint(server, api="completions")
        assert ask(model, prompt("pear"))[0].scores == pytest.approx((math.log(0.7), math.log(0.2)))
        assert server.bodies() == []
    with StandIn(say) as server:
        model = endpoint(server, api="completions")
        assert ask(model, prompt("pear"))[0].texts == ("fruit",)
        assert server.bodies() == []
    assert model.choosing == "text"


def test_a_format_that_is_asked_for_is_kept():
    with StandIn(say, ways=("echo", "constrained"), likes=likes) as server:
        model = endpoint(server)
        chat, plain = ask(model, prompt("pear", format="chat"), prompt("pear", format="plain"))
    assert chat.texts == ("fruit",)
    assert plain.scores is not None


@pytest.mark.parametrize("ways", [(), ("constrained",), ("echo",), ("first-token",)])
def test_a_server_that_fails_three_times_in_ten_is_seen_through_all_the_same(ways):
    with StandIn(say, ways=ways, share=0.3, seed=3, likes=likes) as server:
        model = endpoint(server)
        model.greet(choices=True)
        answers = ask(model, *(prompt("pear" if i % 2 else "saw") for i in range(24)))
    assert model.choosing == (ways[0] if ways else "text")
    right = [say("pear" if i % 2 else "saw") for i in range(24)]
    for answer, label in zip(answers, right, strict=True):
        if answer.error is not None:
            continue
        if answer.scores is None:
            assert answer.texts == (label,)
        else:
            assert CHOICES[max(range(2), key=answer.scores.__getitem__)] == label

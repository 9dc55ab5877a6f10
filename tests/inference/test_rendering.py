"""Prompts become exactly the text that the template, or the plain layout, says."""

from __future__ import annotations

from typing import Any

import pytest

from opportune.errors import ModelError
from opportune.inference.rendering import Renderer
from opportune.types import Message, Prompt
from tests.inference.tiny import CHATML, tokenizer_of

SHOTS = (Message("user", "Text: one\nLabel:"), Message("assistant", "a"))
HEAD = (Message("system", "Sort."), *SHOTS)
REFUSING = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
DROPPING = CHATML.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")


def plain(*messages: Message) -> Any:
    return Renderer(tokenizer_of()).render(Prompt(messages, format="plain"))


def chat(template: str, *messages: Message) -> Any:
    return Renderer(tokenizer_of(template=template)).render(Prompt(messages))


def test_plain_text_is_system_pairs_and_the_question():
    rendered = plain(*HEAD, Message("user", "Text: two\nLabel:"))
    assert rendered.text == "Sort.\n\nText: one\nLabel: a\n\nText: two\nLabel:"
    assert (rendered.before, rendered.chat) == (" ", False)


def test_plain_text_takes_the_separator_asked_for():
    prompt = Prompt((*HEAD, Message("user", "Text: two\nLabel:")), format="plain", separator="\n###\n")
    assert Renderer(tokenizer_of()).render(prompt).text == "Sort.\n###\nText: one\nLabel: a\n###\nText: two\nLabel:"


def test_plain_text_may_end_with_the_beginning_of_an_answer():
    rendered = plain(*SHOTS, Message("user", "Q: two\nA:"), Message("assistant", "The answer is"))
    assert rendered.text == "Text: one\nLabel: a\n\nQ: two\nA: The answer is"
    assert rendered.before == " "


def test_plain_text_that_ends_in_white_space_needs_no_space_before_the_answer():
    rendered = plain(Message("user", "Q\n"), Message("assistant", "A"), Message("user", "Q\n"))
    assert rendered.text == "Q\nA\n\nQ\n"
    assert rendered.before == ""


@pytest.mark.parametrize("question", ["two", " two ", "<|im_end|> <b>", "a qzxjkw stand in wkjxzq b", "assistant", ""])
def test_chat_is_what_the_template_writes_however_many_share_a_head(question: str):
    tokenizer = tokenizer_of(template=CHATML)
    renderer = Renderer(tokenizer)
    for text in ("first", "second", question):
        messages = (*HEAD, Message("user", text))
        expected = tokenizer.apply_chat_template(
            [{"role": m.role, "content": m.content} for m in messages], tokenize=False, add_generation_prompt=True
        )
        rendered = renderer.render(Prompt(messages))
        assert (rendered.text, rendered.before, rendered.chat) == (expected, "", True)


def test_prompts_that_share_their_earlier_messages_run_the_template_only_at_first(monkeypatch: pytest.MonkeyPatch):
    tokenizer = tokenizer_of(template=CHATML)
    renderer, runs = Renderer(tokenizer), []
    run = tokenizer.apply_chat_template
    monkeypatch.setattr(tokenizer, "apply_chat_template", lambda *a, **k: runs.append(1) or run(*a, **k))
    for i in range(100):
        renderer.render(Prompt((*HEAD, Message("user", f"question {i}"))))
    assert len(runs) < 6


def test_a_template_that_treats_contents_differently_is_never_spliced():
    template = CHATML.replace("(m['content'] | trim)", "(m['content'] | upper if loop.last else m['content'])")
    renderer = Renderer(tokenizer_of(template=template))
    assert "TWO" in renderer.render(Prompt((*HEAD, Message("user", "two")))).text
    assert "THREE" in renderer.render(Prompt((*HEAD, Message("user", "three")))).text


def test_chat_continues_the_beginning_of_an_answer():
    rendered = chat(CHATML, Message("user", "two"), Message("assistant", "The answer is"))
    assert rendered.text.endswith("<|im_start|>assistant\nThe answer is")
    assert rendered.before == " "


@pytest.mark.parametrize("template", [REFUSING, DROPPING])
def test_the_system_text_goes_into_the_user_message_where_a_template_does_not_take_it(template: str):
    text = chat(template, *HEAD, Message("user", "two")).text
    assert text.startswith("<|im_start|>user\nSort.\n\nText: one")
    assert text.count("Sort.") == 1


def test_format_is_chat_only_with_a_template():
    question = (Message("user", "two"),)
    assert not Renderer(tokenizer_of()).render(Prompt(question)).chat
    assert not Renderer(tokenizer_of(template=CHATML)).render(Prompt(question, format="plain")).chat
    with pytest.raises(ModelError, match="no chat template"):
        Renderer(tokenizer_of()).render(Prompt(question, format="chat"))


def test_what_ends_an_answer():
    tokenizer = tokenizer_of(template=CHATML)
    assert Renderer(tokenizer).turn_end() == tokenizer.convert_tokens_to_ids("<|im_end|>")
    bare = tokenizer_of(template="{% for m in messages %}{{ m['content'] }}{% endfor %}")
    assert Renderer(bare).turn_end() == bare.eos_token_id
    question = (Message("user", "two"),)
    assert Renderer(tokenizer).stops(Prompt(question)) == ()
    assert Renderer(tokenizer).stops(Prompt(question, format="plain")) == ("\n",)
    assert Renderer(tokenizer).stops(Prompt(question, format="plain", stop=("\n\n",))) == ("\n\n",)

"""Prompt -> the exact text that is tokenised, plain or through the tokenizer's chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opportune.errors import ModelError
from opportune.types import Format, Message, Prompt

# Options that some templates read. Thinking models answer at once, as they must when choices are ranked; a template
# that writes today's date would make every day's run another one (the date is Llama 3.2's own default).
_OPTIONS: dict[str, Any] = {"enable_thinking": False, "date_string": "26 Jul 2024"}
_STAND_IN = "qzxjkw stand in wkjxzq"  # takes the place of the last message's content when a template is probed
_HEADS_KEPT = 64


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt's text. `before` comes between it and an answer; `chat` texts carry their own special tokens."""

    text: str
    before: str
    chat: bool


@dataclass(frozen=True, slots=True)
class _Frame:
    """What the template writes around the last message's content after the same earlier messages."""

    opening: str
    closing: str


def joined(text: str, answer: str) -> str:
    """Text followed by an answer, a space between them unless the text already ends in white space."""
    return f"{text}{_gap(text)}{answer}"


def _gap(text: str) -> str:
    return "" if not text or text[-1].isspace() else " "


class Renderer:
    """Renders prompts for one tokenizer. Prompts with the same earlier messages run the template only once."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._frames: dict[tuple[tuple[tuple[str, str], ...], str], _Frame] = {}
        self._takes_system: bool | None = None
        self._turn_end: int | None = None

    def is_chat(self, format: Format) -> bool:
        """Whether a format renders as chat here. Raises ModelError where chat is asked of a tokenizer without one."""
        has_template = bool(getattr(self._tokenizer, "chat_template", None))
        if format == "chat" and not has_template:
            raise ModelError("format=chat asked, but this model's tokenizer has no chat template; use format=plain")
        return has_template if format == "auto" else format == "chat"

    def render(self, prompt: Prompt) -> Rendered:
        """The text of a prompt. Plain: the system text and the separator, each pair as `user assistant` and the
        separator, and the last user message (or the beginning of its answer) at the end."""
        if not prompt.messages:
            raise ModelError("a prompt has no messages; it needs at least one")
        beginning = prompt.messages[-1].role == "assistant"
        if self.is_chat(prompt.format):
            text = self._chat(_turns(prompt.messages))
            return Rendered(text, _gap(text) if beginning else "", True)
        text = plain(prompt)
        return Rendered(text, _gap(text), False)

    def stops(self, prompt: Prompt) -> tuple[str, ...]:
        """The strings that end a generated answer: the prompt's own, else a line's end where it is plain."""
        return prompt.stop or (() if self.is_chat(prompt.format) else ("\n",))

    def turn_end(self) -> int:
        """The token that ends an answer in chat: what the template writes after one, else the end of the text."""
        if self._turn_end is None:
            self._turn_end = self._find_turn_end()
        return self._turn_end

    def _find_turn_end(self) -> int:
        text = self._template([("user", "Hello"), ("assistant", _STAND_IN)], add_generation_prompt=False)
        ids = self._tokenizer(text.rpartition(_STAND_IN)[2].strip(), add_special_tokens=False)["input_ids"]
        special = set(self._tokenizer.all_special_ids) | set(getattr(self._tokenizer, "added_tokens_decoder", {}))
        if ids and ids[0] in special:
            return int(ids[0])
        if self._tokenizer.eos_token_id is None:
            raise ModelError(
                "the tokenizer's chat template names no token that ends an answer, nor is there an eos token"
            )
        return int(self._tokenizer.eos_token_id)

    def _chat(self, turns: list[tuple[str, str]]) -> str:
        if turns[0][0] == "system" and not self._system_allowed():
            turns = _system_merged(turns)
        *head, (role, content) = turns
        if role != "user" or not _is_bland(content):
            return self._run(turns)
        key = (tuple(head), role)
        if key not in self._frames:
            frame = self._probe(head)
            whole = self._run(turns)
            if f"{frame.opening}{content}{frame.closing}" != whole:
                return whole
            if len(self._frames) >= _HEADS_KEPT:
                self._frames.clear()
            self._frames[key] = frame
        frame = self._frames[key]
        return f"{frame.opening}{content}{frame.closing}"

    def _probe(self, head: list[tuple[str, str]]) -> _Frame:
        opening, _, closing = self._run([*head, ("user", _STAND_IN)]).rpartition(_STAND_IN)
        return _Frame(opening, closing)

    def _run(self, turns: Sequence[tuple[str, str]]) -> str:
        if turns[-1][0] == "assistant":
            return self._template(turns, continue_final_message=True)
        return self._template(turns, add_generation_prompt=True)

    def _template(self, turns: Sequence[tuple[str, str]], **options: bool) -> str:
        messages = [{"role": role, "content": content} for role, content in turns]
        text = self._tokenizer.apply_chat_template(messages, tokenize=False, **options, **_OPTIONS)
        return str(text)

    def _system_allowed(self) -> bool:
        """Whether the template takes a system message: some raise an error (Gemma 1 and 2), some drop it in silence."""
        if self._takes_system is None:
            try:
                text = self._template([("system", _STAND_IN), ("user", "Hello")], add_generation_prompt=True)
            except Exception:  # a template may raise anything: jinja2's own errors, or those of a call it makes
                text = ""
            self._takes_system = _STAND_IN in text
        return self._takes_system


def _turns(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages]


def _system_merged(turns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The system text moved into the first user message."""
    if len(turns) < 2 or turns[1][0] != "user":
        return [("user", turns[0][1]), *turns[1:]]
    return [("user", f"{turns[0][1]}\n\n{turns[1][1]}"), *turns[2:]]


def _is_bland(content: str) -> bool:
    """Whether no template can treat the content in its own way: templates trim white space and look for tags."""
    return bool(content) and content == content.strip() and "<" not in content


def plain(prompt: Prompt) -> str:
    """The text of a prompt without any template: the separator between what belongs together and what comes next."""
    messages, parts = prompt.messages, list[str]()
    for i, message in enumerate(messages):
        asked = parts.pop() if message.role == "assistant" and i and messages[i - 1].role == "user" else ""
        open_ended = i == len(messages) - 1 or (message.role == "user" and messages[i + 1].role == "assistant")
        parts.append(joined(asked, message.content) + ("" if open_ended else prompt.separator))
    return "".join(parts)

"""What is written to an OpenAI-compatible server and how its replies are read; nothing here talks to anyone.

A last message of the assistant is a beginning of the answer. The completions API simply continues the text; chat
servers that do not are asked, in words, to go on from there, and what they say again is taken off.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from opportune.inference.rendering import plain
from opportune.models.endpoint_failures import SilentError
from opportune.types import Message, Prompt
from opportune.values import bounded

Api = Literal["chat", "completions"]
PATHS: dict[Api, str] = {"chat": "/chat/completions", "completions": "/completions"}
GO_ON = "Go on from exactly where your last message stops. Write only what comes next."
_MOST_STOPS = 4  # that servers take
_TOO_LONG = re.compile(
    r"context[ _](length|size|window)|maximum (context|input|prompt)|(prompt|input|request) is too (long|large)"
    r"|too many (input )?tokens|reduce the length",
    re.IGNORECASE,
)
_HALVES = re.compile("[\ud800-\udfff]")
_SNAPSHOT = re.compile(r"([@:].*|-\d{4}(\d\d)*(-\d\d)*)?")  # behind a model's name: "-2024-08-06", ":latest"
_LIMIT = re.compile(r"(?:context (?:length|size|window)|n_ctx|limit|maximum)\D{0,30}?(\d{2,})", re.IGNORECASE)


class BrokenError(Exception):
    """A reply that is no answer to what was asked: worth another try."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call: where to, what, the text that a reader sees, and the most tokens that may come back."""

    api: Api
    body: dict[str, Any]
    text: str
    most: int
    tokens_in: int  # estimated
    samples: int = 0  # asked for together; 0: the reply is kept as one whole
    first: int = 0  # the number of the first of them
    unsaid_seed: int | None = None  # of samples that the server draws as it likes: another seed, other samples


@dataclass(slots=True)
class Dialect:
    """What this server takes, as found out from what it refused."""

    length: str = "max_tokens"  # newer models of OpenAI only know max_completion_tokens
    goes_on: Mapping[str, Any] | None = None  # what makes it go on from a beginning; None: it has to be asked
    without: set[str] = field(default_factory=set)  # optional parameters that it does not know

    def learn(self, body: Mapping[str, Any], message: str, parameter: str | None) -> bool:
        """Whether a refusal was about a parameter that can be left out or called otherwise from now on."""
        if self.length in body and self.length == "max_tokens" and "max_completion_tokens" in message:
            self.length = "max_completion_tokens"
            return True
        if self.length not in body and self.length == "max_completion_tokens":
            return True  # another call has found it out meanwhile
        for name in ("temperature", "seed", "stop", "n"):
            if name in body and (name == parameter or re.search(rf"['\"`]{name}['\"`]", message)):
                self.without.add(name)
                return True
        return False


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has: one for every four bytes. The server's own count is used where it is told."""
    return math.ceil(len(text.encode()) / 4)


def request(prompt: Prompt, api: Api, name: str, dialect: Dialect, *, have: int = 0, **extra: Any) -> Request:
    """The call that a prompt stands for, where `have` of its samples are there already."""
    body: dict[str, Any] = {"model": name}
    if api == "chat":
        body["messages"] = chat(prompt, asks=dialect.goes_on is None)
        body |= dialect.goes_on or {} if beginning(prompt) else {}
        text = "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in body["messages"])
    else:
        text = body["prompt"] = plain(prompt)
    stops = stops_of(prompt, api)[:_MOST_STOPS]
    samples = 1 if "n" in dialect.without else prompt.samples - have
    # Another seed for another request: the same one would bring the same samples again.
    optional = {"temperature": prompt.temperature, "seed": prompt.seed + have, "stop": list(stops), "n": samples}
    wanted = {"stop": bool(stops), "n": samples > 1}
    body |= {k: v for k, v in optional.items() if wanted.get(k, True) and k not in dialect.without}
    body[dialect.length] = prompt.max_tokens
    tokens_in = estimated_tokens(text) + 4 * len(prompt.messages)
    unsaid = prompt.seed if prompt.temperature > 0 and "seed" in dialect.without else None
    return Request(api, body | extra, text, prompt.max_tokens * samples, tokens_in, samples, have, unsaid)


def chat(prompt: Prompt, *, asks: bool) -> list[dict[str, str]]:
    """The messages as a chat takes them; where it `asks`, with the request to go on from a beginning."""
    messages = [{"role": message.role, "content": message.content} for message in prompt.messages]
    return [*messages, {"role": "user", "content": GO_ON}] if asks and beginning(prompt) else messages


def beginning(prompt: Prompt) -> str:
    """The beginning of the answer that the prompt gives, if any."""
    return prompt.messages[-1].content if prompt.messages[-1].role == "assistant" else ""


def stops_of(prompt: Prompt, api: Api) -> tuple[str, ...]:
    """The strings that end an answer: the prompt's own, else a line's end where it is plain, as on a local model."""
    return prompt.stop or (() if api == "chat" else ("\n",))


def telling(prompt: Prompt) -> Prompt:
    """The prompt with its choices said in it, unless it names them all: what writes its answer must have seen them."""
    choices = prompt.choices or ()
    said = "\n".join(_own_words(message) for message in prompt.messages if not message.shot)
    if all(re.search(bounded(choice), said) for choice in choices):
        return prompt
    note = f"The answer is exactly one of: {'; '.join(choices)}."
    first, *rest = prompt.messages
    if first.role == "system":
        return replace(prompt, messages=(replace(first, content=f"{first.content}\n{note}"), *rest))
    # No system message of our own: there are chat templates that take none.
    content = f"{note}\n\n{first.content}"
    shift = len(content) - len(first.content)
    cut = first.cut and (first.cut[0] + shift, first.cut[1] + shift)
    return replace(prompt, messages=(Message(first.role, content, False, cut), *rest))


def _own_words(message: Message) -> str:
    """What is the same for all questions: a message without its input."""
    start, stop = message.cut or (0, 0)
    return f"{message.content[:start]}\n{message.content[stop:]}"


def parsed(text: str) -> Any:
    """JSON without halves of characters, which nothing can encode: proxies leave them where they cut an emoji."""
    found = json.loads(text)
    whole = "\\ud" not in text.lower()
    return found if whole else json.loads(_HALVES.sub("\ufffd", json.dumps(found, ensure_ascii=False)))


def texts_of(answer: Any, prompt: Prompt, api: Api) -> tuple[str, ...]:
    """The texts of a reply, each ended at its first stop string. Raises BrokenError."""
    stops, begun = stops_of(prompt, api), beginning(prompt).strip() if api == "chat" else ""
    texts = []
    for choice in choices_of(answer):
        text = _content(choice, api)
        if begun and text.lstrip().startswith(begun):
            text = text.lstrip()[len(begun) :]
        texts.append(text[: min((text.index(stop) for stop in stops if stop in text), default=len(text))])
    return tuple(texts)


def spoken(answer: Any, prompt: Prompt, api: Api) -> tuple[str, ...]:
    """As `texts_of`, where at least one of them was begun. Raises SilentError where all room went into thinking."""
    texts = texts_of(answer, prompt, api)
    if all(choice.get("finish_reason") == "length" and not _content(choice, api) for choice in choices_of(answer)):
        raise SilentError
    return texts


def choices_of(answer: Any) -> list[Mapping[str, Any]]:
    """The samples of a reply in their order. Raises BrokenError."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise BrokenError("a reply without choices")
    return sorted(choices, key=lambda choice: _whole(choice.get("index")))


def _content(choice: Mapping[str, Any], api: Api) -> str:
    message = choice.get("message") if api == "chat" else choice
    text = message.get("content" if api == "chat" else "text") if isinstance(message, dict) else None
    if (
        text is None
        and isinstance(message, dict)
        and choice.get("finish_reason") in ("length", "content_filter", "stop")
    ):
        return ""  # all was thought, or refused
    if not isinstance(text, str):
        raise BrokenError("a choice without text")
    return text


def written(answer: Any) -> str:
    """All text in a reply, whatever it is."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    found = [c for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []
    messages = [c["message"].get("content") if isinstance(c.get("message"), dict) else c.get("text") for c in found]
    return "".join(text for text in messages if isinstance(text, str))


def usage_of(answer: Any) -> tuple[int, int] | None:
    """Tokens in and out as the server counted them; None where it does not say."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    if not isinstance(usage, dict) or "prompt_tokens" not in usage:
        return None
    return _whole(usage["prompt_tokens"]), _whole(usage.get("completion_tokens"))


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def too_long(message: str, kind: str | None) -> bool:
    """Whether a refusal says that the prompt does not fit the model's context."""
    return kind in ("context_length_exceeded", "exceed_context_size_error") or bool(_TOO_LONG.search(message))


def context_told(message: str, details: Any) -> int | None:
    """The size of the context in tokens, where the refusal tells it."""
    if isinstance(details, dict) and isinstance(details.get("n_ctx"), int):
        return int(details["n_ctx"])
    found = _LIMIT.search(message)
    return int(found.group(1)) if found else None


def alike(asked: str, answered: str) -> bool:
    """Whether a reply's model can be the one that was asked for: a dated snapshot, a path, another case."""
    mine, theirs = (re.sub(r"\.gguf$", "", name.casefold()) for name in (asked, answered))
    if theirs.startswith(mine):
        return _SNAPSHOT.fullmatch(theirs[len(mine) :]) is not None
    return any(path.endswith(end) and path[-len(end) - 1] in "/\\" for path, end in ((theirs, mine), (mine, theirs)))


def bounds(texts: Sequence[str]) -> int:
    """Tokens that any one of these texts surely fits into, quoted in JSON."""
    return 16 + max(len(text.encode()) for text in texts)

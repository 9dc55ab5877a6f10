"""What the strategies that write before they answer share: how a question is put, and how its answer is read off."""

from __future__ import annotations

import json
from dataclasses import replace

from opportune.strategies import wording
from opportune.strategies.extracting import Extract, announced, cue, extract, shape_of
from opportune.types import Answer, Example, Flow, Message, Prompt, Question, TaskView

STOP = ("\nQuestion:",)  # a model that has answered and goes on invents the next question
CLOSING_TOKENS = 32  # for an answer that only remains to be said


def head(task: TaskView, instruction: str | None) -> list[Message]:
    """The instruction, and the closed set of answers: what writes its answer must have seen them."""
    message = wording.system(task, instruction)
    text = message.content if message else ""
    if task.choices is not None and wording.LABELS not in (instruction or task.instruction):
        text = f"{text}\nThe answer is one of: {', '.join(task.choices)}.".strip()
    return [Message("system", text)] if text else []


def question(asked: Question, task: TaskView, *, shot: bool = False, context: str = "") -> Message:
    """The question to be thought about, after what is already known of it."""
    own = asked.choices if asked.choices != task.choices else None
    after = f"\nChoices:\n{wording.listed(own)}\nAnswer:" if own else "\nAnswer:"
    return wording.marked(f"{context}Question: ", asked.input.strip(), after, shot=shot)


def solution(example: Example) -> str:
    """A worked answer as a demonstration gives it, ended as it will be looked for."""
    steps = steps_of(example)
    worked = " ".join(answer for _, answer in steps) if steps else (example.rationale or "").strip()
    return concluded(worked, example)


def concluded(worked: str, example: Example) -> str:
    """Reasoning that ends in the example's answer."""
    return f"{worked} The answer is {example.target}.".strip()


def steps_of(example: Example) -> tuple[tuple[str, str], ...]:
    """A rationale that is a decomposition, as simpler questions with their answers; none where it is plain text."""
    if not (example.rationale or "").startswith("["):
        return ()
    try:
        return tuple((str(step["question"]), str(step["answer"])) for step in json.loads(example.rationale or ""))
    except (ValueError, KeyError, TypeError):
        return ()


def demonstration(example: Example, task: TaskView) -> tuple[Message, Message]:
    """A question and its worked answer."""
    asked = question(example.question, task, shot=True)
    return asked, Message("assistant", solution(example), shot=True)


def read(text: str, asked: Question, task: TaskView, how: Extract, *, worded: bool = True) -> Answer:
    """The answer in a written text; with `worded`, free text counts only after the words that announce it."""
    shape, choices = shape_of(task), wording.choices_of(asked, task)
    return Answer(extract(text, how, shape=shape, choices=choices, needs_marker=worded), text)


def said_by_model(text: str, otherwise: str = "") -> Message:
    """What the model wrote in an earlier call; where the context runs short its middle may go."""
    kept = text.strip() or otherwise
    return Message("assistant", kept, cut=(0, len(kept)))


def closing(prompt: Prompt, said: str, asked: Question, task: TaskView, most: int = CLOSING_TOKENS) -> Prompt:
    """The call that brings a text to its answer: the text as the beginning of what the model says, and a cue; `most`
    tokens are written."""
    beginning = replace(said_by_model(said), content=f"{said.strip()}\n{cue(shape_of(task))}".strip())
    begun = prompt.messages[-1].role == "assistant"
    return replace(
        prompt,
        messages=(*(prompt.messages[:-1] if begun else prompt.messages), beginning),
        choices=wording.choices_of(asked, task),
        max_tokens=most,
        stop=("\n",),
    )


def conclude(
    prompt: Prompt, said: str, asked: Question, task: TaskView, how: Extract, most: int = CLOSING_TOKENS
) -> Flow[Answer]:
    """One more call that brings a text to its answer (Kojima et al. 2022): the likeliest choice after it, or a few
    words."""
    from opportune.strategies import choosing

    final = closing(prompt, said, asked, task, most)
    completions = yield [final]
    said_before = final.messages[-1].content
    if final.choices is not None:
        found = choosing.answer(final, completions[0])
        return replace(found, raw=f"{said_before} {found.raw}")
    text = completions[0].texts[0]
    found = read(f"The answer is {text}", asked, task, announced(how))
    return replace(found, raw=f"{said_before}{text}")

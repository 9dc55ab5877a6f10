"""SCAN (Lake & Baroni 2018): commands in English to sequences of actions, with its own meaning as a worked solution.

Actions are written as single words ("left jump" for I_TURN_LEFT I_JUMP), which a small model's tokenizer has: what is
tested is composition, not spelling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_TIMES = {"twice": 2, "thrice": 3}
_WORD = {"I_TURN_LEFT": "left", "I_TURN_RIGHT": "right"}
INSTRUCTION = "Translate the command into actions."


def words_of(target: str) -> str:
    """A sequence of actions in single words."""
    return " ".join(_WORD.get(action, action.removeprefix("I_").lower()) for action in target.split())


def actions(command: str) -> list[str]:
    """What a command means."""
    for joint in (" and ", " after "):
        if joint in command:
            first, second = command.split(joint)
            return actions(first) + actions(second) if joint == " and " else actions(second) + actions(first)
    words = command.split()
    times = _TIMES.get(words[-1], 1)
    verb, *how = words[:-1] if times > 1 else words
    turn, act = how[-1:], [] if verb == "turn" else [verb]
    if "around" in how:
        return 4 * times * (turn + act)
    return times * ((2 if "opposite" in how else 1) * turn + act)


def steps(command: str) -> list[dict[str, str]]:
    """Simpler commands first, each built on those before it; the command itself comes last."""
    for joint in (" and ", " after "):
        if joint in command:
            first, second = command.split(joint)
            order = f'"{first}", then "{second}"' if joint == " and " else f'"{second}", then "{first}"'
            found = steps(first) + [step for step in steps(second) if step not in steps(first)]
            return [*found, _step(command, f"It is {order}:")]
    return _clause(command)


def _clause(command: str) -> list[dict[str, str]]:
    words = command.split()
    found = []
    if words[-1] in _TIMES:
        inner = " ".join(words[:-1])
        return [*_clause(inner), _step(command, f'It is "{inner}" {_TIMES[words[-1]]} times:')]
    if "around" in words:
        inner = " ".join(word for word in words if word != "around")
        found = _clause(inner)
        return [*found, _step(command, f'It is "{inner}" 4 times:')]
    return [_step(command, "It is")]


def _step(command: str, how: str) -> dict[str, str]:
    return {"question": command, "answer": f"{how} {' '.join(actions(command))}."}


def rows(given: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    """The rows of a split in single words, with worked solutions. Raises ValueError where these disagree."""
    found = []
    for row in given:
        target = words_of(row["target"])
        if " ".join(actions(row["input"])) != target:
            raise ValueError(f"SCAN: {row['input']!r} is {target!r}")
        found.append({"input": row["input"], "target": target, "rationale": steps(row["input"])})
    return found

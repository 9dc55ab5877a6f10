"""A metric of one's own: a Python function in a file.

    def score(answer: str, target: str, input: str) -> float:
        return 1.0 if answer.strip().startswith(target) else 0.0

The file is run as it is: it is the user's own code. Its digest is part of the metric's resolved name, so that another
function is another metric, and scores in the store are never mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Real
from typing import ClassVar

from opportune import own_code
from opportune.errors import OwnCodeError, RecipeError
from opportune.metrics.scoring import mean_score
from opportune.types import Example

Function = Callable[[str, str, str], object]


@dataclass(frozen=True, slots=True)
class OwnFunction:
    """The function `function` of the file `path`: `(answer, target, input) -> 0 to 1`.

    With a digest, as a stored run has it, nothing is run before the first score: a run can be shown without the file.
    """

    path: str = ""  # made absolute
    function: str = "score"
    digest: str | None = None  # of the file; filled in

    summary: ClassVar[str] = "a function of your own: python:path=FILE, with score(answer, target, input) -> 0 to 1"
    source: ClassVar[str] = "you"
    binary: ClassVar[bool] = False
    additive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.path:
            raise RecipeError("python: needs path=FILE, a Python file with score(answer, target, input) -> 0 to 1")
        object.__setattr__(self, "path", own_code.absolute(self.path))
        if self.digest is None:
            found = own_code.digest_of("python", self.path)
            _function(self.path, self.function, found)
            object.__setattr__(self, "digest", found)

    def score(self, answer: str, example: Example) -> float:
        """What the function returns. Raises OwnCodeError, naming the function, where it fails or returns no share."""
        place = f"{self.path}: {self.function}()"
        function = _function(self.path, self.function, self.digest or "")
        with own_code.failing(f"{place} failed on the answer {answer!r:.60}"):
            value = function(answer, example.target, example.input)
        share = float(value) if isinstance(value, Real) else -1.0
        if not 0 <= share <= 1:
            raise OwnCodeError(f"{place} returned {value!r:.60}; a number from 0 to 1 is expected")
        return share

    def figure(self, answers: Sequence[str | None], examples: Sequence[Example]) -> float:
        """The mean of the scores."""
        return mean_score(self, answers, examples)


@lru_cache(maxsize=8)
def _function(path: str, name: str, measured: str) -> Function:
    """The function, from a file that has not changed since. Raises RecipeError."""
    own_code.check_digest("python", path, measured)
    found = own_code.names_of("python", path, measured).get(name)
    if not callable(found):
        raise RecipeError(f"python:path={path} has no function {name}(answer, target, input)")
    function: Function = found
    return function

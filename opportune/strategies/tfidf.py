"""TF-IDF with logistic regression: the classifier that needs no language model (Salton & Buckley 1988)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from opportune.errors import RecipeError
from opportune.types import Answer, Example, Flow, Lesson, Question, TaskView
from opportune.words import words


@dataclass(frozen=True, slots=True)
class Tfidf:
    """Words and word pairs weighted by TF-IDF; logistic regression with weight `c` on the data."""

    c: float = 10.0

    summary: ClassVar[str] = "TF-IDF of words and word pairs with logistic regression; no language model"
    source: ClassVar[str] = "Salton & Buckley 1988; scikit-learn"
    needs_model: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.c > 0:
            raise RecipeError(f"tfidf:c={self.c:g} is out of range: above 0")

    def prepare(self, task: TaskView, seed: int) -> Flow[Any]:
        """Fit on the training examples. Raises RecipeError for a task of free text, and for one label or no word."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        if task.choices is None:
            raise RecipeError(
                "tfidf chooses among the labels of a task; this task's answers are not a shared closed set"
            )
        weights = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, tokenizer=words, token_pattern=None)
        model = make_pipeline(weights, LogisticRegression(C=self.c, max_iter=1000, random_state=seed))
        if len({example.target for example in task.train}) < 2:
            raise RecipeError("tfidf needs training examples of two labels at least")
        try:
            model.fit([example.input for example in task.train], [example.target for example in task.train])
        except ValueError as error:  # from scikit-learn: no word at all
            raise RecipeError(f"tfidf cannot be fitted to the training examples: {error}") from error
        yield from ()
        return model

    def ask(self, question: Question, task: TaskView, prepared: Any) -> Flow[Answer]:
        """The likeliest label."""
        logs = prepared.predict_log_proba([question.input])[0]
        yield from ()
        scores = dict(zip(map(str, prepared.classes_), map(float, logs), strict=True))
        best = max(scores, key=scores.__getitem__)
        return Answer(best, best, scores)

    def teach(self, example: Example, task: TaskView, prepared: Any) -> list[Lesson]:
        """Nothing to train. Raises RecipeError."""
        raise RecipeError("tfidf asks no model: it cannot follow a training method")

"""Why reasoning did not help: said from the figures, and only where it did not."""

from __future__ import annotations

from opportune.aside import revised
from opportune.metrics.accuracy import Accuracy
from opportune.records import Facts
from opportune.types import Answer, Example, Outcome
from tests.made_up import Arm, comparison, marks, row

COT, DIRECT, REVIEWED = "chain-of-thought:k=4", "k-shot:k=8", "step-back:sense=reconsider"


def why(*arms: Arm, recipe: str = COT) -> str | None:
    return row(comparison(arms), recipe).why


def test_the_unparsed_share_and_the_size_of_the_model_are_the_reason() -> None:
    found = why(Arm(DIRECT, (marks(60, 40),)), Arm(COT, ("1" * 10 + "0" * 40 + "u" * 50,)))
    assert found is not None
    assert found.startswith(f"{COT} scores −50.0 points (")
    assert f"against {DIRECT}" in found
    assert "50% of its answers could not be read" in found
    assert "more capable model" in found
    assert "Wei et al. 2022" in found
    assert "at chance" not in found
    assert found.count(". ") == found.count("et al. ")  # one sentence


def test_a_direct_prompt_at_chance_is_nothing_to_build_upon() -> None:
    found = why(Arm("majority", (marks(34, 66),)), Arm(DIRECT, (marks(36, 64),)), Arm(COT, (marks(33, 67),)))
    assert found is not None
    assert "asked directly the model is at chance already (36%, where 34% is what a blind guess scores)" in found
    assert "could not be read" not in found


def test_reviews_that_spoil_more_than_they_mend() -> None:
    facts = Facts(revised={"changed": 0.4, "mended": 0.05, "spoilt": 0.2})
    found = why(Arm(DIRECT, (marks(60, 40),)), Arm(REVIEWED, (marks(45, 55),), facts=facts), recipe=REVIEWED)
    assert found is not None
    assert "40% of its final answers differ from its drafts, 5% wrong ones put right and 20% right ones spoilt" in found


def test_samples_that_do_not_agree() -> None:
    name = "self-consistency:n=5"
    found = why(Arm(DIRECT, (marks(60, 40),)), Arm(name, (marks(45, 55),), facts=Facts(agreement=0.34)), recipe=name)
    assert found is not None
    assert "only 34% of its samples agree" in found


def test_nothing_is_explained_away_where_reasoning_helped() -> None:
    assert why(Arm(DIRECT, (marks(40, 60),)), Arm(COT, (marks(60, 40),))) is None
    assert why(Arm("majority", (marks(40, 60),)), Arm(COT, (marks(20, 80),))) is None  # nothing to compare with
    trained = f"lora+{COT}"
    assert why(Arm(DIRECT, (marks(40, 60),)), Arm(trained, (marks(20, 80),)), recipe=trained) is None


def test_a_tie_is_no_loss() -> None:
    tied = why(Arm(DIRECT, (marks(60, 40),)), Arm(COT, (marks(60, 40),))) or ""
    assert "its answers can be read, and are wrong as often" in tied
    lost = why(Arm(DIRECT, (marks(60, 40),)), Arm(COT, (marks(50, 50),))) or ""
    assert "its answers can be read, and are wrong more often" in lost


def test_it_is_compared_with_the_direct_prompt_that_led_on_dev() -> None:
    arms = [Arm("zero-shot", (marks(90, 10),), dev=("0",)), Arm(DIRECT, (marks(60, 40),)), Arm(COT, (marks(50, 50),))]
    assert f"against {DIRECT}" in (why(*arms) or "")


def test_drafts_are_held_against_the_final_answers() -> None:
    def outcome(text: str, draft: str | None, target: str) -> Outcome:
        score = float(text == target)
        return Outcome(Example("e", "in", target), Answer(text, draft=draft), "ok", score, (), ())

    same, mended, spoilt, other = (
        outcome("a", "a", "a"),
        outcome("a", "b", "a"),
        outcome("b", "a", "a"),
        outcome("c", "b", "a"),
    )
    assert revised([same, mended, spoilt, other], Accuracy()) == {"changed": 0.75, "mended": 0.25, "spoilt": 0.25}
    assert revised([outcome("a", None, "a")], Accuracy()) is None

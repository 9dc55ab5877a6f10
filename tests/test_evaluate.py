"""The driver: lockstep rounds, failures, and memory of what was answered before."""

from __future__ import annotations

from opportune.evaluate import NoJournal, converse, evaluate, prepare
from opportune.metrics import metric_named
from opportune.models.scripted import Scripted
from opportune.strategies.zero_shot import ZeroShot
from opportune.types import Answer, Message, Prompt
from tests.toy import toy_task

TASK = toy_task()


def countdown(name, rounds):
    """A flow that asks `rounds` times, each prompt built on the last completion."""
    text = name
    for _ in range(rounds):
        (completion,) = yield [Prompt((Message("user", text),))]
        text = completion.texts[0]
    return text


def test_conversations_of_different_lengths_advance_together():
    model = Scripted(lambda prompt, index: prompt.messages[-1].content + "!")
    talks = converse({name: countdown(name, n) for name, n in {"a": 1, "b": 3, "c": 0}.items()}, model, NoJournal())
    assert {name: talk.result for name, talk in talks.items()} == {"a": "a!", "b": "b!!!", "c": "c"}
    assert [prompt.messages[0].content for prompt in model.prompts] == ["a", "b", "b!", "b!!"]


class Memory:
    """A journal in memory that can crash after a number of answers."""

    def __init__(self, crash_after=None):
        self.kept, self.crash_after = {}, crash_after

    def known(self, calls):
        keys = [(call.conversation, call.round, call.position) for call in calls]
        return {i: self.kept[key] for i, key in enumerate(keys) if key in self.kept}

    def record(self, answered):
        for call, completion in answered:
            if self.crash_after == 0:
                raise KeyboardInterrupt
            self.kept[call.conversation, call.round, call.position] = completion
            if self.crash_after is not None:
                self.crash_after -= 1


def test_after_a_crash_nothing_answered_is_asked_again():
    def model():
        return Scripted(lambda prompt, index: prompt.messages[-1].content + "!")

    def flows():
        return {name: countdown(name, 3) for name in "abcd"}

    undisturbed, memory, asked = converse(flows(), model(), NoJournal()), Memory(crash_after=6), 0
    crashing = model()
    try:
        converse(flows(), crashing, memory)
    except KeyboardInterrupt:
        asked += 6
    memory.crash_after = None
    resumed_model = model()
    resumed = converse(flows(), resumed_model, memory)
    assert {n: t.result for n, t in resumed.items()} == {n: t.result for n, t in undisturbed.items()}
    assert asked + len(resumed_model.prompts) == 12


def test_a_failed_call_is_failed_and_never_scored():
    model = Scripted(lambda prompt, index: "fruit", fail=0.5)
    strategy = ZeroShot()
    prepared = prepare(strategy, TASK.view(), 0, model, NoJournal())
    metric = metric_named("accuracy")
    outcomes = evaluate(strategy, TASK.view(), prepared, TASK.dev, model, metric, NoJournal())
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    assert len(failed) == 2
    assert all(outcome.score is None and outcome.answer is None for outcome in failed)
    assert all(outcome.completions[0].error for outcome in failed)
    assert {outcome.status for outcome in outcomes if outcome not in failed} == {"ok"}


def test_an_unparsed_answer_scores_zero_and_keeps_its_text():
    class Silent(ZeroShot):
        def ask(self, question, task, prepared):
            yield from ()
            return Answer(None, "hm")

    metric = metric_named("accuracy")
    (outcome,) = evaluate(Silent(), TASK.view(), None, TASK.dev[:1], None, metric, NoJournal())
    assert (outcome.status, outcome.score, outcome.answer.raw) == ("unparsed", 0.0, "hm")


def test_free_text_is_generated_and_stripped():
    task = toy_task("text")
    strategy, model = ZeroShot(), Scripted(lambda prompt, index: "  a fruit \n")
    outcomes = evaluate(strategy, task.view(), None, task.dev[:1], model, metric_named("exact-match"), NoJournal())
    assert outcomes[0].answer.text == "a fruit"
    assert model.prompts[0].choices is None
    assert model.prompts[0].messages[-1].content == "Question: one apple\nAnswer:"

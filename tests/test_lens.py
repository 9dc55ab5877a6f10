"""The lens: the distribution where an answer begins, against transformers' own and scipy's numbers."""

from __future__ import annotations

import html
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy as scipy_entropy

from opportune import distributions, evaluate
from opportune.api import compare
from opportune.cli.main import main
from opportune.errors import RecipeError, StoreError
from opportune.evaluate import NoJournal
from opportune.lens import look, shown
from opportune.models.loading import load_model
from opportune.models.local import Local
from opportune.strategies.k_shot import KShot
from opportune.types import Message, ModelInfo, Prompt, Question
from tests.inference.tiny import CHATML, network_of, plain_network_of, tokenizer_of
from tests.toy import toy_task

torch.set_num_threads(1)
INFO = ModelInfo("tiny", "", 0, "", "float32", "cpu")
LORA = "lora:rank=2,epochs=2,batch=4,rate=1e-2"
logits = arrays(np.float64, 9, elements=st.floats(-30, 30))


@pytest.fixture(scope="module")
def runs(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    compare(toy_task(), recipes=["zero-shot", "k-shot:k=2", LORA], models=[model], dtype="float32", runs=folder)
    return folder


@pytest.fixture
def nowhere(tmp_path):
    return tmp_path / "no-runs"


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    out, err = capsys.readouterr()
    return stop.value.code, out, err


# ---- the numbers ----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(logits, logits)
def test_entropy_and_divergences_are_scipys(first, second):
    p, q = (np.exp(distributions.normalised(one)) for one in (first, second))
    assert distributions.entropy(first) == pytest.approx(scipy_entropy(p), abs=1e-9)
    assert distributions.divergence(first, second) == pytest.approx(scipy_entropy(p, q), abs=1e-9)
    # scipy's root of a distance that rounding made negative is not a number.
    distance = float(np.nan_to_num(jensenshannon(p, q)))
    assert distributions.jensen_shannon(first, second) == pytest.approx(distance**2, abs=1e-9)
    assert distributions.jensen_shannon(first, second) == pytest.approx(distributions.jensen_shannon(second, first))
    assert 0 <= distributions.jensen_shannon(first, second) <= math.log(2) + 1e-12
    assert 0 <= distributions.total_variation(list(p), list(q)) <= 1 + 1e-12


def test_what_never_happens_counts_for_nothing_unless_it_does():
    certain, even, never = [0.0, -math.inf], [math.log(0.5)] * 2, [-math.inf, 0.0]
    assert distributions.entropy(certain) == 0
    assert distributions.bits(distributions.entropy(even)) == pytest.approx(1)
    assert distributions.divergence(certain, even) == pytest.approx(math.log(2))
    assert distributions.divergence(even, certain) == math.inf
    assert distributions.jensen_shannon(certain, never) == pytest.approx(math.log(2))
    assert distributions.divergence(certain, certain) == 0


# ---- the model ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choices", [None, ("card arrival", "charged twice", "location")])
@pytest.mark.parametrize(
    ("name", "chat", "bos"),
    [("llama", True, False), ("gemma2", False, True), ("gpt2", False, False), ("bloom", True, True)],
)
def test_the_next_token_is_transformers_own_softmax(name, chat, bos, choices):
    local = Local(network_of(name), tokenizer_of(bos=bos, template=CHATML if chat else None), INFO)
    prompt = Prompt((Message("system", "Sort the message."), Message("user", "Text: my card\nLabel:")), choices=choices)
    ids = local.items([prompt])[0].trunk
    text = next(iter(local.complete([prompt], {})))[1].prompt
    assert ids == local.tokenizer(text, add_special_tokens=not chat)["input_ids"]
    with torch.no_grad():
        expected = plain_network_of(name)(input_ids=torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
    found = local.next_token(prompt)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=2e-4)
    assert float(found.exp().sum()) == pytest.approx(1, abs=1e-4)


def test_asking_leaves_a_training_network_training():
    network = plain_network_of("llama").train()
    Local(network, tokenizer_of(), INFO).next_token(Prompt((Message("user", "hello"),)))
    assert network.training


def test_tokens_are_shown_with_their_white_space():
    for kind in ("bytes", "spaces"):
        tokenizer = tokenizer_of(kind)
        ids = tokenizer(" card has", add_special_tokens=False)["input_ids"]
        assert "".join(shown(tokenizer, i) for i in ids).endswith("␣card␣has")
    tokenizer = tokenizer_of()
    (line,) = tokenizer("\n", add_special_tokens=False)["input_ids"]
    assert shown(tokenizer, line) == "↵"
    part = tokenizer("€", add_special_tokens=False)["input_ids"]
    assert len(part) > 1
    assert all(shown(tokenizer, i).isprintable() for i in range(len(tokenizer)))
    assert "\ufffd" not in "".join(shown(tokenizer, i) for i in part)
    assert shown(tokenizer, len(tokenizer) + 3) == f"<{len(tokenizer) + 3}>"


# ---- the lens -------------------------------------------------------------------------------------------------------


def test_a_recipe_is_no_distance_from_itself(model, nowhere):
    recipes = ["zero-shot", "zero-shot", "k-shot:k=4"]
    found = look("the pear", recipes, task=toy_task(), model=model, runs=nowhere, top=5)
    first, same, other = found.readings
    assert found.apart(same).from_first == pytest.approx(0, abs=1e-9)
    assert found.apart(same).jensen_shannon == pytest.approx(0, abs=1e-9)
    assert found.apart(other).from_first > 1e-4
    assert found.apart(other).jensen_shannon == pytest.approx(
        jensenshannon(np.exp(first.log_probabilities), np.exp(other.log_probabilities)) ** 2, rel=1e-3
    )
    assert first.entropy == pytest.approx(scipy_entropy(np.exp(first.log_probabilities)), rel=1e-5)
    assert [token.log_probability for token in first.top] == sorted(first.log_probabilities.tolist())[:-6:-1]
    assert found.under_first(same, same.top[0]) == pytest.approx(math.exp(first.top[0].log_probability))


def test_choices_have_the_scores_of_complete(model, nowhere):
    task, local = toy_task(), load_model(model)
    reading = look("the pear", ["k-shot:k=4"], task=task, model=model, runs=nowhere).readings[0]
    strategy = KShot(k=4)
    prepared = evaluate.prepare(strategy, task.view(), 0, local, NoJournal())
    prompt = next(strategy.ask(Question("the pear"), task.view(), prepared))[0]
    ((_, completion),) = local.complete([prompt], {})
    assert reading.prompt == completion.prompt
    assert [choice.text for choice in reading.choices] == list(task.choices)
    assert [choice.log_probability for choice in reading.choices] == pytest.approx(completion.scores, abs=1e-4)
    assert sum(math.exp(choice.share) for choice in reading.choices) == pytest.approx(1)
    assert all(choice.answered is None for choice in reading.choices)
    for choice in reading.choices:  # a whole choice is no likelier than the token it begins with
        assert choice.log_probability <= reading.log_probabilities.max() + 1e-4
    assert reading.answer == max(reading.choices, key=lambda choice: choice.share).text


@pytest.mark.parametrize("recipe", ["zero-shot:calibrate=contextual", "k-shot:k=2,pick=nearest,calibrate=contextual"])
def test_of_a_calibrated_recipe_the_question_is_looked_at(model, nowhere, recipe):
    reading = look("the plum", [recipe], task=toy_task(), model=model, runs=nowhere).readings[0]
    assert "the plum" in reading.prompt
    assert sum(math.exp(choice.answered) for choice in reading.choices) == pytest.approx(1)
    assert reading.answer == max(reading.choices, key=lambda choice: choice.answered).text


def test_a_task_of_free_text_has_no_choices(model, nowhere):
    reading = look("the plum", ["zero-shot"], task=toy_task("text"), model=model, runs=nowhere).readings[0]
    assert reading.choices == ()
    assert reading.choice_entropy is None
    assert reading.run is None


def test_models_with_other_tokens_cannot_be_compared(model, nowhere, tmp_path):
    plain_network_of("llama").save_pretrained(tmp_path)
    tokenizer_of("spaces", template=CHATML).save_pretrained(tmp_path)
    other = f'zero-shot@"{tmp_path}"'
    found = look("the plum", ["zero-shot", other], task=toy_task(), model=model, runs=nowhere)
    assert found.apart(found.readings[1]) is None
    assert found.under_first(found.readings[1], found.readings[1].top[0]) is None


def test_a_trained_recipe_comes_from_its_run_with_task_and_model(runs, model):
    found = look("the plum", ["zero-shot", LORA, "k-shot:k=6"], runs=runs)
    asked, trained, shots = found.readings
    assert found.task == "toy"
    assert (asked.run, shots.run) == (None, None)
    assert trained.run is not None
    assert asked.prompt == trained.prompt
    assert found.apart(trained).jensen_shannon > 1e-6
    assert {reading.model for reading in found.readings} == {asked.model}
    again = look("the plum", ["zero-shot", LORA], task=toy_task(), model=model, run="latest", runs=runs)
    assert np.allclose(again.readings[1].log_probabilities, trained.log_probabilities, atol=1e-5)
    assert np.allclose(again.readings[0].log_probabilities, asked.log_probabilities, atol=1e-5)


def test_a_run_that_is_named_gives_task_and_model_to_recipes_that_it_has_not(runs):
    ours, theirs = (look("the plum", [recipe], run="latest", runs=runs) for recipe in ("k-shot:k=4", "zero-shot"))
    assert ours.task == theirs.task == "toy"
    assert ours.readings[0].model == theirs.readings[0].model
    assert ours.readings[0].prompt.startswith(theirs.readings[0].prompt[:20])
    with pytest.raises(StoreError, match="no run 'absent'"):
        look("the plum", ["k-shot:k=4"], run="absent", runs=runs)


def test_one_lens_has_one_task(runs, model):
    with pytest.raises(RecipeError, match="another task"):
        look("the plum", ["k-shot:k=4"], task=toy_task("text"), run="latest", runs=runs)
    with pytest.raises(RecipeError, match="another task"):
        look("the plum", [LORA], task=toy_task("text"), runs=runs)
    with pytest.raises(RecipeError, match="no run in"):
        look("the plum", ["full"], runs=runs)
    with pytest.raises(RecipeError, match="has not finished it"):
        look("the plum", ["full"], run="latest", runs=runs)


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"the {word} number {i},{label}" for i in range(8) for word, label in (("pear", "fruit"), ("saw", "tool"))]
    (tmp_path / "rows.csv").write_text("\n".join(["text,kind", *rows]) + "\n")
    return "rows.csv"


def test_the_terminal_shows_tokens_choices_and_distances(capsys, data, model):
    recipes = ["--recipe", "zero-shot", "--recipe", "k-shot:k=4", "--recipe", "zero-shot:calibrate=contextual"]
    code, out, err = run(capsys, "lens", "[bold]the pear[/]", data, *recipes, "--model", model, "--top", "4")
    assert code == 0, err
    assert "[bold]the pear[/]" in out
    for word in ("1 zero-shot", "2 k-shot:k=4", "next token", "fruit", "tool", "KL(1‖·)", "calibrated", "under 1"):
        assert word in out
    assert max(map(len, out.splitlines())) <= 130


def test_json_is_one_object_with_bits_and_nats(capsys, data, model):
    recipes = ["--recipe", "zero-shot", "--recipe", "k-shot:k=4"]
    code, out, err = run(capsys, "lens", "the pear", data, *recipes, "--model", model, "--json", "--top", "3")
    assert code == 0, err
    found = json.loads(out)
    first, second = found["readings"]
    assert (found["schema"], found["text"], first["recipe"]) == (1, "the pear", "zero-shot")
    assert first["against_first"] is None
    apart = second["against_first"]["jensen_shannon"]
    assert apart["bits"] == pytest.approx(apart["nats"] / math.log(2))
    assert [len(reading["top"]) for reading in found["readings"]] == [3, 3]
    assert {choice["choice"] for choice in first["choices"]} == {"fruit", "tool"}
    assert sum(choice["share"] for choice in second["choices"]) == pytest.approx(1)


def test_the_page_is_one_file_that_can_do_nothing(capsys, data, model, tmp_path):
    text = "</pre><script>alert(1)</script><img src=x>"
    recipes = ["--recipe", "zero-shot", "--recipe", "k-shot:k=4"]
    code, out, err = run(capsys, "lens", text, data, *recipes, "--model", model, "--html", "lens.html")
    assert code == 0, err
    assert "lens.html" in out
    page = (tmp_path / "lens.html").read_text()
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert page.count('<svg role="img"') == 4
    assert "default-src 'none'" in html.unescape(page)
    assert "http://" not in page
    assert "https://" not in page
    assert " style=" not in page
    assert run(capsys, "lens", text, data, *recipes, "--model", model, "--html", "no/such/lens.html")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["the pear"], "--recipe"),
        (["  ", "--recipe", "zero-shot"], "no text"),
        (["the pear", "--recipe", "majority"], "asks no model"),
        (["the pear", "--recipe", "k-shots"], "unknown name"),
        (["the pear", "--recipe", "k-shot:k=[2,4]"], "lists values"),
        (["the pear", "--recipe", "lora:rank=8"], "opportune compare --try 'lora:rank=8'"),
        (["the pear", "--recipe", "zero-shot", "--model", "openai:gpt"], "endpoint"),
        (["the pear", "--recipe", "zero-shot@openai:gpt"], "endpoint"),
        (["the pear", "--recipe", "zero-shot", "--run", "latest"], "no runs in"),
        (["the pear", "nowhere.csv", "--recipe", "zero-shot"], "no such file"),
    ],
)
def test_what_cannot_be_looked_at_is_one_line(capsys, data, arguments, said):
    code, out, err = run(capsys, "lens", *arguments)
    assert code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("opportune: ")]
    assert len(lines) == 1
    assert said in lines[0]

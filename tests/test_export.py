"""Exports: what another library loads answers as the run's own model did, or the export fails and says where."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, dynamic_module_utils

from opportune import evaluate, parity
from opportune.answering import StoredArm
from opportune.api import ask, compare, export
from opportune.cli.export import _answers
from opportune.cli.main import _run
from opportune.errors import ParityError, RecipeError, StoreError, UsageError
from opportune.evaluate import NoJournal
from opportune.exporting import _merged
from opportune.metrics import metric_named
from opportune.store import Store
from tests.inference.tiny import CHATML, plain_network_of, tokenizer_of
from tests.toy import toy_task

LORA, FULL, CHAIN = (
    "lora:rank=2,epochs=1,batch=4,rate=1e-1",
    "full:epochs=1,batch=4,rate=1e-2",
    "full:epochs=1,batch=4,rate=1e-2+lora:rank=2,epochs=1,batch=4,rate=1e-1",
)
BOTTLENECK = "adapter:epochs=1,batch=4,rate=1e-2"
SOFT = "prompt-tuning:tokens=4,epochs=1,batch=4,rate=1e-1"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    plain_network_of("llama").save_pretrained(folder)
    tokenizer_of(template=CHATML).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def runs(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    recipes = [LORA, FULL, CHAIN, SOFT, BOTTLENECK, "majority", "zero-shot"]
    done = compare(toy_task(), recipes=recipes, models=[base], dtype="float32", runs=folder)
    assert {row.status for row in done.rows} == {"done"}
    return folder


@pytest.fixture(scope="module")
def texts(base, tmp_path_factory):
    """A run whose answers are written."""
    folder = tmp_path_factory.mktemp("texts")
    compare(toy_task("text"), recipes=[LORA], models=[base], dtype="bfloat16", runs=folder)
    return folder


def logits(network, ids):
    with torch.no_grad():
        return network(torch.tensor([ids])).logits[0]


IDS = [5, 80, 33, 120, 7]


@pytest.mark.parametrize("recipe", [LORA, FULL, CHAIN])
def test_plain_transformers_computes_what_the_trained_model_does(runs, base, recipe, tmp_path):
    (done,) = export("latest", recipe, merged=tmp_path / "out", runs=runs)
    assert done.parity.holds
    assert done.parity.score_before == done.parity.score_after
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert plain.dtype == torch.float32
    with Store.open(runs, create=False) as store:
        trained = StoredArm.find(store, "latest", recipe).model().network
    trained.set_attn_implementation("eager")
    assert torch.allclose(logits(plain, IDS), logits(trained, IDS), atol=1e-4)
    untouched = AutoModelForCausalLM.from_pretrained(base)
    assert not torch.allclose(logits(plain, IDS), logits(untouched, IDS), atol=1e-2)


def test_the_folder_holds_all_that_a_server_needs(runs, tmp_path):
    export("latest", LORA, merged=tmp_path / "out", runs=runs)
    there = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "opportune.json"} <= there
    assert not any(name.endswith((".bin", ".pt", ".py")) for name in there)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "auto_map" not in config
    assert "opportune" not in json.dumps(config)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.chat_template == CHATML
    ends = json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"]
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in ends
    notes = json.loads((tmp_path / "out" / "opportune.json").read_text())
    assert notes["parity"]["holds"]
    assert notes["asked"]["prompt"].endswith("<|im_start|>assistant\n")


def test_peft_alone_loads_an_adapter(runs, base, tmp_path):
    (done,) = export("latest", LORA, adapter=tmp_path / "out", runs=runs)
    assert done.parity.holds
    network = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "out")
    with Store.open(runs, create=False) as store:
        trained = StoredArm.find(store, "latest", LORA).model().network
    trained.set_attn_implementation("eager")
    assert torch.allclose(logits(network, IDS), logits(trained, IDS), atol=1e-5)
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["base_model_name_or_path"] == base


def test_a_soft_prompt_is_refused_merged_and_exported_as_an_adapter(runs, tmp_path):
    with pytest.raises(RecipeError, match="soft prompt is input.*--adapter"):
        export("latest", SOFT, merged=tmp_path / "out", runs=runs)
    assert list(tmp_path.iterdir()) == []
    export("latest", SOFT, adapter=tmp_path / "out", runs=runs)
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize(
    ("recipe", "options", "match"),
    [
        ("majority", {"merged": "out"}, "trains nothing"),
        ("zero-shot", {"merged": "out"}, "its model is the one in"),
        (FULL, {"adapter": "out"}, "not one adapter.*--merged"),
        (CHAIN, {"adapter": "out"}, "rests on what the methods before it trained.*--merged"),
        (LORA, {}, "nothing to export: name a folder"),
        (BOTTLENECK, {"merged": "out"}, r"layers cannot become part of the weights.*: answer with `opportune ask`$"),
        (BOTTLENECK, {"adapter": "out"}, r"not one adapter that peft reads; answer with `opportune ask`$"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(runs, tmp_path, recipe, options, match):
    with pytest.raises(UsageError, match=match):
        export("latest", recipe, runs=runs, **{name: tmp_path / value for name, value in options.items()})


def test_a_folder_with_something_in_it_is_left_alone(runs, tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(UsageError, match="not empty"):
        export("latest", LORA, merged=tmp_path, runs=runs)
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.parametrize(
    ("merged", "adapter", "said"),
    [
        ("out", "out", "--merged .*out is the folder of --adapter .*out, or within it: name two folders"),
        ("out/merged", "out", "is the folder of --adapter .*out, or within it"),
        ("out", "taken", "taken is there already and not empty"),
        ("taken", "out", "taken is there already and not empty"),
    ],
)
def test_both_places_are_looked_at_before_anything_is_done(runs, tmp_path, merged, adapter, said):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("precious")
    stages = []
    with pytest.raises(UsageError, match=said):
        export("latest", LORA, merged=tmp_path / merged, adapter=tmp_path / adapter, runs=runs,
               progress=lambda stage, done, total: stages.append(stage))  # fmt: skip
    assert stages == []
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(
    ("ties", "said"),
    [
        (0, "6 test answers as in the run"),
        (1, "5 of 6 test answers as in the run, 1 other changed at a tie"),
        (5, "1 of 6 test answers as in the run, 5 others changed at a tie"),
    ],
)
def test_answers_that_changed_at_a_tie_are_counted_apart(ties, said):
    found = parity.Parity(6, "float32", 0.002, 0.0, None, None, ties, (), False)
    assert _answers(found) == said


def test_an_export_that_answers_otherwise_fails_and_names_the_examples(base, tmp_path, capsys):
    """The adapter's scale doubled behind the run's back: what a merge with a wrong alpha would do."""
    runs = tmp_path / "runs"
    compare(toy_task(), recipes=[LORA], models=[base], dtype="float32", runs=runs)
    with Store.open(runs, create=False) as store:
        artefact = StoredArm.find(store, "latest", LORA).artefact
    file = artefact / "0" / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({name: 2 * w if "lora_B" in name else w for name, w in weights.items()}, file)
    with pytest.raises(ParityError, match="does not answer as the trained model did") as caught:
        export("latest", LORA, merged=tmp_path / "out", runs=runs)
    assert "test-0" in str(caught.value)
    assert "nats off" in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.failed" / "model.safetensors").exists()
    assert not json.loads((tmp_path / "out.failed" / "opportune.json").read_text())["parity"]["holds"]
    assert _run(["export", "latest", LORA, "--merged", str(tmp_path / "out"), "--runs", str(runs)]) == 1
    assert "test-0" in capsys.readouterr().err


def test_written_answers_are_compared_by_what_the_trained_model_said(texts, tmp_path):
    (done,) = export("latest", LORA, merged=tmp_path / "out", runs=texts)
    assert done.parity.holds
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").dtype == torch.bfloat16


def test_a_written_answer_that_changed_is_a_tie_or_a_difference(texts, tmp_path):
    """The same answers judged against a model that is the trained one, and against one that is not."""
    with Store.open(texts, create=False) as store:
        arm = StoredArm.find(store, "latest", LORA)
        trained, untrained = arm.model(), arm.base("cpu", "bfloat16")
        found = parity.check(arm, trained, lambda *_: None)
        assert found.holds
        assert found.differences == ()
        found = parity.check(arm, untrained, lambda *_: None)
        assert not found.holds
        assert all(one.nats is None or one.nats > parity.NOISE["bfloat16"] for one in found.differences)


def test_scores_that_are_no_numbers_are_no_ties(runs):
    def lost(outcome):
        said = [replace(one, scores=tuple(math.nan for _ in one.scores)) for one in outcome.completions]
        return replace(outcome, completions=tuple(said))

    with Store.open(runs, create=False) as store:
        arm = StoredArm.find(store, "latest", LORA)
        model, metric = arm.model(), metric_named("accuracy")
        before = evaluate.evaluate(
            arm.strategy, arm.view, arm.prepared(model), arm.examples("test"), model, metric, NoJournal()
        )
        found = parity.judge(before, [lost(one) for one in before], arm, model, metric)
    assert not found.holds
    assert len(found.differences) == len(before)
    assert (found.differences[0].nats, found.largest) == (None, 0.0)


@pytest.mark.parametrize(
    "settings", [{"repetition_penalty": 1.3}, {"do_sample": True, "temperature": 0.3, "min_p": 0.15}]
)
def test_the_exported_model_writes_as_the_run_asked_whatever_its_base_does(base, tmp_path, settings):
    folder = shutil.copytree(base, tmp_path / "base")
    (folder / "generation_config.json").write_text(json.dumps(settings))
    compare(toy_task(), recipes=[FULL], models=[str(folder)], dtype="float32", runs=tmp_path / "runs")
    export("latest", FULL, merged=tmp_path / "out", runs=tmp_path / "runs")
    kept = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert kept["do_sample"] is False
    assert not settings.keys() & kept.keys() - {"do_sample"}


def test_ties_that_all_go_one_way_are_no_ties():
    assert parity._one_sided([(1.0, 0.0)] * 9)
    assert not parity._one_sided([(1.0, 0.0), (0.0, 1.0)] * 5)
    assert not parity._one_sided([])


@pytest.mark.parametrize("place", ["model.layers.0.mlp.adapter", "model.layers.0.self_attn.q_proj.bias"])
def test_a_tensor_that_the_architecture_does_not_know_is_refused(runs, place):
    network = plain_network_of("llama")
    inner, _, name = place.rpartition(".")
    setattr(network.get_submodule(inner), name, torch.nn.Parameter(torch.zeros(32)))
    with Store.open(runs, create=False) as store:
        arm = StoredArm.find(store, "latest", LORA)
    with pytest.raises(RecipeError, match=rf"no place for 1 .*{place}.*--adapter"):
        _merged(arm, network)


def test_a_run_whose_calls_cannot_be_read_back_is_no_proof(runs):
    with Store.open(runs, create=False) as store:
        arm = StoredArm.find(store, "latest", LORA)
        reworded = replace(arm, view=replace(arm.view, instruction="Tool or fruit?"))
        with pytest.raises(StoreError, match="does not hold all that its model said"):
            parity.check(reworded, arm.model(), lambda *_: None)


def test_vllm_and_others_need_no_opportune(runs, tmp_path):
    """Loaded in a process that cannot import this package."""
    export("latest", LORA, merged=tmp_path / "out", runs=runs)
    code = (
        "import sys; sys.modules['opportune'] = None\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        f"network = AutoModelForCausalLM.from_pretrained({str(tmp_path / 'out')!r})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({str(tmp_path / 'out')!r})\n"
        "text = tokenizer.apply_chat_template([{'role': 'user', 'content': 'a saw'}], add_generation_prompt=True, "
        "return_tensors='pt', return_dict=True)\n"
        "print(network.generate(**text, max_new_tokens=3).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


@pytest.mark.parametrize(
    ("model", "options"), [("{}[trust=true]", {}), ("{}", {"trust_remote_code": True})], ids=["option", "argument"]
)
def test_a_model_with_code_of_its_own_is_trusted_as_in_the_run(tmp_path, monkeypatch, model, options):
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    folder = own_code(tmp_path / "own")
    recipes = [FULL, "zero-shot"]
    named = model.format(f'"{folder}"') if "[" in model else str(folder)
    done = compare(toy_task(), recipes=recipes, models=[named], dtype="float32", runs=tmp_path / "runs", **options)
    assert {row.status for row in done.rows} == {"done"}, [row.reason for row in done.rows]
    for row in done.rows:
        assert ask("latest", row.recipe, "the saw", runs=tmp_path / "runs").text in ("fruit", "tool")
    (exported,) = export("latest", FULL, merged=tmp_path / "out", runs=tmp_path / "runs")
    assert exported.parity.holds


OWN_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


def own_code(folder):
    """A tiny Llama under a name that transformers does not know, with the code that does."""
    plain_network_of("llama").save_pretrained(folder)
    tokenizer_of(template=CHATML).save_pretrained(folder)
    (folder / "own.py").write_text(OWN_CODE)
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    config |= {"model_type": "own", "auto_map": classes, "architectures": ["OwnForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder

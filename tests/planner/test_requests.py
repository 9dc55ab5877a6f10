"""What the command line asks for is what is planned, or it is refused in one line with the reason."""

import json
import re

import pytest

from opportune.cli.main import main
from opportune.errors import UsageError
from opportune.planner import calibration, hardware, probe
from opportune.planner.catalogue import find
from opportune.planner.plan import Request, plan
from tests.planner.cheapest import cheapest

FITTED = calibration.shipped()
SMALL = find("llama-3.2-1b")


def planned(method="lora:rank=16", cluster="h100", model=SMALL, **options):
    return plan(Request(model, method, hardware.cluster(cluster), 1e7, **options), FITTED)


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["plan", *arguments])
    return stop.value.code, capsys.readouterr()


def refused(capsys, *arguments):
    code, said = run(capsys, *arguments)
    assert code == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize("batch", [1, 6, 7, 10, 16, 24, 100])
def test_a_step_reads_exactly_the_batch_asked_for(batch):
    assert planned(batch=batch).job.tokens == batch * 512


@pytest.mark.parametrize("batch", [1, 10, 20])
def test_a_batch_that_does_not_divide_is_refused(batch):
    with pytest.raises(UsageError, match=f"--batch {batch} does not divide .*give a multiple of 8"):
        planned(cluster="h100x8", batch=batch)
    assert planned(cluster="h100x8", batch=24).job.tokens == 24 * 512


def test_checkpointing_is_used_only_where_it_may_be():
    tight = {"cluster": "rtx3090", "batch": 8, "length": 1024}
    model = find("llama-3.1-8b")
    assert planned(model=model, **tight).job.checkpoint == "full"
    forbidden = planned(model=model, checkpoint="none", **tight)
    assert forbidden.job.checkpoint == "none"
    assert any("checkpointed" in line for line in forbidden.advice)


def test_evaluation_is_an_item_of_the_time():
    none, some, more = (planned(questions=n) for n in (0, 1000, 2000))
    assert none.times.evaluation == 0
    assert some.times.evaluation > 0
    assert more.times.evaluation == pytest.approx(2 * some.times.evaluation, rel=0.05)
    assert some.times.total - none.times.total == pytest.approx(some.times.evaluation)


def test_the_questions_of_a_task_are_evaluated(capsys, tmp_path):
    file = tmp_path / "train.csv"
    file.write_text("input,target\n" + "".join(f"question {i} about it,{'ab'[i % 2]}\n" for i in range(80)))
    _, said = run(capsys, "--task", str(file), "--method", "lora", "--json")
    assert json.loads(said.out)["plans"][0]["time"]["items"]["evaluation"] > 0
    _, said = run(capsys, "--examples", "100", "--questions", "50", "--json")
    made = json.loads(said.out)["plans"][0]
    assert made["time"]["items"]["evaluation"] > 0
    assert any("50 questions" in line for line in made["assumptions"])


def test_every_example_of_a_task_is_read_padded(capsys, tmp_path):
    file = tmp_path / "train.jsonl"
    texts = ["short " * 4] * 170 + ["long " * 200] * 30
    rows = [{"input": f"{i} {text}", "target": "ab"[i % 2]} for i, text in enumerate(texts)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, said = run(capsys, "--task", str(file), "--method", "lora", "--json")
    (read,) = re.findall(r"([\d,]+) tokens are read in all, in sequences of (\d+)", said.out)
    tokens, length = (int(number.replace(",", "")) for number in read)
    assert length > 200  # a twentieth is longer
    assert 120 < tokens / length < 200  # the rest is dev and test


def test_a_method_that_says_how_much_it_reads_is_heeded(capsys):
    _, said = run(capsys, "--method", "continual:corpus=x,tokens=1000000,replay=1,general=y", "--json")
    assert "1,000,000 tokens are read in all" in said.out
    _, said = run(capsys, "--method", "continual:corpus=x,tokens=1000000,epochs=3", "--json")
    assert "3,000,000 tokens are read in all" in said.out
    said = refused(capsys, "--method", "continual:corpus=x,tokens=1000000", "--tokens", "1B")
    assert "leave --tokens" in said


def test_norms_train_over_a_base_in_four_bits(capsys):
    _, said = run(capsys, "--method", "norm", "--base", "nf4", "--json")
    assert json.loads(said.out)["plans"][0]["method"]["name"] == "norm"
    assert "cannot be quantised" in refused(capsys, "--method", "full", "--base", "nf4")


def test_the_model_of_a_recipe_is_the_one_planned(capsys):
    _, said = run(capsys, "--method", "lora+k-shot:k=4@gpt2", "--json")
    training, asked = json.loads(said.out)["plans"]
    assert training["model"]["name"] == asked["model"]["name"] == "gpt2"
    err = refused(capsys, "--model", "llama-3.1-8b", "--method", "lora@gpt2")
    assert "--model" in err
    assert "@gpt2" in err
    assert "--base" in refused(capsys, "--method", "lora@gpt2[dtype=bfloat16]")


def test_devices_are_found_however_they_are_spelled(capsys, tmp_path):
    file = tmp_path / "own.json"
    file.write_text(json.dumps([{"name": "My Box", "tflops_16bit": 100, "memory_gb": 24, "bandwidth_gb_s": 900}]))
    for name in ("My Box", "my-box", "MY BOXx2"):
        code, said = run(capsys, "--devices", str(file), "--hardware", name, "--json")
        assert code == 0
        assert json.loads(said.out)["plans"][0]["hardware"]["device"] == "My Box"
    assert hardware.cluster("H100x8") == hardware.cluster("h100x8")


def test_this_machine_without_a_probe_says_how_to_measure(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("OPPORTUNE_CACHE", str(tmp_path))
    assert probe.kept() is None
    assert "--probe" in refused(capsys, "--hardware", "this machine")


def test_a_page_in_a_folder_that_is_not_there_is_refused(capsys, tmp_path):
    err = refused(capsys, "--html", str(tmp_path / "none" / "table.html"))
    assert "none" in err
    assert "folder" in err


@pytest.mark.parametrize(("options", "said"), [
    ({"software": "magic"}, "software"), ({"batch": 0}, "at least 1"), ({"method": "lora:rank=0"}, "out of range"),
    ({"model": find("gpt2"), "length": 4096}, "1024 positions"),
])  # fmt: skip
def test_what_no_device_can_do_is_refused_by_the_cheapest_too(options, said):
    clusters = [hardware.cluster(name) for name in ("t4", "h100", "h100x8")]
    values = {"model": SMALL, "method": "lora"} | options
    request = Request(values.pop("model"), values.pop("method"), clusters[0], 1e7, **values)
    with pytest.raises(UsageError, match=said):
        cheapest(request, clusters, FITTED)


def test_where_nothing_fits_each_device_says_why():
    clusters = [hardware.cluster(name) for name in ("t4", "l4", "l4x2", "h100")]
    request = Request(find("llama-3.1-70b"), "full", clusters[0], 1e7)
    with pytest.raises(UsageError, match=r"fits none.*t4 needs \d.*l4x2 needs \d.*h100 needs \d+ of \d+ GB"):
        cheapest(request, clusters, FITTED)


def test_the_cheapest_keeps_to_devices_that_the_batch_divides_over(capsys):
    _, said = run(capsys, "--model", "llama-3.2-1b", "--batch", "3", "--hardware", "cheapest", "--json")
    assert json.loads(said.out)["plans"][0]["hardware"]["count"] == 1
    assert "unknown device" in refused(capsys, "--hardware", "cheapest,h100")


def test_a_batch_that_no_number_of_devices_shares_is_said_once():
    clusters = [hardware.cluster(name) for name in ("t4", "t4x2", "l4", "l4x4")]
    request = Request(find("llama-3.1-405b"), "full", clusters[0], 1e7, batch=3)
    with pytest.raises(UsageError, match=r"t4 needs \d.*l4 needs \d.*2 of 4 cannot be asked, the first t4x2") as caught:
        cheapest(request, clusters, FITTED)
    assert str(caught.value).count("--batch 3") == 1


def tokens_read(capsys, *arguments):
    code, said = run(capsys, *arguments, "--json")
    assert code == 0, said.err
    told = " ".join(json.loads(said.out)["plans"][0]["assumptions"])
    return int(re.search(r"([\d,]+) tokens are read in all", told)[1].replace(",", ""))


def test_the_file_of_a_task_is_read_as_asked(capsys, tmp_path):
    file = tmp_path / "train.csv"
    file.write_text("title,folder\n" + "".join(f"question {i} about it,{'ab'[i % 2]}\n" for i in range(80)))
    assert "name it with --target" in refused(capsys, "--task", str(file))
    named = ("--task", str(file), "--input", "title", "--target", "folder")
    whole, some = tokens_read(capsys, *named), tokens_read(capsys, *named, "--limit", "train=10")
    assert 0 < some < whole / 2
    assert "--input says how a task's file is read" in refused(capsys, "--input", "title")
    assert "at least two choices" in refused(capsys, *named, "--choices", "")


def test_epochs_are_passes_over_the_examples_that_are_assumed_too(capsys):
    assert tokens_read(capsys, "--epochs", "3") == 3 * tokens_read(capsys) == 3 * 10_000 * 512
    assert "--tokens counts all passes" in refused(capsys, "--tokens", "1M", "--epochs", "3")
    assert "say how many with --tokens" in refused(capsys, "--method", "pretrain", "--epochs", "3")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--markdown", "--model", "llama-3.1-8b", "--method", "lora"], "--model and --method: --table, --markdown"),
        (["--html", "table.html", "--examples", "100"], "--examples: --table"),
        (["--table", "--hardware", "h100"], "--hardware: --table"),
        (["--model", "llama-3.1-8b", "--vocabulary", "32000"], "--vocabulary 32000 goes with --parameters"),
        (["--vocabulary", "32000"], "--vocabulary 32000 goes with --parameters"),
    ],
)
def test_what_would_not_be_heeded_is_refused(capsys, arguments, said):
    assert said in refused(capsys, *arguments)

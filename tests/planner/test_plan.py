"""Plans: what fits and what would, times that add up, refusals in one line, and the table."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import planner_records as records
from opportune.cli.main import main
from opportune.errors import ModelError, RecipeError, UsageError
from opportune.planner import asking, calibration, energy, hardware
from opportune.planner.catalogue import find
from opportune.planner.data import data_of
from opportune.planner.grid import SIZES, WAYS, grid
from opportune.planner.job import Job, check
from opportune.planner.layout import fit
from opportune.planner.memory import base_weights, memory
from opportune.planner.plan import Request, plan, to_json
from opportune.planner.stacks import STACKS
from opportune.planner.techniques import Full, Lora, technique_of
from opportune.planner.timing import step
from tests.planner.cheapest import cheapest

TABLE = hardware.shipped()
LLAMA = find("llama-3.1-8b")
FITTED = calibration.shipped()


def planned(method="lora:rank=16", cluster="h100", tokens=1e7, model=LLAMA, **options):
    return plan(Request(model, method, hardware.cluster(cluster), tokens, **options), FITTED)


def job(technique, cluster="a100", **options):
    return Job(LLAMA, technique.change(LLAMA), hardware.cluster(cluster), **options)


def test_model_states_are_those_of_zero():
    one = memory(job(Full(), length=1, accumulate=2))
    n = base_weights(LLAMA, "bfloat16", STACKS["transformers"]) / 2
    assert one.weights + one.gradients + one.optimizer == pytest.approx(n * (2 + 2 + 4))
    eight = memory(job(Full(), "a100x8", length=1, accumulate=2, sharding="all"))
    assert eight.weights + eight.gradients + eight.optimizer == pytest.approx(n * (2 + 2 + 4) / 8)
    mixed = memory(job(Full(), length=1, accumulate=2, base="mixed"))
    assert mixed.weights + mixed.gradients + mixed.optimizer == pytest.approx(n * 16)


def test_four_bits_are_four_bits_and_a_scale():
    small = base_weights(LLAMA, "nf4", STACKS["transformers"])
    linear = 6_979_321_856  # weights of all linear layers of Llama-3.1-8B
    assert small == pytest.approx(0.5625 * linear + 2 * (8_030_261_248 - linear))


@settings(deadline=None, max_examples=40)
@given(
    micro=st.integers(1, 16),
    length=st.sampled_from([64, 256, 1024]),
    method=st.sampled_from(["full", "lora:rank=8", "ia3", "prompt-tuning", "prefix-tuning", "norm", "full:last=4"]),
)
def test_more_work_never_needs_less(micro, length, method):
    change = technique_of(method).change(LLAMA)
    small = Job(LLAMA, change, hardware.cluster("a100"), micro, length)
    for larger in (replace(small, micro=micro + 1), replace(small, length=2 * length)):
        assert memory(larger).allocated >= memory(small).allocated
        assert step(larger, FITTED.speeds).seconds >= 0.999999 * step(small, FITTED.speeds).seconds
    whole = replace(small, checkpoint="full")
    assert memory(whole).activations <= memory(small).activations


def test_a_technique_that_moves_less_needs_less():
    needs = [memory(job(t, micro=4)).allocated for t in (Full(), Lora(64), Lora(8))]
    assert needs == sorted(needs, reverse=True)
    quantised = memory(job(Lora(8), micro=1, length=64, base="nf4")).allocated
    assert quantised < memory(job(Lora(8), micro=1, length=64)).allocated


def test_what_fits_is_said_and_what_would():
    small = planned(cluster="h100")
    assert small.fit.verdict == "fits"
    assert small.advice == ()
    large = planned("full", "l40s")
    assert large.fit.verdict == "does not fit"
    assert any("sharded" in line for line in large.advice)
    wide = planned(cluster="rtx3090", micro=8, batch=8, length=2048)
    assert wide.fit.verdict != "fits"
    assert any("nf4" in line or "checkpointed" in line for line in wide.advice)


def test_times_and_intervals_hang_together():
    found = planned(tokens=5e7)
    assert found.times.total == pytest.approx(found.seconds.value)
    assert found.seconds.low < found.seconds.value < found.seconds.high
    assert found.dollars.low < found.dollars.value < found.dollars.high
    assert found.joules.value == pytest.approx(energy.watts(found.job.cluster).value * found.seconds.value)
    assert found.steps * found.job.tokens >= 5e7
    twice = planned(tokens=1e8)
    assert twice.times.computing == pytest.approx(2 * found.times.computing, rel=0.01)


def test_eight_devices_are_faster_than_one_and_not_more_than_eight_times():
    one, eight = (
        planned("full", name, batch=64, tokens=1e8, model=find("llama-3.2-1b")) for name in ("h100", "h100x8")
    )
    ratio = one.times.computing / eight.times.computing
    assert 3 < ratio <= 8.5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cluster": "h1000"}, "unknown device; near it: h100"),
        ({"cluster": "h100x0"}, "out of range"),
        ({"method": "full", "base": "nf4"}, "cannot be quantised"),
        ({"cluster": "h100x8", "tensor": 3, "batch": 8}, "do not divide 8 devices"),
        ({"cluster": "h100x64", "pipeline": 64, "batch": 64}, "more stages than the 32 layers"),
        ({"cluster": "h100x8", "micro": 3, "batch": 16}, "give a multiple of 24"),
        ({"model": find("gpt2"), "length": 4096}, "1024 positions"),
        ({"cluster": "t4", "base": "bfloat16"}, "no bfloat16"),
        ({"software": "magic"}, "software"),
        ({"tokens": 0}, "at least 1"),
        ({"batch": 0}, "at least 1"),
        ({"method": "lora:rank=0"}, "out of range"),
    ],
)
def test_impossible_input_is_refused_with_the_reason(options, said):
    with pytest.raises(UsageError, match=said):
        planned(**options)


def test_a_users_own_device(tmp_path):
    file = tmp_path / "own.json"
    rows = [{"name": "mine", "tflops_16bit": 100, "memory_gb": 24, "bandwidth_gb_s": 900, "price": 0.5}]
    file.write_text(json.dumps(rows))
    table = TABLE | hardware.read_devices(file)
    assert hardware.cluster("minex2", table).count == 2
    for wrong, said in (({"name": "x"}, "is missing"), (rows[0] | {"speed": 1}, "unknown 'speed'"),
                        (rows[0] | {"memory_gb": -1}, "above 0")):  # fmt: skip
        file.write_text(json.dumps([wrong]))
        with pytest.raises(UsageError, match=said):
            hardware.read_devices(file)


def test_the_cheapest_that_fits_costs_least():
    clusters = [hardware.cluster(name) for name in ("l4", "rtx4090", "a100", "h100", "h100x8")]
    request = Request(find("llama-3.2-1b"), "lora:rank=8", clusters[0], 1e7)
    best = cheapest(request, clusters, FITTED)
    assert best.fit.verdict == "fits"
    others = [plan(replace(request, cluster=c), FITTED) for c in clusters]
    assert best.dollars.value == min(p.dollars.value for p in others if p.fit.verdict == "fits")


@pytest.mark.parametrize(
    "recipe", ["zero-shot", "k-shot:k=4", "chain-of-thought:k=2", "self-consistency", "least-to-most"]
)
def test_every_strategy_is_planned_as_it_asks(recipe):
    each = asking.count_asking(recipe, asking.made_up(60, 1, 5))
    assert each.calls >= 1
    found = asking.plan_asking(recipe, LLAMA, hardware.cluster("l40s"), each, FITTED)
    assert found.seconds.value <= found.seconds_uncached.value
    assert found.dollars.value > 0


def test_shots_are_read_and_shared():
    none, eight = (asking.count_asking(name, asking.made_up(60, 1, 5)) for name in ("zero-shot", "k-shot:k=8"))
    assert eight.tokens_in > none.tokens_in + 8 * 60
    assert eight.shared > 8 * 60
    with pytest.raises(RecipeError, match="asks no model"):
        asking.count_asking("majority", asking.made_up(60, 1, 5))


def test_data_of_a_task_file(tmp_path):
    file = tmp_path / "train.csv"
    file.write_text(
        "input,target\n" + "".join(f"question {i} of some length,{'a' if i % 2 else 'b'}\n" for i in range(80))
    )
    data = data_of(None, None, 2.0, str(file), None)
    assert 80 * 2 < data.tokens < 80 * 60
    with pytest.raises(UsageError, match="give one of them"):
        data_of("1M", 10, 1.0, None, None)
    with pytest.raises(ModelError, match="not a size"):
        data_of("much", None, 1.0, None, None)


# ---- records ---------------------------------------------------------------------------------------------------------


def test_figures_that_cannot_be_true_are_flagged():
    flagged = {r.id: records.objection(r) for r in records.shipped() if records.objection(r)}
    assert "below weights" in flagged["litgpt-llama-3.2-3b-full-1xA10G"]
    assert "peak" in flagged["llmc-gpt3-125M"]
    assert "peak" in flagged["run-llmc-gpt3-125M"]
    assert len(flagged) < 0.05 * len(records.shipped())
    tiny = next(r for r in records.shipped() if r.id == "litgpt-llama-3-8b-lora-1xA10G")
    assert records.objection(replace(tiny, fields=tiny.fields | {"memory": 5e9}))


def test_no_record_that_ran_out_is_said_to_fit():
    out = [r for r in records.shipped() if r.ran_out]
    assert len(out) == 7
    assert all(fit(records.job_of(r), FITTED).verdict != "fits" for r in out)


def test_every_record_is_a_possible_job_with_its_source():
    for record in records.shipped():
        assert record.fields["url"].startswith("https://")
        if record.kind != "run":
            check(records.job_of(record))


# ---- the command line ------------------------------------------------------------------------------------------------


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["plan", *arguments])
    return stop.value.code, capsys.readouterr()


def test_a_plan_as_json(capsys):
    code, said = run(
        capsys, "--model", "llama-3.1-8b", "--method", "lora:rank=8+k-shot:k=4", "--tokens", "10M", "--json"
    )
    training, asked = json.loads(said.out)["plans"]
    assert code == 0
    assert training["memory"]["verdict"] == "fits"
    assert training["method"]["trainable"] == 20_971_520
    assert sum(training["memory"]["breakdown"].values()) == pytest.approx(training["memory"]["allocated"]["value"])
    assert asked["per_1000_questions"]["calls"] == 1000
    assert json.loads(json.dumps(to_json(planned()))) == to_json(planned())


def test_a_plan_for_reading(capsys):
    code, said = run(capsys, "--parameters", "10B", "--method", "full", "--hardware", "l40s,h100x8")
    assert code == 0
    assert "does not fit" in said.out
    assert "sharded" in said.out
    assert "Lambda" in said.out  # the price's provider


@pytest.mark.parametrize("arguments", [["--model", "gpt2", "--parameters", "1B"], ["--parameters", "1M"],
                                       ["--hardware", "abacus"], ["--method", "zerp-shot"]])  # fmt: skip
def test_bad_input_is_one_line(capsys, arguments):
    code, said = run(capsys, *arguments)
    assert code == 2
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_the_table_has_every_way_at_every_size():
    rows = grid(FITTED, TABLE)
    assert len(rows) == len(SIZES) * len(WAYS)
    assert all(row.plan.fit.verdict == "fits" for row in rows)
    by = {(row.size, row.way.title): row for row in rows}
    assert by["150B", "pretraining"].plan.job.cluster.count > by["150B", "LoRA"].plan.job.cluster.count
    assert by["150B", "pretraining"].processor is None
    assert by["100M", "LoRA"].processor is not None


def test_the_table_as_markdown_and_as_a_page(capsys, tmp_path):
    code, said = run(capsys, "--table", "--markdown")
    assert code == 0
    assert said.out.count("| 10B |") == len(WAYS)
    code, said = run(capsys, "--html", str(tmp_path / "table.html"))
    page = (tmp_path / "table.html").read_text()
    assert code == 0
    assert page.count("<svg role") == 4
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "soft prompting" in page

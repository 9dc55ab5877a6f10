"""Pretraining on clusters: two estimates of what is lost, and layers split rather than computed twice."""

import math
from dataclasses import replace

import pytest

from benchmarks import planner_fitting as fitting
from benchmarks import planner_records as records
from opportune.planner import calibration, hardware
from opportune.planner.catalogue import find
from opportune.planner.plan import Request, averaged, plan

FITTED = calibration.shipped()
MODEL = find("llama-3.1-8b")


def planned(method="pretrain", cluster="h100x64", model=MODEL, found=FITTED, **options):
    return plan(Request(model, method, hardware.cluster(cluster), 1e11, length=2048, **options), found)


def busy(found):
    return found.times.computing + found.times.optimizer


def test_a_cluster_loses_what_both_estimates_say_in_the_middle():
    made = planned()
    law = busy(made) / FITTED.goodput
    reached = made.flops.value / (FITTED.share * 989e12 * 64)  # nothing is computed twice here
    assert made.job.checkpoint == "none"
    assert busy(made) + made.times.lost == pytest.approx(averaged(law, reached))
    assert min(law, reached) <= averaged(law, reached) <= max(law, reached)
    lower = planned(found=replace(FITTED, share=FITTED.share / 4))
    assert busy(lower) + lower.times.lost == pytest.approx(2 * (busy(made) + made.times.lost))


def test_no_time_is_won_by_a_share_that_the_steps_do_not_reach():
    assert planned(found=replace(FITTED, share=100.0)).times.lost == 0


def test_one_machine_and_adapters_are_planned_by_their_steps_alone():
    for other in (planned(cluster="h100x8"), planned(method="lora:rank=16", batch=64)):
        kept = FITTED.alone if other.job.cluster.count == 8 else FITTED.goodput
        assert busy(other) / (busy(other) + other.times.lost) == pytest.approx(kept)


def test_layers_are_split_where_they_would_be_computed_twice_and_that_is_faster():
    large = find("llama-3.1-70b")
    free = planned(model=large, cluster="h100x256")
    twice = planned(model=large, cluster="h100x256", checkpoint="full")
    assert free.job.checkpoint == "none"
    assert free.job.tensor > 1
    assert free.fit.verdict == "fits"
    assert free.step.seconds / free.job.tokens < twice.step.seconds / twice.job.tokens


def test_devices_that_a_run_does_not_say_do_not_follow_from_its_hours():
    run = next(r for r in records.shipped() if r.id == "run-llama3-8B")
    slower = replace(run, fields=run.fields | {"device_hours": 100 * run.fields["device_hours"]})
    assert fitting.devices_of(slower) == fitting.devices_of(run)
    assert fitting.predict_run(slower, FITTED) == fitting.predict_run(run, FITTED)
    operations = records.run_flops(run)
    assert fitting.devices_of(run) == pytest.approx(operations / (0.4 * 989e12 * 30 * 86400))
    assert math.isclose(fitting.devices_of(replace(run, fields=run.fields | {"devices": 16})), 16)

"""The planner judged on published records: every figure predicted by a fit that has not seen its source.

python -m benchmarks.planner [--fit]     --fit also writes opportune/planner/calibration.json from all records
"""

from __future__ import annotations

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from scipy.stats import binom, binomtest

from benchmarks import planner_fitting as fitting
from benchmarks import planner_records as records
from benchmarks.common import ROOT, options, save
from benchmarks.planner_fitting import Prediction
from benchmarks.planner_records import Record
from opportune.planner import calibration as calibrated
from opportune.planner import hardware
from opportune.planner.calibration import Calibration
from opportune.planner.catalogue import find, known
from opportune.planner.layout import fit
from opportune.planner.plan import Request, plan
from opportune.planner.timing import Speeds, step

PAGE = ROOT / "docs" / "planner.md"
BEGIN, END = "<!-- planner: from benchmarks/results/planner.json -->", "<!-- end of planner -->"
ASIDE = ("peft-memory", "peft-all", "constant")  # the same records once more


def main() -> None:
    """Fit, predict, print the table, write results/planner.json."""
    parser = options(__doc__ or "")
    parser.add_argument("--fit", action="store_true", help="write calibration.json anew")
    given = parser.parse_args()
    every = records.shipped()
    good = fitting.usable(every)
    found = {
        "memory": memories(good, lambda r: r.source),
        "step": steps([r for r in good if r.kind == "step"], lambda r: r.source),
        **by_formula(steps([r for r in good if r.kind == "peft"], lambda r: r.group, others=good)),
        "peft-memory": memories([r for r in good if r.kind == "peft"], lambda r: r.group, others=good),
        "run": runs(good),
    }
    whole = fit_all(good, found)
    if given.fit:
        text = json.dumps(fitting.as_file(whole), indent=1) + "\n"
        calibrated.SHIPPED.write_text(text, encoding="utf-8")
    fits = ran_out(every, good)
    speed = plans_a_second(whole)
    found["constant"] = constant([r for r in good if r.kind == "run"])
    summary = {kind: summarise(items) for kind, items in found.items()}
    print_tables(summary, found, fits, speed, every)
    if given.fit:
        write_page(summary, found, speed)
    save(
        given.out,
        "planner",
        {
            "quick": given.quick,
            "summary": summary,
            "coverage": coverage([p for k, items in found.items() if k not in ASIDE for p in items]),
            "plans_a_second": speed,
            "ran_out": fits,
            "flagged": {r.id: r.flag or records.objection(r) for r in every if r.flag or records.objection(r)},
            "calibration": fitting.as_file(whole),
            "records": [row(p) for items in found.values() for p in items],
        },
    )


def memories(data: Sequence[Record], group: Any, others: Sequence[Record] = ()) -> list[Prediction]:
    """Peak memory, group left out."""
    here = [r for r in data if r.memory]

    def one(rest: Sequence[Record], left: Sequence[Record]) -> list[Prediction]:
        outside = [r for r in others if r.source not in {x.source for x in here}]
        constants = fitting.fit_memory([*rest, *outside])
        return [Prediction(r, "memory", r.memory, fitting.predict_memory(r, *constants)) for r in left]

    return fitting.with_intervals(fitting.leave_out(here, group, one), group)


def steps(data: Sequence[Record], group: Any, others: Sequence[Record] = ()) -> list[Prediction]:
    """Seconds a step, group left out."""
    here = [r for r in data if r.seconds]

    def one(rest: Sequence[Record], left: Sequence[Record]) -> list[Prediction]:
        outside = [r for r in others if r.source not in {x.source for x in here}]
        speeds = speeds_of(tuple(r.id for r in [*rest, *outside]))
        jobs = fitting.timed(left)
        return [Prediction(r, r.kind, r.seconds, step(job, speeds).seconds) for r, job in jobs]

    return fitting.with_intervals(fitting.leave_out(here, group, one), group)


@cache
def speeds_of(names: tuple[str, ...]) -> Speeds:
    """The constants fitted on these records."""
    return fitting.fit_speeds(fitting.timed([r for r in records.shipped() if r.id in names]))


def by_formula(items: Sequence[Prediction]) -> dict[str, list[Prediction]]:
    """The PEFT comparison: methods that the planner has, and those planned as LoRA, each with intervals of its own."""
    own = [p for p in items if not p.record.fields.get("note")]
    other = [replace(p, kind="peft-as-lora") for p in items if p.record.fields.get("note")]
    return {
        "peft-all": list(items),
        "peft": fitting.with_intervals(own, lambda r: r.group),
        "peft-as-lora": fitting.with_intervals(other, lambda r: r.group),
    }


def runs(good: Sequence[Record]) -> list[Prediction]:
    """Device-hours of whole runs, family left out; of step records, those of the family's own source as well."""
    here, rest = [r for r in good if r.kind == "run"], [r for r in good if r.kind == "step"]

    def one(others: Sequence[Record], left: Sequence[Record]) -> list[Prediction]:
        names = {r.family for r in left}
        speeds = speeds_of(tuple(r.id for r in rest if r.source not in names))
        start = Calibration(speeds=speeds, ranges={"memory": (0.9, 1.15)})
        found = fitting.fit_runs(others, start)
        return [Prediction(r, "run", float(r.fields["device_hours"]), fitting.predict_run(r, found)) for r in left]

    return fitting.with_intervals(fitting.leave_out(here, lambda r: r.family, one), lambda r: r.family)


def constant(here: Sequence[Record]) -> list[Prediction]:
    """Whole runs by one share of the peak, the median of the other families: what there is to beat."""
    made = []
    for record in here:
        share = statistics.median(records.run_share(r) for r in here if r.family != record.family)
        hours = float(record.fields["device_hours"])
        made.append(Prediction(record, "run", hours, hours * records.run_share(record) / share))
    return fitting.with_intervals(made, lambda r: r.family)


def fit_all(good: Sequence[Record], found: dict[str, list[Prediction]]) -> Calibration:
    """The calibration to ship: constants from all records, ranges from the predictions of what was left out."""
    speeds = fitting.fit_speeds(fitting.timed(good))
    scale, reserved = fitting.fit_memory(good)
    ranges = {"memory": fitting.range_of(found["memory"], lambda r: r.source)}
    start = Calibration(speeds=speeds, scale=scale, reserved=reserved, ranges=ranges)
    start = fitting.fit_runs([r for r in good if r.kind == "run"], start)
    groups = {"memory": lambda r: r.source, "step": lambda r: r.source, "peft": lambda r: r.group,
              "run": lambda r: r.family}  # fmt: skip
    ranges = {kind: fitting.range_of(found[kind], group) for kind, group in groups.items()}
    return replace(start, ranges=ranges)


def ran_out(every: Sequence[Record], good: Sequence[Record]) -> dict[str, str]:
    """What the planner says of records that ran out of memory, their source left out."""
    answers = {}
    for record in every:
        if record.ran_out:
            rest = [r for r in good if r.source != record.source]
            scale, reserved = fitting.fit_memory(rest)
            ranges = {"memory": fitting.range_of(memories(rest, lambda r: r.source), lambda r: r.source)}
            made = Calibration(scale=scale, reserved=reserved, ranges=ranges)
            answers[record.id] = fit(records.job_of(record), made).verdict
    return answers


def plans_a_second(whole: Calibration) -> float:
    """Whole plans of several models, methods and devices, on one core."""
    table, models = hardware.shipped(), [find(name) for name in list(known())[::9]]
    requests = [
        Request(a, method, hardware.Cluster(table[device], n), 1e8, batch=64)
        for a in models
        for method in ("full", "lora:rank=8", "prompt-tuning", "bias")
        for device in ("h100", "l40s", "a100")
        for n in (1, 8)
    ]
    began = time.perf_counter()
    for request in requests:
        plan(request, whole)
    return round(len(requests) / (time.perf_counter() - began))


def summarise(items: Sequence[Prediction]) -> dict[str, Any]:
    """Errors of all and by source: number, median, 90th percentile, bias, share within the interval."""
    by_source: dict[str, list[Prediction]] = defaultdict(list)
    for item in items:
        by_source["all"].append(item)
        by_source[item.record.source if item.kind != "run" else item.record.family].append(item)
    return {name: _figures(group) for name, group in by_source.items()}


def _figures(items: Sequence[Prediction]) -> dict[str, Any]:
    errors = sorted(abs(item.error) for item in items)
    high = errors[min(len(errors) - 1, int(0.9 * len(errors)))]
    return {
        "records": len(items),
        "median_error": round(statistics.median(errors), 4),
        "p90_error": round(high, 4),
        "bias": round(statistics.median(item.error for item in items), 4),
        "within_interval": round(sum(_inside(item) for item in items) / len(items), 4),
    }


def _inside(item: Prediction) -> bool:
    return item.measured is not None and item.low <= item.measured <= item.high


def coverage(items: Sequence[Prediction]) -> dict[str, Any]:
    """How many records lie within their 90 % interval; by kind with what chance alone would allow of 90 %, and the
    exact interval of the share itself (Clopper & Pearson 1934), which 90 % should be in."""
    by_kind: dict[str, list[Prediction]] = defaultdict(list)
    for item in items:
        by_kind["all"].append(item)
        by_kind[item.kind].append(item)
    found = {}
    for kind, group in by_kind.items():
        n = len(group)
        low, high = binom.interval(0.95, n, 0.9)
        inside = sum(map(_inside, group))
        exact = binomtest(inside, n).proportion_ci(0.95, "exact")
        found[kind] = {
            "records": n,
            "inside": inside,
            "share": round(inside / n, 4),
            "chance": [round(low / n, 3), round(high / n, 3)],
            "share_interval": [round(exact.low, 3), round(exact.high, 3)],
            "agrees_with_90": bool(exact.low <= 0.9 <= exact.high),
        }
    return found


def row(item: Prediction) -> dict[str, Any]:
    """A record's prediction as it is written down."""
    unit = {"memory": "bytes", "run": "device-hours"}.get(item.kind, "seconds")
    figures = {k: float(f"{getattr(item, k):.4g}") for k in ("measured", "predicted", "low", "high", "error")}
    return {"id": item.record.id, "source": item.record.source, "kind": item.kind, "unit": unit, **figures}


KINDS = {
    "memory": "peak memory, source left out",
    "step": "seconds a step, source left out",
    "peft-all": "PEFT comparison, seconds a step, method left out",
    "peft-memory": "PEFT comparison, peak memory, method left out",
    "run": "whole runs, device-hours, family left out",
    "constant": "the same by one share of the peak",
}


def write_page(summary: Any, found: Any, speed: float) -> None:
    """The table in docs/planner.md."""
    lines = ["| figure | records | median error | 90th percentile | bias | within the 90 % interval |",
             "|---|--:|--:|--:|--:|--:|"]  # fmt: skip
    for kind, words in KINDS.items():
        f = summary[kind]["all"]
        lines.append(
            f"| {words} | {f['records']} | {f['median_error']:.1%} | {f['p90_error']:.1%} | {f['bias']:+.1%} "
            f"| {f['within_interval']:.0%} |"
        )
    shares = coverage([p for k, items in found.items() if k not in ASIDE for p in items])
    held = ", ".join(f"{kind} {f['share']:.1%}" for kind, f in shares.items())
    lines += ["", f"Share of the records within their interval: {held}. {speed:,.0f} plans a second on one core."]
    page = PAGE.read_text(encoding="utf-8")
    head, rest = page.split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


def print_tables(summary: Any, found: Any, fits: dict[str, str], speed: float, every: Sequence[Record]) -> None:
    """On standard output."""
    print("kind         source           n  median    p90    bias  within 90 %")
    for kind, groups in summary.items():
        for name, f in groups.items():
            print(
                f"{kind:12} {name:14} {f['records']:4} {f['median_error']:7.1%} {f['p90_error']:6.1%} {f['bias']:+7.1%}"
                f" {f['within_interval']:8.0%}"
            )
    for kind, f in coverage([p for k, items in found.items() if k not in ASIDE for p in items]).items():
        low, high = f["chance"]
        print(f"interval {kind:8} {f['share']:.1%} of {f['records']} (by chance {low:.0%} to {high:.0%})")
    print("ran out of memory:", ", ".join(f"{name}: {answer}" for name, answer in fits.items()))
    print(f"{speed:,.0f} plans a second; {sum(bool(r.flag or records.objection(r)) for r in every)} records flagged")


if __name__ == "__main__":
    main()

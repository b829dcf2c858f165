"""Records survive the way to disk and back, and what is wrong with one is said by its field."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from glass_bench.errors import BenchError
from glass_bench.measure.machine import Machine
from glass_bench.measure.record import (
    ContenderEntry,
    ImageEntry,
    MachineLoad,
    ProbeEntry,
    Record,
    RunEntry,
    ServerEntry,
    SweepPoint,
    read_record,
)
from glass_bench.measure.systems import Description
from glass_bench.report.checks import conditions_met
from glass_bench.report.compare import compare
from glass_bench.report.conditions import parse_condition
from glass_bench.report.figures import (
    FIGURES,
    cost_ratio,
    crop_fit,
    failures,
    harness_overhead_ms,
    mean_latency,
    overhead_percent,
    pooled_latency,
    stage_times,
)
from glass_bench.report.report import markdown

from glass_rt.errors import UsageError

MACHINE = Machine("a processor", 2, 16.0, (), None, "Linux", "3.11", {"glass-rt": "0.1.0"}, "abc")


def entry(name: str, times_ms: list[list[float]], role: str = "engine", **changes: Any) -> ContenderEntry:
    """A contender whose SingleStream repeats took `times_ms` on images 0, 1, ...; LoadGen saw 0.1 ms more."""
    runs = tuple(
        RunEntry(
            scenario="single_stream", repeat=number, void=False, failures=0, reasons=(),
            loadgen={"mean_ms": sum(row) / len(row) + 0.1, "p50_ms": sorted(row)[len(row) // 2] + 0.1, "p90_ms": max(row)},
            early_stopping=False, images=tuple(range(len(row))), inside_ms=tuple(row),
            stages_ms=tuple({"decode": 0.25 * value, "engine_local": 0.5 * value} for value in row),
        )
        for number, row in enumerate(times_ms)
    )  # fmt: skip
    description = Description("glass", "zoo", "onnxruntime", "fp32", "cpu", 2, 16, False, "weights", "bundle")
    values: dict[str, Any] = {
        "name": name, "role": role, "kind": "engine", "bundle": name, "sampling": "stratified", "crops": 2, "threads": None,
        "workers": 1, "batch": None, "variant_of": None, "status": "measured", "description": description,
        "peak_mb": 100.0, "runs": runs, **changes,
    }  # fmt: skip
    return ContenderEntry(**values)


def record(*entries: ContenderEntry, foreign: float | None = 0.0) -> Record:
    images = (ImageEntry("a.jpg", 1000, 1000, "jpeg", 5), ImageEntry("b.jpg", 2000, 1000, "jpeg", 9))
    return Record(
        "2026-01-01T00:00:00+00:00", 5.0, "glass-rt bench", MACHINE, MachineLoad(0.1, foreign), {"seed": 1}, "images", images,
        (), (), (), tuple(entries),
    )  # fmt: skip


FAST = [[10.0, 20.0], [10.0, 20.0], [10.2, 20.0]]
SLOW = [[20.0, 40.0], [20.2, 40.0], [20.0, 40.4]]


def test_a_record_survives_the_way_to_disk(tmp_path: Path) -> None:
    sweep = (SweepPoint(1, (5.0, 6.0), 90.0), SweepPoint(2, (7.0,)))
    written = record(entry("glass", FAST, crop_sweep=sweep), entry("resize", SLOW, "baseline"))
    written.write(tmp_path / "a.json")
    read = read_record(tmp_path / "a.json")
    read.write(tmp_path / "b.json")  # six digits were kept: from here on nothing is lost
    assert read_record(tmp_path / "b.json") == read
    assert read.contenders[0].crop_sweep == sweep
    assert read.machine == written.machine


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"schema": 99}, "schema 99; this version reads schema 1"),
        ({"kind": "eval"}, "not a record of"),
        ({"folder": 5}, "folder is 5; expected str"),
        ({"machine": []}, r"machine is \[\]; expected an object"),
        ({"surprise": 1}, "unknown field 'surprise'"),
        ({"images": [{"name": "x"}]}, r"images\[0\].width is missing"),
        ({"duration_s": "long"}, "duration_s is 'long'"),
    ],
)
def test_a_damaged_record_is_refused_by_its_field(change: dict[str, Any], expected: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    record(entry("glass", FAST)).write(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BenchError, match=expected):
        read_record(path)


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("no")
    with pytest.raises(BenchError, match="cannot be read as a record"):
        read_record(tmp_path / "a.json")


def test_figures_worked_by_hand() -> None:
    fast = entry("glass", FAST)
    mean = mean_latency(fast)
    assert mean is not None
    assert (mean.median, mean.low, mean.high) == pytest.approx((15.1, 15.1, 15.2))
    pooled = pooled_latency(fast)
    assert pooled is not None
    assert (pooled.count, pooled.p50) == pytest.approx((6, (10.2 + 20) / 2))
    stages = stage_times(fast)
    assert stages is not None
    assert stages.unaccounted == pytest.approx(0.25)  # a quarter decoding, a half in the engine
    assert harness_overhead_ms(fast) == pytest.approx(0.1)
    assert overhead_percent(fast) == pytest.approx(0.2)  # of 50 ms


def test_the_cost_is_compared_on_the_images_that_both_judged() -> None:
    both = cost_ratio(entry("slow", SLOW), entry("resize", FAST))
    assert both is not None
    assert both.value == pytest.approx(60.2 / 30)
    first_only = cost_ratio(entry("tiles", [[30.0], [30.0], [30.0]]), entry("resize", FAST))
    assert first_only is not None
    assert first_only.value == pytest.approx(3)


def test_a_void_run_counts_in_no_figure_but_its_failures_are_counted() -> None:
    whole = entry("glass", FAST)
    broken = replace(whole.runs[0], void=True, failures=2, inside_ms=(9999.0, 9999.0))
    found = replace(whole, runs=(broken, *whole.runs[1:]))
    pooled = pooled_latency(found)
    assert pooled is not None
    assert pooled.maximum == 20
    assert failures(found) == 2


def test_the_crop_fit_goes_through_the_medians() -> None:
    points = tuple(SweepPoint(k, (10 + 5 * k, 10 + 5 * k, 999.0), 100 + 2 * k) for k in (1, 2, 4, 8))
    fit = crop_fit(entry("glass", FAST, crop_sweep=points))
    assert fit is not None
    assert (fit.time.slope, fit.time.intercept, fit.time.r2) == pytest.approx((5, 10, 1))
    assert fit.memory is not None
    assert fit.memory.slope == pytest.approx(2)
    assert crop_fit(entry("glass", FAST)) is None


def test_comparison_names_what_became_slower() -> None:
    rows = compare(
        record(entry("glass", FAST), entry("same", FAST)), record(entry("glass", SLOW), entry("same", FAST))
    ).rows
    verdicts = {(row.contender, row.figure): row.verdict for row in rows}
    assert verdicts["glass", "mean_ms"] == "slower"
    assert verdicts["same", "mean_ms"] == "within the noise"


def test_a_comparison_of_single_runs_is_no_verdict() -> None:
    rows = compare(record(entry("glass", FAST[:1])), record(entry("glass", SLOW[:1]))).rows
    assert {row.verdict for row in rows} == {"not known: 1 run"}


def test_comparison_cautions() -> None:
    before = record(entry("gone", FAST), entry("glass", FAST))
    after = replace(
        record(entry("glass", FAST, status="wrong", complaint="glass: embeddings differ"), foreign=0.6),
        machine=replace(MACHINE, cpu="another processor"),
        images=(),
        settings={"seed": 1, "crops": 4, "threads": 2},
    )
    cautions = "\n".join(compare(before, after).cautions)
    for expected in (
        "different processor: a processor and another processor",
        "different images",
        "different --crops: None and 4",
        "different --threads: None and 2",
        "other work during the second run (60%",
        "WRONG in the second: glass: embeddings differ",
        "gone is only in the first",
    ):
        assert expected in cautions


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("p99_ms>5", ["glass: p99_ms is 20 (p99_ms>5)"]),
        ("p99_ms>50", []),
        ("peak_mb >= 100", ["glass: peak_mb is 100 (peak_mb >= 100)"]),
        ("resize:mean_ms>29", ["resize: mean_ms is 30.1 (resize:mean_ms>29)"]),
        ("images_per_second<1", ["glass: images_per_second was not measured (images_per_second<1)"]),
    ],
)
def test_conditions(text: str, met: list[str]) -> None:
    found = record(entry("glass", FAST), entry("resize", SLOW, "baseline"))
    assert conditions_met(found, [parse_condition(text, FIGURES)]) == met


@pytest.mark.parametrize("text", ["p99_ms", "p99>5", "p99_ms>fast", "p99_ms=5", ""])
def test_a_condition_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        parse_condition(text, FIGURES)


def test_a_condition_on_nobody_is_refused() -> None:
    with pytest.raises(UsageError, match="there are glass"):
        conditions_met(record(entry("glass", FAST)), [parse_condition("nobody:p50_ms>1", FIGURES)])


@pytest.mark.parametrize(("backend", "said"), [("tensorrt_rtx", True), ("onnxruntime", False)])
def test_the_report_says_whose_engines_would_overlap_elsewhere(backend: str, said: bool) -> None:
    glass = entry("glass", FAST)
    assert glass.description is not None
    text = markdown(record(replace(glass, description=replace(glass.description, backend=backend))))
    assert ("TensorRT's two engines run one after the other here" in text) == said


def test_the_report_says_that_the_server_scenario_is_not_the_server() -> None:
    found = ServerEntry(50.0, 99.0, 100, 3.0, (ProbeEntry(3.0, 40.0, True, True, 0),))
    assert "one image at a time, without the server's batching" in markdown(record(entry("glass", FAST, server=found)))


def test_the_report_says_so_where_repeats_differ_or_the_machine_was_busy() -> None:
    noisy = [[10.0, 20.0], [15.0, 30.0]]
    text = markdown(record(entry("glass", noisy), entry("quiet", FAST), foreign=0.5))
    assert "repeats differ too much for a precise latency (over 5%): glass (40%)" in text
    assert "~19 ms (spread 40%)" in text
    assert "quiet (" not in text
    assert "The machine did other work meanwhile: 50%" in text
    assert "The two sides' weights are untrained" in text

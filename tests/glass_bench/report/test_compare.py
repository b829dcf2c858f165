"""Two records side by side: what became slower, and what a reader must know before believing it."""

from dataclasses import replace

from glass_bench.report.compare import compare

from tests.glass_bench.records import FAST, MACHINE, SLOW, entry, record


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

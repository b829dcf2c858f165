"""What the page on status says of GPUs is what the kit's reports say, and nothing else."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from glass_bench.gpu import status
from glass_bench.gpu.status import (
    BEGIN,
    END,
    PAGE,
    NotARecord,
    Record,
    add_report,
    block_of,
    page_with,
    read_records,
    read_report,
)


def report(gpu: str, date: str, *steps: tuple[str, str, str], driver: str = "580.1") -> dict[str, Any]:
    """Of steps by name, state and reason; those of engines are TensorRT's."""
    rows: list[dict[str, Any]] = [
        {
            "name": name, "state": state, "why": [why] if why else [], "ended": 0, "figures": {},
            "kind": f"8 {name.partition(': ')[2]}" if name.startswith("8") else name,
            "title": "tensorrt: it" if name.startswith("8") else "it",
        }
        for name, state, why in steps
    ]  # fmt: skip
    card = {"name": gpu, "driver": driver, "memory": "80 GiB", "compute_capability": "9.0"}
    return {"schema": 1, "dry_run": False, "machine": {"date": f"{date} 12:00:00", "gpus": [card]}, "steps": rows}


def table(*reports: dict[str, Any]) -> dict[str, list[str]]:
    """The block's cells by what stands in front of them."""
    block = block_of([Record(f"gpu/{index}.json", each) for index, each in enumerate(reports)])
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in block.splitlines() if "|" in line]
    return {row[0]: row[1:] for row in rows}


def test_the_page_is_what_the_command_writes_from_the_records() -> None:
    page = PAGE.read_text()
    assert page == page_with(page, block_of(read_records())), "run python -m glass_bench.gpu.status"


def test_every_gpu_has_a_column_and_its_newest_run_counts() -> None:
    cells = table(
        report("A", "2026-01-01", ("1 seam", "failed", "it hung"), ("2 views", "passed", "")),
        report("B", "2026-01-02", ("2 views", "failed", "compared > 1 x 1: 3 | expected 0")),
        report("A", "2026-01-03", ("1 seam", "passed", ""), ("2 views", "not run", "no time"), driver="590"),
    )
    assert cells["step of the kit"] == ["A", "B"]
    seam, views = (next(row for name, row in cells.items() if name.startswith(start)) for start in ("1:", "2: the ker"))
    assert seam == ["right", "never"]
    assert views == ["right", r"**wrong**: 2 views: compared > 1 x 1: 3 \| expected 0"]


def test_a_line_of_engines_is_right_where_all_of_it_is() -> None:
    cells = table(
        report(
            "A", "2026-01-01", ("8 vit_b16: build", "passed", ""), ("8 resnet50: build", "passed", ""),
            ("8 vit_b16: parity", "passed", ""), ("8 vit_b16: ragged packs", "failed", "too far"),
            ("8 vit_b16: soak", "left out", "no such library"),
        )
    )  # fmt: skip
    lines = {
        name.removeprefix("8: TensorRT: "): row[0] for name, row in cells.items() if name.startswith("8: TensorRT: ")
    }
    assert lines["building engines"] == "right: vit_b16, resnet50"
    assert (
        lines["what engines compute: parity, packs of any size, verdicts"]
        == "**wrong**: 8 vit_b16: ragged packs: too far"
    )
    assert lines["thousands of runs"] == "left out: no such library"
    assert lines["times of engines"] == "never"
    assert {row[0] for name, row in cells.items() if name.startswith("8: TensorRT for RTX")} == {"never"}


def test_without_a_record_nothing_has_run() -> None:
    assert block_of([]) == "The kit has run on no GPU yet.\n"


GOOD = report("NVIDIA L4 (24 GB)", "2026-02-03", ("1 seam", "passed", ""))


def test_a_report_is_added_under_the_gpus_name_and_the_date(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(GOOD))
    added = add_report(tmp_path / "report.json", tmp_path / "results")
    assert added == tmp_path / "results" / "gpu" / "nvidia_l4_24_gb_2026-02-03.json"
    (record,) = read_records(tmp_path / "results")
    assert record.report == GOOD
    assert record.place == f"gpu/{added.name}"


@pytest.mark.parametrize(
    "change",
    [
        {"dry_run": True}, {"schema": 2}, {"machine": {"date": "2026-02-03", "gpus": []}}, {"machine": {}},
        {"steps": [{"name": "1 seam"}]}, {"steps": 3},
    ],
    ids=str,
)  # fmt: skip
def test_what_says_nothing_about_a_gpu_is_no_record(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "report.json").write_text(json.dumps({**copy.deepcopy(GOOD), **change}))
    with pytest.raises(NotARecord, match=r"report\.json: "):
        read_report(tmp_path / "report.json")


def test_a_file_that_is_no_report_is_named(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("not JSON")
    for file in (tmp_path / "report.json", tmp_path / "absent.json"):
        with pytest.raises(NotARecord, match=file.name):
            read_report(file)


def test_a_page_without_the_marks_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    page = tmp_path / "status.md"
    page.write_text(f"# Status\n{BEGIN}\nno end")
    monkeypatch.setattr(status, "PAGE", page)
    monkeypatch.setattr("sys.argv", ["status"])
    assert status.main() == 1
    assert page.read_text().endswith("no end")
    assert BEGIN in capsys.readouterr().err


def test_check_writes_nothing_and_tells_a_page_that_is_not_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "status.md"
    page.write_text(f"# Status\n{BEGIN}\ntyped\n{END}\nmore")
    monkeypatch.setattr(status, "PAGE", page)
    monkeypatch.setattr("sys.argv", ["status", "--check"])
    assert status.main() == 1
    assert "\ntyped\n" in page.read_text()
    monkeypatch.setattr("sys.argv", ["status"])
    assert status.main() == 0
    assert "\ntyped\n" not in page.read_text()
    assert page.read_text().endswith(f"{END}\nmore")
    monkeypatch.setattr("sys.argv", ["status", "--check"])
    assert status.main() == 0

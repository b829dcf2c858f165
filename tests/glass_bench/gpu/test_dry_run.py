"""The whole kit on stand-ins: every step runs, every figure is right, and a wrong number under a step fails it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from glass_bench.gpu.check import DRY_BACKBONES, DRY_SOAK, Kit, exit_code, run_kit
from glass_bench.gpu.steps import STEPS, Step, steps_of_engines

from tests.fake_kit import FAULT

pytestmark = pytest.mark.slow

# What the stand-ins do not have.
LEFT_OUT = {"nvidia_smi", "hardware_decoder", "compiled"}


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Kit, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("dry") / "gpu-check"
    kit = Kit(folder, backend="tensorrt", backbones=DRY_BACKBONES, soak=DRY_SOAK, dry_run=True)
    return kit, run_kit(kit)


def engine_steps(kit: Kit) -> tuple[Step, ...]:
    return steps_of_engines(kit.backend, kit.backbones, str(kit.output), kit.soak)


def test_every_step_runs_in_its_order_and_is_right(dry_run: tuple[Kit, dict[str, Any]]) -> None:
    kit, report = dry_run
    failed = {row["name"]: (row["why"], row.get("last_lines")) for row in report["steps"] if row["state"] != "passed"}
    assert not failed
    assert [row["name"] for row in report["steps"]] == [step.name for step in (*STEPS, *engine_steps(kit))]
    assert exit_code(report) == 0
    absent = {
        part for row in report["steps"] for part, found in row["figures"].items()
        if isinstance(found, dict) and "left out" in found
    }  # fmt: skip
    assert absent <= LEFT_OUT
    assert json.loads((kit.output / "report.json").read_text()) == report
    assert "a dry run on stand-ins" in (kit.output / "report.md").read_text().splitlines()[0]


# A wrong number under a stand-in, and a step that must see it.
FAULTS = (
    ("kernel", "1 seam"),
    ("kernel", "2 views"),
    ("decoder", "5 exactness"),
    ("engine", f"8 {DRY_BACKBONES[0]}: parity"),
)


@pytest.mark.parametrize(("fault", "name"), FAULTS)
def test_a_wrong_number_under_a_step_fails_it(
    dry_run: tuple[Kit, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str, name: str
) -> None:
    kit, _ = dry_run
    (step,) = (step for step in (*STEPS, *engine_steps(kit)) if step.name == name)
    monkeypatch.setenv(FAULT, fault)
    report = run_kit(Kit(tmp_path, only=(name,), backend="tensorrt", backbones=(), dry_run=True), [step])
    assert [row["state"] for row in report["steps"]] == ["failed"]
    assert exit_code(report) == 1

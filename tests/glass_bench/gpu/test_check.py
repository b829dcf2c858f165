"""The kit's run: the list in its order, one process for each step, and a report in spite of whatever a step does."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from glass_bench.gpu import check
from glass_bench.gpu.check import Kit, exit_code, run_kit
from glass_bench.gpu.steps import STEPS, Step, steps_of_engines

from tests.glass_bench.gpu.figures import ENGINES, right_figures, with_wrong

KINDS = ("fine", "crash", "hang", "wrong", "garbage")
HANG_S = 1.0
SAYS = {
    "crash": "its process ended with -6 (SIGABRT)",
    "hang": "stopped after 1 s",
    "wrong": "; expected ",
    "garbage": "its figures are no JSON (",
}


def planted(step: Step, kind: str, folder: Path, before: int) -> Step:
    """The step with a module in its place that does what `kind` says; see planted.py."""
    figures = right_figures(step)
    if kind == "wrong":
        figures = next(changed for each in step.checks for _, changed in with_wrong(figures, each))
    folder.mkdir(exist_ok=True)
    file = folder / f"{before}-{kind}.json"
    file.write_text(json.dumps(figures))
    limit_s = HANG_S if kind == "hang" else 600.0  # the others may take long on a busy machine
    arguments = (kind, str(file), str(before))
    return replace(step, module="tests.glass_bench.gpu.planted", arguments=arguments, limit_s=limit_s)


def fine(tmp_path: Path, steps: tuple[Step, ...] = STEPS[:3]) -> list[Step]:
    return [planted(step, "fine", tmp_path / "figures", index) for index, step in enumerate(steps)]


@pytest.fixture(autouse=True)
def _from_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of the steps find the planted one."""
    monkeypatch.setenv("PYTHONPATH", str(check.REPOSITORY), prepend=":")


def test_the_list_is_in_its_order() -> None:
    numbers = [int(step.name.split()[0]) for step in STEPS]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(8))
    assert [step.name.partition(": ")[2] for step in ENGINES] == [
        "build", "parity", "ragged packs", "ragged verdicts", "latency", "parts", "soak", "views on the GPU",
    ]  # fmt: skip
    two = [step.name for step in steps_of_engines("tensorrt_rtx", ("vit_b16", "resnet50"), "x", 1)]
    assert two.index("8 vit_b16: soak") < two.index("8 resnet50: build"), "one backbone first: time may be short"
    assert two[-2:] == ["8 vit_b16: views on the GPU", "8 resnet50: views on the GPU"], "the riskiest last"
    assert len({step.name for step in (*STEPS, *ENGINES)}) == len(STEPS) + len(ENGINES)


def test_onnx_runtime_has_the_steps_that_it_can_run() -> None:
    names = [step.name.partition(": ")[2] for step in steps_of_engines("onnxruntime", ("vit_b16",), "x", 1)]
    assert names == ["build", "parity", "ragged packs", "ragged verdicts", "latency", "soak"]


@pytest.mark.slow
def test_every_step_broken_in_every_way_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    """Five runs, in which the kinds of faults go round: every step has each of them once, beside all the others."""
    every = (*STEPS, *ENGINES)

    def run(turn: int) -> tuple[list[str], dict[str, Any]]:
        kinds = [KINDS[(index + turn) % len(KINDS)] for index in range(len(every))]
        steps = [
            planted(step, kind, tmp_path / f"figures{turn}", index)
            for index, (step, kind) in enumerate(zip(every, kinds, strict=True))
        ]
        kit = Kit(tmp_path / str(turn), only=tuple(step.name for step in steps))
        return kinds, run_kit(kit, steps)

    with ThreadPoolExecutor(len(KINDS)) as pool:
        runs = list(pool.map(run, range(len(KINDS))))
    for turn, (kinds, report) in enumerate(runs):
        folder = tmp_path / str(turn)
        assert json.loads((folder / "report.json").read_text()) == report
        page = (folder / "report.md").read_text()
        assert [row["name"] for row in report["steps"]] == [step.name for step in every]
        for kind, row in zip(kinds, report["steps"], strict=True):
            case = f"{row['name']}, {kind}: {row['why']}"
            assert row["state"] == ("passed" if kind == "fine" else "failed"), case
            assert f"## {row['name']}: {'passed' if kind == 'fine' else 'FAILED'} (" in page, case
            if kind != "fine":
                assert any(SAYS[kind] in words for words in row["why"]), case
            if kind == "crash":
                assert row["figures"], "what it had found is kept"
        assert exit_code(report) == 1
        assert "\x1b" not in page


@pytest.mark.slow
def test_a_machine_without_a_library_for_engines_has_steps_0_to_7_and_passes(tmp_path: Path) -> None:
    """The first step is told that there is none, as step 0 finds it."""
    report = run_kit(Kit(tmp_path / "out"), fine(tmp_path, STEPS))
    assert [(row["name"], row["state"]) for row in report["steps"]] == [
        *((step.name, "passed") for step in STEPS), ("8 engines", "left out"),
    ]  # fmt: skip
    assert "TensorRT" in report["steps"][-1]["why"][0]
    assert exit_code(report) == 0


@pytest.mark.slow
def test_what_there_was_no_time_for_is_run_when_the_report_is_resumed(tmp_path: Path) -> None:
    steps, kit = fine(tmp_path), Kit(tmp_path / "out", only=tuple(step.name for step in STEPS[:3]))
    steps[2] = replace(steps[2], arguments=(*steps[2].arguments[:2], "1"))  # it comes before the second here
    report = run_kit(replace(kit, only=(steps[2].name,)), steps)
    assert [row["name"] for row in report["steps"]] == [steps[0].name, steps[2].name], "the first is always run"
    assert report["machine"]["date"]
    late = run_kit(replace(kit, resume=True, seconds=0), steps)
    assert [row["state"] for row in late["steps"]] == ["passed", "not run", "passed"], "in the list's order"
    assert late["steps"][1]["why"] == ["there was no time left: --resume runs it"]
    assert exit_code(late) == 1
    steps[1] = replace(steps[1], arguments=(*steps[1].arguments[:2], "3"))  # it stands in the report already
    whole = run_kit(replace(kit, resume=True), steps)
    assert [row["name"] for row in whole["steps"]] == [step.name for step in steps]
    assert [row["state"] for row in whole["steps"]] == ["passed"] * 3
    assert exit_code(whole) == 0


@pytest.mark.slow
def test_a_step_that_the_kits_time_cuts_off_is_run_when_the_report_is_resumed(tmp_path: Path) -> None:
    first, whole = fine(tmp_path, STEPS[:2])
    hanging = replace(planted(STEPS[1], "hang", tmp_path / "figures", 1), limit_s=600.0)
    kit = Kit(tmp_path / "out", only=(first.name, whole.name))
    run_kit(replace(kit, only=(first.name,)), [first])
    cut = run_kit(replace(kit, resume=True, seconds=check.LEAST_S + 1), [first, hanging])
    assert [row["state"] for row in cut["steps"]] == ["passed", "not run"]
    assert "--resume runs it" in cut["steps"][1]["why"][0]
    whole = replace(whole, arguments=(*whole.arguments[:2], "2"))  # it stands in the report already
    assert [row["state"] for row in run_kit(replace(kit, resume=True), [first, whole])["steps"]] == ["passed"] * 2


def test_stand_ins_do_not_go_into_a_gpus_report(tmp_path: Path) -> None:
    for kept, resumed in ((True, False), (False, True)):
        (tmp_path / "report.json").write_text(json.dumps({"dry_run": kept, "steps": [], "machine": {}}))
        with pytest.raises(ValueError, match="choose another --output"):
            run_kit(Kit(tmp_path, resume=True, dry_run=resumed))


@pytest.mark.slow
def test_without_a_gpu_the_other_steps_are_not_run(tmp_path: Path) -> None:
    steps = fine(tmp_path)
    Path(steps[0].arguments[1]).write_text(json.dumps({"opened": {"failed": "BackendError: no NVIDIA driver"}}))
    report = run_kit(Kit(tmp_path / "out", only=tuple(step.name for step in steps)), steps)
    assert [row["state"] for row in report["steps"]] == ["failed", "not run", "not run"]
    assert "opened: BackendError: no NVIDIA driver" in report["steps"][0]["why"]
    assert exit_code(report) == 1


@pytest.mark.parametrize(
    ("only", "wanted"),
    [("2", ["0 machine", "2 views", "2 sanitizer"]), ("3 backend", ["0 machine", "3 backend"]), ("", None)],
)
def test_steps_are_chosen_by_number_or_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, only: str, wanted: list[str] | None
) -> None:
    def row(step: Step, *_: Any) -> dict[str, Any]:
        return {"name": step.name, "title": "", "state": "passed", "why": [], "seconds": 0.0, "figures": {}}

    monkeypatch.setattr(check, "run_step", row)
    report = run_kit(Kit(tmp_path, only=tuple(filter(None, [only]))))
    with pytest.raises(ValueError, match="there is no step typo; the steps are 0 machine, "):
        run_kit(Kit(tmp_path / "other", only=("0", "typo")))
    assert [step["name"] for step in report["steps"]] == (wanted or [*(step.name for step in STEPS), "8 engines"])

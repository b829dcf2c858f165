"""The GPU kit: tries what the CUDA path does on this machine's GPU, step by step, and writes one report.

    python -m glass_bench.gpu.check --output gpu-check

For any machine with an NVIDIA GPU and PyTorch; `make gpu-check` sets it up. Every step is a process with a time limit:
one that crashes, hangs or loses the GPU's context costs itself alone. What each found is on disk as soon as it is
there: report.json and report.md hold all steps up to now, steps/ the figures of the one under way. Exit code 0 where
every step passed or has nothing to try here, 1 where one failed or was not run, 2 for wrong usage.

`--only 2,5` runs those steps (and 0), `--resume` adds what a report in the same folder lacks: two commands of ten
minutes do what one of twenty does. `--dry-run` goes through every step without a GPU, on the stand-ins of the tests.
The folder that $GPU_KIT_PHOTOS names has photographs for steps 5 to 7, as JPEG files; a made picture is used without.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, strftime
from typing import Any

from glass_bench.gpu.process import run_step
from glass_bench.gpu.report import FILE, PAGE, SCHEMA, write_report
from glass_bench.gpu.step import DRY_BACKBONE, DRY_RUN
from glass_bench.gpu.steps import NO_ENGINES, REFUSAL, STEPS, Step, steps_of_engines

BACKBONES = ("vit_b16", "resnet50", "convnext_tiny")
BACKENDS = ("auto", "tensorrt", "tensorrt_rtx", "onnxruntime")
SOAK_RUNS = 10_000
STAND_INS = "tests.fake_kit"
REPOSITORY = Path(__file__).parents[3]
DRY_SCALE, DRY_BACKBONES, DRY_SOAK = 0.005, (DRY_BACKBONE,), 40
DRY_LIMIT_S = 1800.0  # of every step: a limit measures a GPU, and says nothing about a busy machine without one
LEAST_S = 5.0  # that a step is worth starting for


@dataclass(frozen=True)
class Kit:
    """One run of the kit. `only` names steps, by number or by name; () stands for all. `seconds` bounds the whole."""

    output: Path
    only: tuple[str, ...] = ()
    backend: str = "auto"
    backbones: tuple[str, ...] = BACKBONES
    soak: int = SOAK_RUNS
    seconds: float = float("inf")
    resume: bool = False
    dry_run: bool = False


def main() -> int:
    """The command line."""
    kit = _kit_from(_options())
    if kit.dry_run and not (REPOSITORY / "tests" / "fake_kit.py").is_file():
        print("--dry-run: the stand-ins are with the tests; run it in the repository", file=sys.stderr)
        return 2
    try:
        report = run_kit(kit)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; {kit.output / FILE} holds the steps up to here", file=sys.stderr)
        return 130
    return exit_code(report)


def run_kit(kit: Kit, steps: Sequence[Step] = STEPS) -> dict[str, Any]:
    """Runs the steps and those of the engines that this machine can have, and returns the report that was written."""
    report, end = _begun(kit), monotonic() + kit.seconds
    kit.output.mkdir(parents=True, exist_ok=True)
    order = dict[str, int]()
    for step in _all_steps(kit, steps, report):
        order[step.name] = len(order)
        if _is_done(report, step) or not _is_wanted(kit, step, steps):
            continue
        print(f"{step.name} ...", flush=True)
        row = _row_of(kit, step, report, end - monotonic())
        rows = [*(other for other in report["steps"] if other["name"] != step.name), row]
        report["steps"] = sorted(rows, key=lambda row: order.get(row["name"], len(order)))
        if step is steps[0]:
            report["machine"] |= told_by(report, step.name, "machine")
        write_report(kit.output, report)
        print(f"    {row['state']}, {row['seconds']} s{''.join(f'{chr(10)}    {words}' for words in row['why'])}")
    if unknown := set(kit.only) - {word for name in order for word in (name, name.split()[0])}:
        raise ValueError(f"--only: there is no step {', '.join(sorted(unknown))}; the steps are {', '.join(order)}")
    counts = {state: [step["state"] for step in report["steps"]].count(state) for state in ("passed", "failed")}
    print(f"{kit.output / PAGE}: {counts['passed']} steps passed, {counts['failed']} failed, of {len(report['steps'])}")
    return report


def exit_code(report: Mapping[str, Any]) -> int:
    """0 where every step passed or has nothing to try on that machine."""
    return int(any(step["state"] not in ("passed", "left out") for step in report["steps"]))


def told_by(report: Mapping[str, Any], step: str, part: str) -> Mapping[str, Any]:
    """What a part of a step found; {} where it did not."""
    figures: Mapping[str, Any] = next((row["figures"] for row in report["steps"] if row["name"] == step), {})
    found = figures.get(part)
    told = found.get("found") if isinstance(found, Mapping) else None
    return told if isinstance(told, Mapping) else {}


def _begun(kit: Kit) -> dict[str, Any]:
    """A new report, or the one that is resumed."""
    if kit.resume and (kit.output / FILE).is_file():
        kept: dict[str, Any] = json.loads((kit.output / FILE).read_text())
        if kept["dry_run"] != kit.dry_run:
            kind = "a dry run" if kept["dry_run"] else "a GPU"
            raise ValueError(f"{kit.output / FILE} is the report of {kind}; choose another --output")
        return kept
    machine = {"date": strftime("%Y-%m-%d %H:%M:%S %z")}
    return {"schema": SCHEMA, "dry_run": kit.dry_run, "machine": machine, "steps": []}


def _all_steps(kit: Kit, steps: Sequence[Step], report: Mapping[str, Any]) -> Iterator[Step]:
    """The list, and then step 8: what it is depends on what the first step has found."""
    yield from steps
    told = told_by(report, steps[0].name, "engines")
    backend = kit.backend if kit.backend != "auto" else told.get("backend")
    if told.get("refused_by_rtx"):
        yield REFUSAL
    if backend is None:
        yield NO_ENGINES
    else:
        yield from steps_of_engines(backend, kit.backbones, str(kit.output), kit.soak)


def _is_done(report: Mapping[str, Any], step: Step) -> bool:
    return any(row["name"] == step.name and row["state"] != "not run" for row in report["steps"])


def _is_wanted(kit: Kit, step: Step, steps: Sequence[Step]) -> bool:
    """The first step always is: the others go by what it finds."""
    return not kit.only or step is steps[0] or bool({step.name, step.name.split()[0]} & set(kit.only))


def _row_of(kit: Kit, step: Step, report: Mapping[str, Any], left_s: float) -> dict[str, Any]:
    opened = next((row["figures"].get("opened") for row in report["steps"]), None)
    for unable, why in (
        (isinstance(opened, Mapping) and "failed" in opened, "the first step could open no GPU"),
        (left_s < LEAST_S, "there was no time left: --resume runs it"),
    ):
        if unable:
            row = {"name": step.name, "title": step.title, "kind": step.kind or step.name, "state": "not run"}
            return row | {"why": [why], "ended": None, "seconds": 0.0, "figures": {}}
    environment = dict[str, str]()
    if kit.dry_run:
        path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {DRY_RUN: STAND_INS, "PYTHONPATH": path}
    scale, limit_s = (DRY_SCALE, DRY_LIMIT_S) if kit.dry_run else (1.0, step.limit_s)
    ended = run_step(step, kit.output, scale, min(limit_s, left_s), environment)
    if left_s < limit_s and isinstance(ended["ended"], str):  # the kit's time was over, not the step's
        ended |= {"state": "not run", "why": ["the time was over before it ended: --resume runs it"]}
    return ended


def _kit_from(options: argparse.Namespace) -> Kit:
    only, backbones = (tuple(filter(None, text.split(","))) for text in (options.only, options.backbones))
    kit = Kit(
        options.output, only, options.backend, backbones, options.soak, options.seconds, options.resume,
        options.dry_run,
    )  # fmt: skip
    return replace(kit, backend="tensorrt", backbones=DRY_BACKBONES, soak=DRY_SOAK) if kit.dry_run else kit


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("gpu-check"))
    parser.add_argument("--only", default="", help="steps by number or name, such as 2,5")
    parser.add_argument("--backend", default="auto", choices=BACKENDS, help="whose engines step 8 builds")
    parser.add_argument("--backbones", default=",".join(BACKBONES), help="that step 8 builds, in this order")
    parser.add_argument("--soak", type=int, default=SOAK_RUNS, help="runs of step 8's soak")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for all steps; others are not run")
    parser.add_argument("--resume", action="store_true", help="run what the report in --output lacks")
    parser.add_argument("--dry-run", action="store_true", help="without a GPU, on stand-ins, all of it small")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

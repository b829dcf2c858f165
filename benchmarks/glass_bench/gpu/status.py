"""The part of the manual's page on status that says what has run on which GPU, written from the kit's own reports.

    python -m glass_bench.gpu.status [gpu-check/report.json] [--check]

The reports are the JSON files under `benchmarks/results/gpu*/`; one that is named is put there first. The lines between
two marks of `docs/status.md` are this command's alone; `--check` writes nothing, and exits with 1 where they are not
what it would write.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glass_bench.gpu.report import SCHEMA
from glass_bench.gpu.steps import REFUSAL, STEPS

ROOT = Path(__file__).parents[3]
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "status.md"
BEGIN = "<!-- Written by `python -m glass_bench.gpu.status` from the kit's reports; not by hand. -->"
END = "<!-- End of what that command writes. -->"
LIBRARIES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT for RTX", "onnxruntime": "ONNX Runtime on CUDA"}
OF_ENGINES = (
    ("building engines", ("8 build",)),
    ("what engines compute: parity, packs of any size, verdicts", ("8 parity", "8 ragged packs", "8 ragged verdicts")),
    ("times of engines", ("8 latency", "8 parts")),
    ("thousands of runs", ("8 soak",)),
    ("views made on the GPU, in a verdict", ("8 views on the GPU",)),
)
MOST_WORDS = 120  # of a reason
UNTRIED = ("left out", "not run")


class NotARecord(Exception):
    """A file is no report of the kit on a GPU: says why."""


@dataclass(frozen=True)
class Record:
    """A report, and its place under `benchmarks/results`."""

    place: str
    report: Mapping[str, Any]

    @property
    def gpu(self) -> Mapping[str, str]:
        """The first one: the one that the kit uses."""
        found: Mapping[str, str] = self.report["machine"]["gpus"][0]
        return found

    @property
    def date(self) -> str:
        """`2026-11-25`."""
        return str(self.report["machine"]["date"])[:10]

    def rows(self, line: Line) -> list[Mapping[str, Any]]:
        """The steps of a line of the table."""
        return [
            step
            for step in self.report["steps"]
            if step["kind"] in line.kinds and step["title"].startswith(line.library)
        ]


@dataclass(frozen=True)
class Line:
    """A line of the table: what is tried, and the kinds of steps that do, of one library where it is named."""

    text: str
    kinds: tuple[str, ...]
    library: str = ""


def lines() -> tuple[Line, ...]:
    """All lines: the steps in their order, then those of every library's engines."""
    plain = [Line(f"{step.name.split()[0]}: {step.title}", (step.name,)) for step in STEPS]
    engines = [
        Line(f"8: {name}: {text}", kinds, backend)
        for backend, name in LIBRARIES.items()
        for text, kinds in OF_ENGINES
        if backend != "onnxruntime" or kinds != ("8 views on the GPU",)
    ]
    return (*plain, *engines, Line(f"8: {REFUSAL.title}", (REFUSAL.name,)))


def read_records(folder: Path = RESULTS) -> list[Record]:
    """The reports under `folder/gpu*/`, the oldest first. Raises NotARecord."""
    found = []
    for file in sorted(folder.glob("gpu*/**/*.json")):
        found.append(Record(file.relative_to(folder).as_posix(), read_report(file)))
    return sorted(found, key=lambda record: (record.date, record.place))


def read_report(file: Path) -> dict[str, Any]:
    """A report of the kit on a GPU. Raises NotARecord."""
    try:
        report = json.loads(file.read_text())
        complete = report["schema"] == SCHEMA and report["machine"]["gpus"][0]["name"] and report["machine"]["date"]
        complete = complete and all(step["kind"] and step["state"] for step in report["steps"])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise NotARecord(f"{file}: {error!r:.100} is wrong; expected the report.json of the kit") from error
    if not complete or report["dry_run"]:
        raise NotARecord(f"{file}: it says nothing about a GPU (a dry run, or another version's)")
    return report  # type: ignore[no-any-return]


def block_of(records: Sequence[Record]) -> str:
    """The lines for the page: the runs, and a table with a column for every model of GPU."""
    if not records:
        return "The kit has run on no GPU yet.\n"
    names = list(dict.fromkeys(record.gpu["name"] for record in records))
    runs = [
        f"| {_cell(record.gpu['name'])} | {record.gpu['compute_capability']} | {record.gpu['driver']} | {record.date} "
        f"| `benchmarks/results/{record.place}` |"
        for record in records
    ]
    of_gpu = {name: [record for record in records if record.gpu["name"] == name] for name in names}
    table = [
        f"| {_cell(line.text)} | {' | '.join(_found(records_there, line) for records_there in of_gpu.values())} |"
        for line in lines()
    ]
    return "\n".join(
        [
            "| GPU | architecture | driver | date | report |", "| :-- | :-- | :-- | :-- | :-- |", *runs, "",
            f"| step of the kit | {' | '.join(map(_cell, names))} |", f"| :-- |{' :-- |' * len(names)}", *table, "",
        ]
    )  # fmt: skip


def page_with(page: str, block: str) -> str:
    """The page with the block between its marks. Raises NotARecord where it lacks them."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise NotARecord(f"{PAGE.name}: the marks are not there:\n{BEGIN}\n{END}")
    return f"{head}{BEGIN}\n\n{block}\n{END}{tail}"


def add_report(file: Path, folder: Path = RESULTS) -> Path:
    """Puts a report among the records, under the GPU's name and the date. Raises NotARecord."""
    record = Record("", read_report(file))
    name = re.sub(r"[^a-z0-9]+", "_", record.gpu["name"].lower()).strip("_")
    target = folder / "gpu" / f"{name}_{record.date}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(file.read_bytes())
    return target


def _found(records: Iterable[Record], line: Line) -> str:
    """The newest run that tried the line; else why it was left out; else `never`."""
    cell = "never"
    for record in records:
        rows = record.rows(line)
        tried = [row for row in rows if row["state"] not in UNTRIED]
        if tried:
            cell = _words(tried)
        elif rows and cell == "never":
            reasons = [row["why"][0] for row in rows if row["state"] == "left out" and row["why"]]
            cell = f"left out: {_cell(reasons[0])}" if reasons else cell
    return cell


def _words(rows: Sequence[Mapping[str, Any]]) -> str:
    failed = [row for row in rows if row["state"] == "failed"]
    if not failed:
        backbones = dict.fromkeys(row["name"][2:].partition(":")[0] for row in rows if ":" in row["name"])
        return f"right: {', '.join(backbones)}" if backbones else "right"
    why = "; ".join(f"{row['name']}: {row['why'][0] if row['why'] else row['ended']}" for row in failed)
    return f"**wrong**: {_cell(why)[:MOST_WORDS]}"


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, nargs="?", help="a report.json of the kit, to be kept")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the page is another")
    options = parser.parse_args()
    try:
        if options.report is not None:
            print(f"added {add_report(options.report)}")
        page = PAGE.read_text()
        wanted = page_with(page, block_of(read_records()))
    except (NotARecord, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if options.check:
        return int(page != wanted)
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())

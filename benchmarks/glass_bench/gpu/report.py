"""The kit's report: one JSON file for programs and one page for people, both whole after every step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glass_bench.gpu.hour.record import write_json

SCHEMA = 1
FILE, PAGE = "report.json", "report.md"


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Writes both files; no reader sees half of one."""
    write_json(folder / FILE, report)
    page = folder / PAGE
    beside = page.with_suffix(".writing")
    beside.write_text(page_of(report))
    beside.replace(page)


def page_of(report: Mapping[str, Any]) -> str:
    """The report in Markdown: the machine, a table of all steps, then what every step found."""
    title = "# GPU check: a dry run on stand-ins" if report["dry_run"] else "# GPU check"
    lines = [title, "", "| | |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in report["machine"].items()]
    lines += ["", "| step | | seconds | |", "|---|---|--:|---|"]
    for step in report["steps"]:
        lines.append(
            f"| {step['name']} | {_state(step)} | {step['seconds']:.1f} | {_cell('; '.join(step['why']))[:300]} |"
        )
    for step in report["steps"]:
        lines += ["", f"## {step['name']}: {_state(step)} ({step['seconds']:.1f} s)", "", f"{step['title']}.", ""]
        lines += [f"- {_cell(words)}" for words in step["why"]]
        lines += ["", "```json", json.dumps(step["figures"], indent=1).replace("```", "'''"), "```"]
        if step.get("last_lines"):
            lines += ["", "Its last words:", "", "```text", *(_plain(line) for line in step["last_lines"]), "```"]
    return "\n".join(lines) + "\n"


def _state(step: Mapping[str, Any]) -> str:
    return "FAILED" if step["state"] == "failed" else str(step["state"])


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _plain(line: str) -> str:
    """Without what would end the block, or do something to a terminal."""
    return "".join(char if char.isprintable() else "?" for char in line).replace("```", "'''")

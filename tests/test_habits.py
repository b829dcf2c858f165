"""The files by which people join: well-formed, and in step with what they speak of."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from pre_commit.clientlib import load_config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


def read_yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def jobs() -> dict[str, Any]:
    found: dict[str, Any] = read_yaml(".github/workflows/ci.yml")["jobs"]
    return found


def commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_the_workflow_checks_every_python_on_both_architectures() -> None:
    check = jobs()["check"]
    assert check["strategy"]["matrix"] == {"runner": ["ubuntu-24.04", "ubuntu-24.04-arm"], "python": PYTHONS}
    assert commands(check) == ["make check PYTHON=python"]
    assert commands(jobs()["test"]) == ["make test PYTHON=python"]


def test_the_workflow_may_read_and_nothing_else() -> None:
    assert read_yaml(".github/workflows/ci.yml")["permissions"] == {"contents": "read"}


def test_the_workflow_runs_targets_that_are_there_and_ends_by_itself() -> None:
    for job in jobs().values():
        assert job["timeout-minutes"] <= 90
        assert {re.match(r"make ([a-z-]+)", line)[1] for line in commands(job)} <= TARGETS  # type: ignore[index]


def test_the_pythons_of_the_workflow_are_those_of_the_metadata() -> None:
    stated = [line.rsplit(" ", 1)[1] for line in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert stated == PYTHONS
    assert PROJECT["project"]["requires-python"] == f">={PYTHONS[0]}"


def test_pre_commit_takes_its_configuration_and_runs_the_tools_of_make_check() -> None:
    (repo,) = load_config(str(ROOT / ".pre-commit-config.yaml"))["repos"]
    tools = [Path(hook["entry"].split()[0]).name for hook in repo["hooks"]]
    assert tools == ["ruff", "ruff", "mypy", "lint-imports"]


@pytest.mark.parametrize("name", ["bug.yml", "idea.yml"])
def test_issue_forms_have_what_github_asks_of_them(name: str) -> None:
    form = read_yaml(f".github/ISSUE_TEMPLATE/{name}")
    assert {"name", "description", "body"} <= form.keys()
    names = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(names) == len(set(names)) > 1
    assert all(part["attributes"].get("label") for part in form["body"] if part["type"] != "markdown")


def test_the_citation_is_of_the_paper() -> None:
    citation = read_yaml("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    paper = citation["preferred-citation"]
    assert {"type", "title", "authors"} <= paper.keys()
    assert paper["url"] == PROJECT["project"]["urls"]["Paper"]


def test_the_dependency_groups_are_the_tools_of_the_extra_dev() -> None:
    groups = PROJECT["dependency-groups"]
    assert groups["dev"] == [{"include-group": name} for name in groups if name != "dev"]
    grouped = [one for name, group in groups.items() if name != "dev" for one in group]
    extra = [one for one in PROJECT["project"]["optional-dependencies"]["dev"] if Requirement(one).name != "glass-rt"]
    assert sorted(grouped) == sorted(extra)


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md"])
def test_files_that_are_named_are_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = re.findall(r"`((?:glass_rt|export|engines|calibration|benchmarks|tests)/[\w/.]+)`", text)
    linked = re.findall(r"\]\(([\w/.-]+)\)", text)
    assert [path for path in (*named, *linked) if not (ROOT / path).exists()] == []


def test_make_targets_that_contributing_names_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`make ([a-z-]+)`", text)) <= TARGETS

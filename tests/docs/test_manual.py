"""What holds for the manual as a whole: its size, its links, and that it agrees with the source."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import glass_rt
from glass_rt import errors
from glass_rt.cli import cli
from tests.docs.blocks import PAGES, README, ROOT

DOCS = ROOT / "docs"
SOURCES = (
    "glass_rt",
    "engines/glass_engines",
    "export/glass_export",
    "calibration/glass_calibrate",
    "training/glass_train",
    "benchmarks/glass_bench",
)
ROOMS = ("guides", "reference", "explanation")
README_BYTES = 7000
FEWEST_WORDS = 6  # of a sentence that may not stand twice
TIMEOUT_S = 300


def prose(page: Path) -> str:
    """The words of a page in lower case: without blocks, comments, addresses and marks; paragraphs end in a full stop."""
    text = re.sub(r"^```.*?^```$|<!--.*?-->", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    text = re.sub(r"\n\s*\n|\|", ". ", text)
    return re.sub(r"[^\w.:;?!%]+", " ", text).lower()


def sentences(page: Path) -> set[str]:
    """The sentences of a page that are long enough to say something."""
    parts = (part.strip() for part in re.split(r"[.:;?!](?=\s|$)", prose(page)))
    return {part for part in parts if len(part.split()) >= FEWEST_WORDS}


def test_readme_is_short() -> None:
    assert len(README.read_bytes()) <= README_BYTES


def test_no_sentence_of_readme_stands_in_the_manual_too() -> None:
    own = sentences(README)
    assert len(own) > 10
    for page in PAGES:
        if page != README:
            assert not own & sentences(page), page
            assert not [sentence for sentence in own if sentence in prose(page)], page


def test_no_sentence_of_the_manual_stands_twice() -> None:
    seen: dict[str, Path] = {}
    for page in PAGES:
        for sentence in sentences(page):
            assert sentence not in seen, f"{page} and {seen[sentence]}: {sentence}"
            seen[sentence] = page


def test_readme_links_to_files_that_are_there() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", README.read_text("utf-8"))
    here = [link for link in links if "://" not in link]
    assert len(here) > 20
    assert not [link for link in here if not (ROOT / link).exists()]


def test_the_first_page_links_to_every_page_about_the_product() -> None:
    linked = set(re.findall(r"\]\(([^)#]+)", (DOCS / "index.md").read_text("utf-8")))
    pages = {page.relative_to(DOCS).as_posix() for room in ROOMS for page in (DOCS / room).glob("*.md")}
    assert pages - linked == set()


def test_files_that_pages_name_are_there() -> None:
    tops = "benchmarks|deploy|engines|examples|export|training|glass_bench|glass_rt|tests|docs"
    for page in PAGES:
        for name in re.findall(rf"`((?:{tops})/[\w./*-]+)`", page.read_text("utf-8")):
            found = [path for root in (ROOT, ROOT / "benchmarks") for path in root.glob(name.rstrip("/"))]
            assert found or name in GONE, f"{page.name}: {name}"


GONE = {
    "benchmarks/partial_decoding.py",
    "benchmarks/results/partial_decoding.json",
}  # in the history, as the page says


def test_options_that_pages_name_exist() -> None:
    known = {"--help"} | {
        option for command in commands_of(cli) for parameter in command.params for option in parameter.opts
    }
    known |= {option for command in commands_of(cli) for item in command.params for option in item.secondary_opts}
    for page in PAGES:
        code = " ".join(re.findall(r"`([^`\n]+)`", page.read_text("utf-8")))
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", code))
        assert named <= known, page


def test_values_of_options_have_names_of_their_own() -> None:
    for command in commands_of(cli):
        context = click.Context(command)
        for item in command.params:
            if isinstance(item, click.Option) and not item.hidden:
                assert "RANGE" not in item.make_metavar(context), (command.name, item.opts)


def commands_of(command: click.Command) -> Iterator[click.Command]:
    """A command and those below it."""
    yield command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands_of(found)


@pytest.mark.parametrize("folder", SOURCES)
def test_every_environment_variable_is_described(folder: str) -> None:
    page = (DOCS / "reference" / "environment.md").read_text("utf-8")
    for path in (ROOT / folder).rglob("*.py"):
        source = path.read_text("utf-8")
        names = set(re.findall(r"GLASS_RT_[A-Z]+(?:_[A-Z]+)*", source))
        if re.search(r"os\.environ|getenv", source):
            names |= set(re.findall(r'"([A-Z][A-Z0-9]*_[A-Z0-9_]+)"', source))
        names = {name for name in names if not name.startswith("RAY_") and not name.endswith("_VARIABLE")}
        assert not [name for name in names if f"`{name}`" not in page], path


def test_every_variable_of_the_tests_and_the_makefile_is_described() -> None:
    page = (DOCS / "reference" / "environment.md").read_text("utf-8")
    files = [*(ROOT / "tests").rglob("*.py"), ROOT / "Makefile", *(ROOT / "deploy").iterdir()]
    for path in files:
        named = re.findall(r"GLASS_RT_[A-Z]+(?:_[A-Z]+)*(?![A-Z_{])", path.read_text("utf-8"))
        assert not [name for name in named if name not in page], path


def test_every_environment_variable_that_is_described_is_read() -> None:
    page = (DOCS / "reference" / "environment.md").read_text("utf-8")
    files = [path for folder in (*SOURCES, "tests") for path in (ROOT / folder).rglob("*.py")]
    files += [ROOT / "Makefile", *(ROOT / "deploy").iterdir()]
    text = "\n".join(path.read_text("utf-8") for path in files if path.name != Path(__file__).name)
    described = re.findall(r"`(_?[A-Z][A-Z0-9]*_[A-Z0-9_]+)`", page)
    assert "GLASS_RT_ENGINE" in described
    for name in described:
        kind = name.removeprefix("GLASS_RT_TEST_")  # tests/support.py puts three of them together
        assert name in text or f'"{kind}"' in text, name


def test_the_tree_of_errors_is_that_of_the_classes() -> None:
    """From the tree the page of errors is made."""
    assert errors.__doc__
    lines = re.findall(r"^    ([│├└─ ]*)(\w+)", errors.__doc__, re.MULTILINE)
    ancestors: list[type] = []
    for indent, name in lines:
        depth = len(indent) // 4
        error = getattr(errors, name)
        assert depth == 0 or error.__bases__[0] is ancestors[depth - 1], name
        ancestors[depth:] = [error]
    classes = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert {name for _, name in lines} == classes


def test_every_exported_name_has_its_place_in_the_reference() -> None:
    page = (DOCS / "reference" / "python.md").read_text("utf-8")
    assert not [name for name in glass_rt.__all__ if name[0].isupper() and f"::: glass_rt.{name}\n" not in page]


def test_the_rooms_are_those_of_the_source() -> None:
    page = (DOCS / "architecture.md").read_text("utf-8")
    table = page[page.index("## The rooms") : page.index("`engines/glass_engines` has")]
    rooms = {path.parent.name for path in (ROOT / "glass_rt").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == rooms - {"triton_server"}  # a former name


def test_what_has_run_on_a_gpu_is_said_on_one_page() -> None:
    said = re.compile(r"(not (yet )?run|never run|untried|has run) on (a|any) (gpu|cluster)|no gpu (was|has)")
    assert [page.name for page in PAGES if page != README and said.search(prose(page))] in ([], ["status.md"])


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 35
    made = "\n".join(page.read_text("utf-8") for page in pages)
    assert "&lt;!-- generated" not in made
    assert "<!-- generated" not in made
    for part in ("BundleNotFound", "glass_rt_stage_seconds", "--expect-bundle", "/v2/models/{model}/infer"):
        assert part in made

"""The fenced blocks of the manual's pages, with what a comment above them says of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").rglob("*.md")))

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>output|fails|not run: (?P<reason>[^\n]+?)) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_SNIPPET = re.compile(r'^--8<-- "([^"]+)"$', re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    `mark`: `output` (the block shows what the block before prints), `fails` (a command of it ends with another exit code
    than 0), `not run` with its `reason`, or nothing. `source`: the file that the block includes, if it does.
    """

    page: Path
    line: int
    language: str
    text: str
    mark: str = ""
    reason: str = ""
    source: Path | None = None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, in order; files that they include are included."""
    text = page.read_text("utf-8")
    blocks = []
    for found in _BLOCK.finditer(text):
        snippet = _SNIPPET.search(found["text"])
        source = ROOT / snippet[1] if snippet else None
        code = source.read_text("utf-8") if source else found["text"]
        line = text.count("\n", 0, found.start("text")) + 1
        mark = "not run" if found["reason"] else found["mark"] or ""
        blocks.append(Block(page, line, found["language"], code, mark, found["reason"] or "", source))
    return blocks

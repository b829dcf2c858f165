"""Every fenced block of README and the manual runs, or says above it why not."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from glass_export.model import checkpoint_module

from tests.docs.blocks import PAGES, README, ROOT, Block, blocks_of
from tests.docs.reader import BACKBONE, Reader, check_extras, check_keys, check_options, commands, simple_words
from tests.support import TorchModels

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"
MARKS = {  # of pages whose commands export several graphs, quantise, measure or start Ray
    "docs/guides/benchmark.md": pytest.mark.slow,
    "docs/guides/build.md": pytest.mark.slow,
    "docs/guides/bulk.md": pytest.mark.ray,
    "docs/guides/int8.md": pytest.mark.slow,
}
NAMES = [str(page.relative_to(ROOT)) for page in PAGES if blocks_of(page)]
FOLLOWED = [pytest.param(ROOT / name, id=name, marks=MARKS.get(name, ())) for name in NAMES]


@pytest.mark.parametrize("page", FOLLOWED)
def test_every_block_runs(page: Path, tmp_path: Path, torch_models: TorchModels) -> None:
    def write_checkpoint(path: Path) -> None:
        torch.save(checkpoint_module(torch_models(BACKBONE)).state_dict(), path)

    with ExitStack() as closing:
        reader = Reader(tmp_path, write_checkpoint, closing)
        for block in blocks_of(page):
            if block.mark == "not run":
                check_spelling(block)
            elif block.source is None or not block.source.is_relative_to(EXAMPLES):  # which test_examples runs
                reader.run(block)


def check_spelling(block: Block) -> None:
    """The options of commands that are not run exist."""
    if block.language != "sh":
        return
    for command in commands(block.text):
        words = simple_words(command)
        if words[:1] == ["glass-rt"]:
            check_options(words[1:])
        if words[:1] == ["pip"]:
            check_extras(words)


def test_pages_have_blocks_of_every_kind() -> None:
    blocks = [block for page in PAGES for block in blocks_of(page)]
    assert {block.language for block in blocks} == {"sh", "python", "json", "text", "toml"}
    assert {block.mark for block in blocks} == {"", "output", "fails", "not run"}
    assert [block.language for block in blocks_of(README)] == ["sh", "sh", "sh", "python"]


@pytest.mark.parametrize(
    ("shown", "real"),
    [({"a": 1}, {"b": 1}), ([], [1]), ([{"a": 1}], [{}]), ({"a": "1"}, {"a": 1}), ({"a": None}, {"a": {}})],
)
def test_json_with_other_keys_is_noticed(shown: object, real: object) -> None:
    with pytest.raises(AssertionError):
        check_keys(shown, real)


def test_an_option_that_does_not_exist_is_noticed() -> None:
    check_options(["bench", "compare", "a.json", "b.json", "--fail-if", "p50_ms>1"])
    with pytest.raises(Exception, match="--colour"):
        check_options(["infer", "a.jpg", "--colour"])

"""The folders of real files are what their lists say, so that tests and training may rely on them."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import defaultdict
from pathlib import Path

import pytest

from glass_rt.image.encoded import load

NOT_LISTED = {"README.md"}


@pytest.fixture(scope="module")
def listed(real_pairs: Path) -> list[dict[str, str]]:
    """The rows of the list of pairs, in its order."""
    with (real_pairs / "MANIFEST.tsv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_the_list_of_pairs_names_every_picture_and_its_content(real_pairs: Path, listed: list[dict[str, str]]) -> None:
    assert sorted(row["file"] for row in listed) == sorted(
        str(path.relative_to(real_pairs)) for path in real_pairs.rglob("*.jpg")
    )
    for row in listed:
        data = (real_pairs / row["file"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (int(row["bytes"]), row["sha256"]), row["file"]


def test_the_twins_of_a_pair_are_alike_in_size_and_lie_in_one_split(listed: list[dict[str, str]]) -> None:
    pairs = defaultdict[str, list[dict[str, str]]](list)
    splits = defaultdict[str, set[str]](set)
    for row in listed:
        split, label, _ = row["file"].split("/")
        assert label == row["label"]
        pairs[row["pair"]].append(row)
        splits[f"{row['source_repo']}/{row['source_path']}"].add(split)
    for name, rows in pairs.items():
        assert {"real", "fake"} == {row["label"] for row in rows}, name
        assert len({(row["file"].split("/")[0], row["width"], row["height"], row["quality"]) for row in rows}) == 1
    assert {len(found) for found in splits.values()} == {1}, "no photograph is in two splits"


def test_the_pictures_of_pairs_decode_to_the_size_that_is_listed(
    real_pairs: Path, listed: list[dict[str, str]]
) -> None:
    for row in listed:
        image = load((real_pairs / row["file"]).read_bytes())
        assert image.pixels.shape == (int(row["height"]), int(row["width"]), 3), row["file"]
        assert image.info.notices == (), row["file"]


def test_the_table_of_faults_names_every_file(fault_files: Path) -> None:
    named = set(re.findall(r"`([\w.]+)", (fault_files / "README.md").read_text(encoding="utf-8")))
    present = {path.name for path in fault_files.iterdir()} - NOT_LISTED
    assert present
    assert present <= named

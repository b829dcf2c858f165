"""Two runs of `glass-rt train` on the same data, compared on the test split that both have judged.

python benchmarks/pairs.py runs/glass runs/resize --json benchmarks/results/pairs/pairs.json

AUC of each, and their difference image by image, with 95 % intervals resampled by photograph (the group of each image).
Nothing is judged here: the probabilities are those that each run has written into its test.csv, once.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from glass_train.figures import auc, by_group
from numpy.typing import NDArray

SEED = 606


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def judged(run: Path, tier: str) -> dict[str, float]:
    """The probability of each test image in one tier."""
    return {row["image"]: float(row[tier]) for row in read_rows(run / "test.csv")}


def compare(first: Path, second: Path, tier: str) -> dict[str, object]:
    """AUC of both runs and their difference, of the images that both have judged."""
    data = {row["name"]: row for row in read_rows(first / "data.csv") if row["part"] == "test"}
    ours, theirs = judged(first, tier), judged(second, tier)
    names = [name for name in data if np.isfinite(ours[name]) and np.isfinite(theirs[name])]
    fake = np.array([data[name]["label"] == "fake" for name in names])
    groups = [data[name]["group"] or data[name]["pixels_sha256"] for name in names]
    scores = [np.array([probability[name] for name in names]) for probability in (ours, theirs)]

    def area(which: int, rows: NDArray[np.int64]) -> float:
        return auc(fake[rows], scores[which][rows])

    return {
        "tier": tier,
        "images": len(names),
        "groups": len(set(groups)),
        first.name: asdict(by_group(lambda rows: area(0, rows), groups, SEED)),
        second.name: asdict(by_group(lambda rows: area(1, rows), groups, SEED)),
        "difference": asdict(by_group(lambda rows: area(0, rows) - area(1, rows), groups, SEED)),
    }


def main() -> None:
    """Prints the figures of every tier that both runs have, and writes them where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    runs = (options.first, options.second)
    hashes = {json.loads((run / "card.json").read_text(encoding="utf-8"))["test"]["sha256"] for run in runs}
    if len(hashes) > 1:
        parser.error("the two runs have judged different test splits")
    shared = [
        tier for tier in read_rows(options.first / "test.csv")[0] if tier in read_rows(options.second / "test.csv")[0]
    ]
    found = [compare(options.first, options.second, tier) for tier in shared if tier != "image"]
    text = json.dumps({"kind": "pairs", "test_sha256": hashes.pop(), "rows": found}, indent=1)
    print(text)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

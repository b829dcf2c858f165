"""Sweeps the threshold over verdicts that exist: `python sweep_thresholds.py VERDICTS.csv LABELS.csv`.

VERDICTS.csv is what `glass-rt infer --output VERDICTS.csv` wrote. LABELS.csv has the columns `path` and `label` (`fake`
or `real`), with the paths as in the verdicts. Choose the threshold on other images than those you report on.
"""

import csv
import sys
from pathlib import Path

THRESHOLDS = tuple(step / 20 for step in range(1, 20))


def read(path: str, column: str) -> dict[str, str]:
    """A column of a CSV file by path; rows without a value, such as failures, are left out."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        return {row["path"]: row[column] for row in csv.DictReader(file) if row[column]}


def share(called_fake: list[bool]) -> float:
    """The share that is called fake; 0 of nothing."""
    return sum(called_fake) / max(len(called_fake), 1)


def main(verdicts: str, labels: str) -> None:
    """Prints a line per threshold: the share of fake and of real images that it calls fake."""
    probabilities, truth = read(verdicts, "probability_fake"), read(labels, "label")
    known = [(float(value), truth[path]) for path, value in probabilities.items() if path in truth]
    print("threshold  fake found  real called fake")
    for threshold in THRESHOLDS:
        found = share([value >= threshold for value, label in known if label == "fake"])
        wrong = share([value >= threshold for value, label in known if label == "real"])
        print(f"{threshold:9.2f}  {found:10.1%}  {wrong:16.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])

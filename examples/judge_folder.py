"""Judges a folder: `python judge_folder.py BUNDLE FOLDER` prints a line per image, the most suspicious first."""

import sys
from pathlib import Path

from glass_rt import Detector, Failure, Verdict

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def main(bundle: str, folder: str) -> None:
    """Judges the images of the folder, at any depth."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    verdicts: list[Verdict] = []
    with Detector.open(bundle) as detector:
        for result in detector.detect_many(paths):  # lazy, and in the order of the paths
            if isinstance(result, Failure):
                print(f"{result.path}: {result.error.kind}: {result.error}", file=sys.stderr)
            else:
                verdicts.append(result)
    for verdict in sorted(verdicts, key=lambda verdict: -verdict.probability_fake):
        print(f"{verdict.probability_fake:.4f}  {verdict.path}  {'; '.join(verdict.notices)}")


if __name__ == "__main__":
    main(*sys.argv[1:])

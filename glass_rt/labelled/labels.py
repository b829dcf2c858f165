"""What is known of the images of an evaluation: fake or real, from sub-folders or from a CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from glass_rt.bundle.manifest import FAKE, REAL
from glass_rt.errors import LabelsInvalid
from glass_rt.inference.find_images import find_images
from glass_rt.inference.passed_over import PassedOver
from glass_rt.machine.named_file import read_named_text
from glass_rt.results.verdict import Failure

CSV_COLUMNS = ("path", "label")
FOLDER = "folder"


@dataclass(frozen=True)
class LabelledImage:
    """One image, its name below the folder, and what it is."""

    path: str
    name: str
    fake: bool


def labelled_images(
    folder: Path, labels: str, passed_over: PassedOver | None = None
) -> tuple[list[LabelledImage], int]:
    """The images of `folder` in the order of their names, and how many have no label (they are left out).

    `labels` is `folder` (sub-folders `fake` and `real`), or a CSV with the columns `path` (below the folder) and
    `label`. `passed_over`: as for `find_images`. Raises LabelsInvalid where there is nothing to evaluate.
    """
    found = list(_by_folder(folder, passed_over) if labels == FOLDER else _by_csv(folder, Path(labels)))
    images = sorted((image for image in found if image is not None), key=lambda image: image.name)
    if not images:
        raise LabelsInvalid(
            f"{folder} holds no labelled images; expected sub-folders `fake` and `real`, or --labels CSV"
        )
    return images, len(found) - len(images)


def _by_folder(folder: Path, passed_over: PassedOver | None) -> Iterator[LabelledImage | None]:
    for source in find_images([str(folder)], passed_over):
        if isinstance(source, Failure):
            raise LabelsInvalid(f"{folder}: {source.error}")
        name = Path(source).relative_to(folder)
        top = name.parts[0].lower()
        yield LabelledImage(source, name.as_posix(), top == FAKE) if top in (FAKE, REAL) else None


def _by_csv(folder: Path, table: Path) -> Iterator[LabelledImage | None]:
    try:
        rows = list(csv.DictReader(StringIO(read_named_text(table, "utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelsInvalid(f"{table} cannot be read as a CSV of labels: {error}") from None
    for number, row in enumerate(rows, start=2):
        name, label = row.get("path"), (row.get("label") or "").strip().lower()
        if not name or label not in (FAKE, REAL):
            raise LabelsInvalid(
                f"{table}, line {number}: expected the columns {' and '.join(CSV_COLUMNS)}, the label fake or real; "
                f"got {row!r:.100}"
            )
        path = folder / name
        if not path.is_file():
            raise LabelsInvalid(f"{table}, line {number}: no such file below {folder}: {name}")
        yield LabelledImage(str(path), name, label == FAKE)

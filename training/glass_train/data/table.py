"""The data of a run as a table in its folder, so that a run that goes on knows whether the files are the same."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

from glass_rt.errors import TrainingError
from glass_rt.labelled.labels import LabelledImage
from glass_rt.machine.file_names import name_from_text
from glass_rt.machine.write_whole import write_whole
from glass_train.data.parts import PARTS, Dataset
from glass_train.data.scan import Scanned

DATA = "data.csv"
_COLUMNS = (
    "part", "name", "label", "split", "group", "pair", "source",
    "width", "height", "bytes", "modified_ns", "sha256", "pixels_sha256",
)  # fmt: skip


def write_table(folder: Path, dataset: Dataset) -> None:
    """Writes `data.csv`: a row an image, with the part that it is in."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for part in PARTS:
        for scanned in dataset.parts[part]:
            rows.writerow(_row(part, scanned))
    write_whole(folder / DATA, text.getvalue().encode())


def _row(part: str, scanned: Scanned) -> tuple[object, ...]:
    image, status = scanned.image, Path(scanned.image.path).stat()
    label = "fake" if image.fake else "real"
    said = (image.split or "", image.group or "", image.pair or "", image.source or "")
    found = (scanned.width, scanned.height, status.st_size, status.st_mtime_ns, scanned.sha256, scanned.pixels_sha256)
    return part, image.name, label, *said, *found


def read_table_of_run(folder: Path, data: Path) -> Dataset:
    """The data of a run, with each file compared to what it was. Raises TrainingError for one that has changed.

    Size and time of change tell; where the time differs, as in a copy, the content does. Raises ValueError, KeyError
    or TypeError where the table is damaged.
    """
    parts: dict[str, list[Scanned]] = {part: [] for part in PARTS}
    try:
        text = (folder / DATA).read_text(encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"{folder} holds no run that can go on: {error.strerror} ({DATA})") from None
    for row in csv.DictReader(io.StringIO(text)):
        scanned = _scanned(row, data)
        _check(scanned, int(row["bytes"]), int(row["modified_ns"]))
        parts[row["part"]].append(scanned)
    return Dataset({part: tuple(found) for part, found in parts.items()}, (), ())


def _scanned(row: dict[str, str], data: Path) -> Scanned:
    optional: dict[str, str | None] = {name: row[name] or None for name in ("split", "group", "pair", "source")}
    image = LabelledImage(str(data / name_from_text(row["name"])), row["name"], row["label"] == "fake", **optional)  # type: ignore[arg-type]
    return Scanned(image, row["sha256"], row["pixels_sha256"], int(row["width"]), int(row["height"]))


def _check(scanned: Scanned, size: int, modified_ns: int) -> None:
    path = Path(scanned.image.path)
    try:
        status = path.stat()
        same = status.st_size == size and (status.st_mtime_ns == modified_ns or _sha256(path) == scanned.sha256)
    except OSError:
        raise TrainingError(f"{path} is gone; a run goes on with the data it began with") from None
    if not same:
        raise TrainingError(f"{path} has changed; a run goes on with the data it began with")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk

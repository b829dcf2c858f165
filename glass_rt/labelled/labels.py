"""What is known of labelled images: fake or real, and, where the data says it, split, group, pair and source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from glass_rt.errors import LabelsInvalid
from glass_rt.inference.find_images import find_images
from glass_rt.inference.passed_over import PassedOver
from glass_rt.labelled.table import Row, read_table
from glass_rt.labelled.words import SPLITS, column, label_word, split_word
from glass_rt.results.verdict import Failure

COLUMNS = ("path", "label")
FOLDER = "folder"
MANIFESTS = ("MANIFEST.tsv", "MANIFEST.csv")  # beside the images of a folder: tells more of them than their places


@dataclass(frozen=True)
class LabelledImage:
    """One image, its name below the folder, what it is, and its row of the table: columns by name in lower case.

    What the data does not say is None. `split`: `train`, `val`, `calibration` or `test`. `group`: images of one group
    (such as windows of one photograph) belong on the same side of every split. `pair`: a fake and the real image that
    it was made from. `source`: the generator, or where the photographs come from.
    """

    path: str
    name: str
    fake: bool
    columns: Mapping[str, str] = field(default_factory=dict)
    split: str | None = None
    group: str | None = None
    pair: str | None = None
    source: str | None = None


def labelled_images(
    folder: Path, labels: str, passed_over: PassedOver | None = None
) -> tuple[list[LabelledImage], int]:
    """The images of `folder` in the order of their names, and how many have no label (they are left out).

    `labels` is `folder`, or a table with the columns `path` (or `file`; below the folder) and `label`, and perhaps
    `split`, `group` (or `source_path`), `pair` and `source` (or `generator`, `network`, `kind`); see
    `glass_rt.labelled.table`. `folder` stands for sub-folders `fake` and `real` (or `1_fake` and `0_real`, `ai` and
    `nature`; in any case, at any depth), perhaps with `train`, `val` and `test` above or below them; the other folders
    of a path name the source. A table named MANIFEST.tsv or MANIFEST.csv beside them adds what it knows.
    `passed_over`: as for `find_images`. Raises LabelsInvalid where there is nothing to read, for words that are no
    labels, and for an image that is labelled both ways.
    """
    found = list(_by_folder(folder, passed_over) if labels == FOLDER else _by_table(folder, Path(labels)))
    images = sorted((image for image in found if image is not None), key=lambda image: image.name)
    if not images:
        raise LabelsInvalid(
            f"{folder} holds no labelled images; expected sub-folders `fake` and `real`, or --labels CSV"
        )
    return images, len(found) - len(images)


def _by_folder(folder: Path, passed_over: PassedOver | None) -> Iterator[LabelledImage | None]:
    known = _manifest(folder)
    for source in find_images([str(folder)], passed_over):
        if isinstance(source, Failure):
            raise LabelsInvalid(f"{folder}: {source.error}")
        name = Path(source).relative_to(folder)
        image = _placed(source, name)
        where, row = known.get(name.as_posix(), ("", None))
        yield image if image is None or row is None else _with_row(image, row, where)


def _placed(path: str, name: PurePath) -> LabelledImage | None:
    """What the folders of an image say of it; None where none of them says its label."""
    labels, splits, others = set[bool](), list[str](), list[str]()
    for part in name.parts[:-1]:
        label, split = label_word(part), split_word(part)
        if label is not None:
            labels.add(label)
        elif split is not None:
            splits.append(split)
        else:
            others.append(part)
    if len(labels) > 1:
        raise LabelsInvalid(f"{name}: its folders say both fake and real; rename one, or give --labels CSV")
    if not labels:
        return None
    return LabelledImage(
        path,
        name.as_posix(),
        labels.pop(),
        split=splits[0] if splits else None,
        source="/".join(others) or None,
    )


def _manifest(folder: Path) -> Mapping[str, tuple[str, Row]]:
    for table in MANIFESTS:
        if (folder / table).is_file():
            rows = read_table(folder / table)
            return {name: (where, row) for where, row in rows if (name := column(row, "path"))}
    return {}


def _by_table(folder: Path, table: Path) -> Iterator[LabelledImage]:
    seen: dict[str, tuple[str, bool]] = {}
    for where, row in read_table(table):
        name, fake = column(row, "path"), label_word(row.get("label", ""))
        if not name or fake is None:
            raise LabelsInvalid(
                f"{where}: expected the columns {' and '.join(COLUMNS)}, the label fake or real; got {dict(row)!r:.100}"
            )
        path = folder / name
        if not path.is_file():
            raise LabelsInvalid(f"{where}: no such file below {folder}: {name}")
        before, label = seen.setdefault(str(path), (where, fake))
        if label != fake:
            raise LabelsInvalid(f"{where}: {name} is labelled {_word(fake)}, and the other way at {before}")
        yield _with_row(LabelledImage(str(path), name, fake), row, where)


def _with_row(image: LabelledImage, row: Row, where: str) -> LabelledImage:
    """The image with what a row of a table says of it."""
    label, split = label_word(row.get("label", "")), row.get("split") or None
    if label is not None and label != image.fake:
        raise LabelsInvalid(f"{where}: {image.name} is {_word(label)} here, and its folder says {_word(image.fake)}")
    if split is not None and split_word(split) is None:
        raise LabelsInvalid(f"{where}: split is {split!r:.40}; expected one of {', '.join(SPLITS)}")
    return replace(
        image,
        columns=row,
        split=split_word(split) if split else image.split,
        group=column(row, "group") or image.group,
        pair=column(row, "pair") or image.pair,
        source=column(row, "source") or image.source,
    )


def _word(fake: bool) -> str:
    return "fake" if fake else "real"

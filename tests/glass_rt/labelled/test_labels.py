"""What folders and tables say of images: label, split, group, pair and source."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from glass_rt.errors import LabelsInvalid
from glass_rt.labelled.labels import LabelledImage, labelled_images


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")  # nothing here is decoded
    return folder


def facts(image: LabelledImage) -> tuple[object, ...]:
    return image.fake, image.split, image.group, image.pair, image.source


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fake/a.jpg", (True, None, None, None, None)),
        ("Real/a.jpg", (False, None, None, None, None)),
        ("1_fake/a.png", (True, None, None, None, None)),
        ("car/0_REAL/a.png", (False, None, None, None, "car")),
        ("sdv5/train/AI/a.png", (True, "train", None, None, "sdv5")),
        ("sdv5/val/nature/deep/a.png", (False, "val", None, None, "sdv5/deep")),
        ("test/fake/gan/a.jpg", (True, "test", None, None, "gan")),
        ("Validation/real/a.jpg", (False, "val", None, None, None)),
        ("real/nature/a.jpg", (False, None, None, None, None)),  # twice the same is no contradiction
    ],
)
def test_folders_name_label_split_and_source(name: str, expected: tuple[object, ...], tmp_path: Path) -> None:
    (image,), unlabelled = labelled_images(touch(tmp_path, name), "folder")
    assert (image.name, facts(image), unlabelled) == (name, expected, 0)


def test_a_file_name_is_no_label(tmp_path: Path) -> None:
    images, unlabelled = labelled_images(touch(tmp_path, "fake/real.jpg", "other/fake.jpg"), "folder")
    assert ([image.name for image in images], unlabelled) == (["fake/real.jpg"], 1)


def test_folders_that_say_both_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelsInvalid, match="say both fake and real"):
        labelled_images(touch(tmp_path, "fake/nature/a.jpg"), "folder")


COLUMNS = ("path", "label", "split", "group", "pair", "source")
ROW = ("a.jpg", "Fake", "training", "photo 7", "p1", "gan")


def write_table(path: Path, columns: tuple[str, ...], *rows: tuple[str, ...]) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(pa.table({name: [row[i] for row in rows] for i, name in enumerate(columns)}), path)
    else:
        separator = "\t" if path.suffix == ".tsv" else ","
        path.write_text("".join(separator.join(row) + "\n" for row in (columns, *rows)))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_tables_of_every_kind_say_the_same(suffix: str, tmp_path: Path) -> None:
    table = write_table(tmp_path / f"labels{suffix}", COLUMNS, ROW, ("b.jpg", "nature", "", "", "", ""))
    images, unlabelled = labelled_images(touch(tmp_path, "a.jpg", "b.jpg"), str(table))
    assert unlabelled == 0
    assert [facts(image) for image in images] == [
        (True, "train", "photo 7", "p1", "gan"),
        (False, None, None, None, None),
    ]


def test_a_manifest_beside_the_folders_adds_what_it_knows(tmp_path: Path) -> None:
    touch(tmp_path, "train/fake/a.jpg", "train/real/a.jpg")
    columns = ("file", "label", "kind", "network", "source_path", "pair")
    row = ("train/fake/a.jpg", "fake", "ai-twin", "span", "photo.jpg", "w1")
    write_table(tmp_path / "MANIFEST.tsv", columns, row)
    images, _ = labelled_images(tmp_path, "folder")
    assert [facts(image) for image in images] == [
        (True, "train", "photo.jpg", "w1", "span"),
        (False, "train", None, None, None),
    ]


@pytest.mark.parametrize(
    ("columns", "row", "message"),
    [
        (("path", "label"), ("a.jpg", "no idea"), "the label fake or real"),
        (("path", "label"), ("missing.jpg", "real"), "no such file below"),
        (("path", "label", "split"), ("a.jpg", "real", "half"), "split is 'half'; expected one of train, val"),
        (("path", "label", "pair"), ("", "real", "p"), "expected the columns path and label"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_bad_rows_are_named(
    columns: tuple[str, ...], row: tuple[str, ...], message: str, suffix: str, tmp_path: Path
) -> None:
    table = write_table(touch(tmp_path, "a.jpg") / f"labels{suffix}", columns, row)
    with pytest.raises(LabelsInvalid, match=f"(line 2|row 1).*{message}"):
        labelled_images(tmp_path, str(table))


def test_a_parquet_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.parquet").write_bytes(b"no such thing")
    with pytest.raises(LabelsInvalid, match="cannot be read as a table of labels"):
        labelled_images(tmp_path, str(tmp_path / "labels.parquet"))


def test_a_manifest_that_contradicts_the_folders_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "fake/a.jpg")
    write_table(tmp_path / "MANIFEST.csv", ("path", "label"), ("fake/a.jpg", "real"))
    with pytest.raises(LabelsInvalid, match="is real here, and its folder says fake"):
        labelled_images(tmp_path, "folder")


def test_an_image_that_is_labelled_both_ways_is_refused(tmp_path: Path) -> None:
    table = write_table(touch(tmp_path, "a.jpg") / "labels.csv", ("path", "label"), ("a.jpg", "ai"), ("a.jpg", "real"))
    with pytest.raises(LabelsInvalid, match=r"line 3: a.jpg is labelled real, and the other way at .*line 2"):
        labelled_images(tmp_path, str(table))

"""Parquet as data sets have it: every type of string and binary, and structs of bytes and a path, either null."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq
import pytest

from glass_rt.bulk.messages import Unreadable
from glass_rt.bulk.sources import RowGroup, find_sources, read_images
from glass_rt.bulk.stores import Stores
from glass_rt.errors import UsageError

BINARIES = (pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.binary()))
STRINGS = (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()))
IMAGES = [b"one", b"", None, b"one"]
PATHS = ["a.jpg", "deep/b.jpg", "s3://bucket/c.jpg", None]


def array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode()
    return pa.array(values, kind)


def images_of(file: Path, column: str | None = None) -> list[bytes | str | Unreadable]:
    """What is read of the images of a file with images in it, by its rows."""
    groups = list(find_sources([str(file)], Stores(), column))
    assert all(isinstance(group, RowGroup) for group in groups)
    read = [
        image for group in groups if isinstance(group, RowGroup) for image in read_images(group, Stores(), column, 0)
    ]
    assert [name for name, _ in read] == [f"{file}#{row}" for row in range(len(read))]
    return [source for _, source in read]


@pytest.mark.parametrize("name", ["bytes", "path", "image", "other"])
@pytest.mark.parametrize("kind", BINARIES, ids=str)
def test_a_binary_is_an_image_whatever_its_column_is_called(name: str, kind: pa.DataType, tmp_path: Path) -> None:
    pq.write_table(pa.table({name: array(IMAGES, kind), "n": range(4)}), tmp_path / "x.parquet", row_group_size=3)
    nothing = Unreadable(f"the row has no image: {name} is null")
    expected = [b"one", b"", nothing, b"one"]
    assert images_of(tmp_path / "x.parquet", name if name == "other" else None) == expected


@pytest.mark.parametrize("name", ["bytes", "path", "image", "other"])
@pytest.mark.parametrize("kind", STRINGS, ids=str)
def test_a_string_is_a_path_whatever_its_column_is_called(name: str, kind: pa.DataType, tmp_path: Path) -> None:
    pq.write_table(pa.table({name: array(["/a.jpg", "s3://b/c.jpg"], kind)}), tmp_path / "x.parquet")
    found = list(find_sources([str(tmp_path / "x.parquet")], Stores(), name if name == "other" else None))
    assert found == ["/a.jpg", "s3://b/c.jpg"]


# Row by row: both, bytes alone, a path alone, neither, no struct at all.
STRUCTS: list[dict[str, Any] | None] = [
    {"bytes": b"one", "path": "a.jpg"},
    {"bytes": b"two", "path": None},
    {"bytes": None, "path": "deep/../b.jpg"},
    {"bytes": None, "path": None},
    None,
    {"bytes": None, "path": "/else/where.jpg"},
    {"bytes": None, "path": "s3://bucket/c.jpg"},
    {"bytes": None, "path": ""},
]


@pytest.mark.parametrize("binary", BINARIES, ids=str)
@pytest.mark.parametrize("string", STRINGS, ids=str)
def test_a_struct_has_an_image_or_else_its_path(binary: pa.DataType, string: pa.DataType, tmp_path: Path) -> None:
    data, paths = ([None if row is None else row[name] for row in STRUCTS] for name in ("bytes", "path"))
    children = [array(data, binary), array(paths, string)]
    missing = pa.array([row is None for row in STRUCTS])
    structs = pa.StructArray.from_arrays(children, ["bytes", "path"], mask=missing)
    pq.write_table(pa.table({"label": range(8), "image": structs}), tmp_path / "x.parquet")
    nothing = Unreadable("the row has no image: image.bytes and image.path are null")
    expected = [
        b"one", b"two", f"{tmp_path}/b.jpg", nothing, nothing, "/else/where.jpg", "s3://bucket/c.jpg", nothing,
    ]  # fmt: skip
    assert images_of(tmp_path / "x.parquet") == expected


CELL = {"bytes": b"one", "path": "a.jpg"}
LAYOUTS: dict[str, tuple[dict[str, Any], str | None]] = {  # the columns of a file, and the one that is named
    "image": ({"image": [CELL], "label": [0]}, None),
    "image, named": ({"image": [CELL]}, "image"),
    "another name": ({"img": [CELL], "label": [0]}, None),
    "another name, named": ({"first": [CELL], "second": [{**CELL, "bytes": b"two"}]}, "first"),
    "inside another struct": ({"sample": [{"photo": CELL, "n": 1}]}, None),
    "inside another struct, named": ({"sample": [{"photo": CELL, "n": 1}]}, "sample.photo"),
    "the bytes alone, named": ({"image": [CELL]}, "image.bytes"),
    "bytes without a path": ({"image": [{"bytes": b"one"}]}, None),
    "beside other fields": ({"image": [{**CELL, "width": 3, "embedding": [0.5] * 9}]}, None),
    "a name with a point": ({"image.bytes": [b"one"]}, "image.bytes"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_struct_is_found_under_any_name(layout: str, tmp_path: Path) -> None:
    columns, column = LAYOUTS[layout]
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert images_of(tmp_path / "x.parquet", column) == [b"one"]


@pytest.mark.parametrize("cells", [[{"bytes": None, "path": "a.jpg"}], [{"path": "a.jpg"}]])
def test_a_data_set_may_have_paths_alone(cells: list[dict[str, Any]], tmp_path: Path) -> None:
    """Where all bytes are null, Arrow may know no type for them."""
    pq.write_table(pa.table({"image": cells}), tmp_path / "x.parquet")
    assert images_of(tmp_path / "x.parquet") == [f"{tmp_path}/a.jpg"]


@pytest.mark.parametrize(
    ("columns", "column", "says"),
    [
        (
            {"a": [CELL], "b": [CELL]},
            None,
            "no column path nor bytes nor image; and more than one that holds images: a, b",
        ),
        ({"image": [[b"one"]]}, None, "column image holds list<element: binary>; expected strings"),
        ({"image": [{"bytes": "text", "path": 3}]}, None, "column image holds struct<"),
        ({"image": [CELL]}, "image.width", "no column image.width"),
        ({"image": pa.array([b"abc"], pa.binary(3))}, None, r"holds fixed_size_binary\[3\]"),
    ],
)
def test_columns_that_hold_no_images_are_named(
    columns: dict[str, Any], column: str | None, says: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(UsageError, match=says):
        list(find_sources([str(tmp_path / "x.parquet")], Stores(), column))


def test_a_relative_path_starts_at_its_file_and_then_at_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("set/images/a.jpg", "set/both.jpg", "here/both.jpg", "here/b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    paths = ["images/a.jpg", "./both.jpg", "b.jpg", "absent.jpg", "../set/both.jpg"]
    pq.write_table(pa.table({"path": paths}), tmp_path / "set" / "x.parquet")
    monkeypatch.chdir(tmp_path / "here")
    assert list(find_sources(["../set/x.parquet"], Stores())) == [
        f"{tmp_path}/set/images/a.jpg",
        f"{tmp_path}/set/both.jpg",
        f"{tmp_path}/here/b.jpg",
        f"{tmp_path}/here/absent.jpg",
        f"{tmp_path}/set/both.jpg",
    ]


def test_a_relative_path_in_a_store_stays_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"image": [{"bytes": None, "path": "../b/a.jpg"}]}), tmp_path / "x.parquet")
    stores = Stores()
    monkeypatch.setattr(
        stores, "open", lambda _: (fs.LocalFileSystem(), str(tmp_path / "x.parquet"))
    )  # what a store gives
    group = RowGroup("s3://bucket/set/a/x.parquet", 0, 0, 1)
    assert list(read_images(group, stores, None, 0)) == [("s3://bucket/set/a/x.parquet#0", "s3://bucket/set/b/a.jpg")]

"""The images that the arguments of a bulk job name."""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glass_rt import GlassError
from glass_rt.bulk.sources import RowGroup, find_sources, read_images
from glass_rt.bulk.stores import Location, Stores, locate, split_options
from glass_rt.errors import ImageNotReadable, UsageError
from glass_rt.inference.passed_over import PassedOver


def found(*arguments: object, column: str | None = None) -> list[str | RowGroup]:
    return list(find_sources(map(str, arguments), Stores(), column))


@pytest.fixture
def album(tmp_path: Path, pictures: tuple[Path, ...]) -> Path:
    for name in ("a.jpg", "deep/er/c.jpg", "deep/b.jpg", "deep/.hidden.jpg", "_skipped/d.jpg"):
        (tmp_path / "album" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pictures[0], tmp_path / "album" / name)
    (tmp_path / "album" / "notes.txt").write_text("no image")
    return tmp_path / "album"


def test_a_folder_a_pattern_and_a_file_mean_what_they_mean_to_infer(album: Path) -> None:
    names = [f"{album}/_skipped/d.jpg", f"{album}/a.jpg", f"{album}/deep/b.jpg", f"{album}/deep/er/c.jpg"]
    assert sorted(map(str, found(album))) == names
    assert found(album / "deep" / "*.jpg") == [f"{album}/deep/b.jpg"]
    (album / "dangling.jpg").symlink_to("absent.jpg")
    assert found(album / "dangling.jpg") == [f"{album}/dangling.jpg"]  # which gives an error row


def test_names_are_absolute_and_links_are_not_followed(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link.jpg").symlink_to(album / "a.jpg")
    monkeypatch.chdir(tmp_path)
    assert found("link.jpg", "album/deep/../a.jpg") == [f"{tmp_path}/link.jpg", f"{album}/a.jpg"]


def test_links_to_folders_are_followed_as_by_infer_for_lists_and_parquet_too(album: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(album / "a.jpg", elsewhere)
    pq.write_table(pa.table({"where": ["/x.jpg"]}), elsewhere / "t.parquet")
    (elsewhere / "list.txt").write_text("/y.jpg\n")
    (album / "link").symlink_to(elsewhere)
    (album / "round").symlink_to(album)
    (elsewhere / "back").symlink_to(album)
    names = ["_skipped/d.jpg", "a.jpg", "deep/b.jpg", "deep/er/c.jpg", "link/a.jpg"]
    assert sorted(map(str, found(album))) == [f"{album}/{name}" for name in names]
    assert found(album, column="where") == ["/x.jpg"]
    assert found(album / "**/l*.txt") == ["/y.jpg"]


def test_files_that_look_like_images_and_are_not_read_are_counted(album: Path) -> None:
    (album / "deep" / "x.jxl").touch()
    passed_over = PassedOver()
    list(find_sources([str(album)], Stores(), passed_over=passed_over))
    assert "1 file was passed over, images of kinds that are not read: 1 .jxl" in passed_over.remark()


def test_a_name_that_is_no_utf8_is_found_with_escapes(album: Path) -> None:
    (album / "deep" / os.fsdecode(b"caf\xe9.jpg")).symlink_to(album / "a.jpg")
    assert found(album / "deep" / "c*.jpg") == [rf"{album}/deep/caf\udce9.jpg"]


def test_a_list_holds_a_path_or_uri_per_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "/images/ä b.jpg\n\nrelative.png\ns3://bucket/key?with=mark.jpg\n".encode()
    (tmp_path / "list.txt").write_bytes(lines)
    monkeypatch.chdir(tmp_path)
    expected = ["/images/ä b.jpg", f"{tmp_path}/relative.png", "s3://bucket/key?with=mark.jpg"]
    assert found("list.txt") == expected
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="ascii"))
    assert found("-") == expected


def test_a_list_may_be_of_windows_and_only_line_ends_part_its_names(tmp_path: Path) -> None:
    names = ["/bom.jpg", "/next\x85line.jpg", "/line\u2028separator.jpg", "/form\x0cfeed.jpg", "/blank at end.jpg "]
    (tmp_path / "list.txt").write_bytes("\r\n".join([*names, ""]).encode("utf-8-sig"))
    assert found(tmp_path / "list.txt") == names


def test_a_pattern_of_lists_means_all_that_match(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"/{name}.jpg\n")
    assert found(tmp_path / "*.txt") == ["/a.jpg", "/b.jpg"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_parquet_column_of_strings_holds_paths(tmp_path: Path, kind: pa.DataType) -> None:
    paths = pa.array(["/a.jpg", "s3://b/c.png"]).cast(kind)
    pq.write_table(pa.table({"path": paths, "n": [1, 2]}), tmp_path / "t.parquet")
    assert found(tmp_path / "t.parquet") == ["/a.jpg", "s3://b/c.png"]


def test_a_named_column_makes_a_folder_one_of_parquet_files(tmp_path: Path) -> None:
    for name in ("x.parquet", "deep/y.parquet", "_glass_rt/z.parquet", "other.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"where": [f"/{name}"]}), tmp_path / name)
    assert found(tmp_path, column="where") == ["/deep/y.parquet", "/x.parquet"]


@pytest.mark.parametrize("column", [None, "image.bytes"])
def test_images_inside_parquet_are_found_by_row_group_and_read_from_any_row(tmp_path: Path, column: str | None) -> None:
    cells = [{"bytes": bytes([i]), "path": str(i)} for i in range(25)]
    pq.write_table(pa.table({"label": range(25), "image": cells}), tmp_path / "hf.parquet", row_group_size=20)
    file = f"{tmp_path}/hf.parquet"
    groups = [RowGroup(file, 0, 0, 20), RowGroup(file, 1, 20, 5)]
    assert found(file, column=column) == groups
    assert list(read_images(groups[0], Stores(), column, 18)) == [(f"{file}#18", b"\x12"), (f"{file}#19", b"\x13")]
    assert [name for name, _ in read_images(groups[1], Stores(), column, 0)] == [f"{file}#{n}" for n in range(20, 25)]


@pytest.mark.parametrize(
    ("make", "arguments", "column", "error"),
    [
        (lambda folder: None, ["absent.parquet"], None, "nothing to judge is found"),
        (lambda folder: None, ["absent.txt"], None, "nothing to judge is found"),
        (lambda folder: None, ["phtos/"], None, "phtos/: no such file or folder"),
        (lambda folder: None, ["x[z-a].parquet"], None, "no pattern: bad character range z-a"),
        (
            lambda folder: (folder / "x.txt").write_bytes(b"a.jpg\na\xff.jpg\n"),
            ["x.txt"], None, r"x.txt: line 2 is no UTF-8; .* as \\udcXX",
        ),
        (
            lambda folder: (folder / os.fsdecode(b"\xff.parquet")).touch(),
            [os.fsdecode(b"\xff.parquet")], None, "is no UTF-8; rename it",
        ),
        (
            lambda folder: pq.write_table(pa.table({"bytes": pa.array([], pa.binary())}), folder / "x.parquet"),
            ["x.parquet"], None, "x.parquet: nothing to judge is found",
        ),
        (lambda folder: None, ["*.jpg"], None, "no file matches"),
        (lambda folder: (folder / "empty").mkdir(), ["empty"], None, "holds no images"),
        (lambda folder: (folder / "x.parquet").write_text("x"), ["x.parquet"], None, "x.parquet: "),
        (
            lambda folder: pq.write_table(pa.table({"file": ["a"]}), folder / "x.parquet"),
            ["x.parquet"], None, "no column path nor bytes nor image; it has file",
        ),
        (lambda folder: pq.write_table(pa.table({"path": [1]}), folder / "x.parquet"), ["x.parquet"], None, "int64"),
        (
            lambda folder: pq.write_table(pa.table({"path": ["a"]}), folder / "x.parquet"),
            ["x.parquet"], "path.inner", "no column path.inner",
        ),
        (
            lambda folder: pq.write_table(pa.table({"path": ["a", None]}), folder / "x.parquet"),
            ["x.parquet"], None, "row 1 of column path is null",
        ),
    ],
)  # fmt: skip
def test_an_argument_that_means_no_image_is_an_error_of_the_job(  # type: ignore[no-untyped-def]
    make, arguments: list[str], column: str | None, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GlassError, match=error):
        found(*arguments, column=column)


@pytest.mark.parametrize(
    ("name", "location"),
    [
        ("/a/b c.jpg", Location("", "/a/b c.jpg")),
        ("file:///a/b%20c.jpg", Location("", "/a/b c.jpg")),
        ("s3://bucket/a/b c%20?#.jpg", Location("s3://bucket", "a/b c%20?#.jpg")),
        ("hdfs://host:8020/a.jpg", Location("hdfs://host:8020", "a.jpg")),
    ],
)
def test_a_name_is_split_into_store_and_path_with_every_character_kept(name: str, location: Location) -> None:
    assert locate(name) == location
    assert name.startswith("file") or str(location) == name


def test_options_and_credentials_of_a_store_are_split_off() -> None:
    assert split_options("s3://me:secret@bucket/a/b?scheme=http&region=x") == (
        "s3://bucket/a/b",
        {"s3://bucket": "s3://me:secret@bucket?scheme=http&region=x"},
    )
    assert split_options("s3://bucket/a") == ("s3://bucket/a", {})
    assert split_options("what?.jpg") == ("what?.jpg", {})


def test_a_store_of_no_known_kind_is_named() -> None:
    with pytest.raises(ImageNotReadable, match="nope://host: cannot be opened"):
        Stores().read(locate("nope://host/a.jpg"))


def test_a_store_whose_library_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as where it is not installed
    with pytest.raises(UsageError, match=r"hf://datasets: cannot be opened: .*huggingface_hub"):
        Stores().open(locate("hf://datasets/x.jpg"))


def test_a_name_that_pyarrow_cannot_say_is_an_error_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.jpg")).touch()
    with pytest.raises(GlassError, match=f"{tmp_path}: .* is no UTF-8; rename it"):
        list(Stores().list(Location("", str(tmp_path)), recursive=False))
    with pytest.raises(GlassError, match="is no UTF-8; rename it"):
        Stores().write(Location("", str(tmp_path / os.fsdecode(b"\xff") / "part")), b"")


def test_a_file_gets_its_name_when_its_content_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[bytes, bool]] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        synced.append((os.pread(descriptor, 100, 0), (tmp_path / "part").exists()))

    monkeypatch.setattr(os, "fsync", watched)
    Stores().write(Location("", str(tmp_path / "part")), b"rows")
    assert synced == [(b"rows", False)]
    assert (tmp_path / "part").read_bytes() == b"rows"


def test_a_file_is_written_whole_and_replaced_whole(tmp_path: Path) -> None:
    stores, where = Stores(), Location("", str(tmp_path / "new" / "part.parquet"))
    stores.write(where, b"first")
    stores.write(where, pa.py_buffer(b"second"))
    assert stores.read(where) == b"second"
    (tmp_path / "new" / ".part.parquet.1234.partial").touch()  # of a writer that was killed
    stores.remove_partial(Location("", str(tmp_path / "new")))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["part.parquet"]
    with pytest.raises(ImageNotReadable, match="no such file"):
        stores.read(Location("", str(tmp_path / "absent")))
    (tmp_path / "taken").touch()
    with pytest.raises(GlassError, match="taken"):
        stores.write(Location("", str(tmp_path / "taken" / "part")), b"")

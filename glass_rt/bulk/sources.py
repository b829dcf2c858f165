"""The images that the arguments of a bulk job name: folders, patterns, files, lists, Parquet, on disk or in stores."""

from __future__ import annotations

import os
import posixpath
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from glass_rt.bulk.arrow import pa, pq
from glass_rt.bulk.columns import Cell, ImageColumn, find_column
from glass_rt.bulk.messages import Unreadable
from glass_rt.bulk.stores import LOCAL, Location, Stores, locate
from glass_rt.errors import GlassError, ImageNotReadable, UsageError, first_line
from glass_rt.inference.find_images import IMAGE_SUFFIXES, find_images
from glass_rt.inference.passed_over import OTHER_SUFFIXES, RAW_SUFFIXES, PassedOver
from glass_rt.machine.named_file import read_stream
from glass_rt.results.file_names import name_from_text, text_from_name
from glass_rt.results.verdict import Failure

LIST_SUFFIXES = (".txt", ".lst")
PARQUET_SUFFIXES = (".parquet", ".pq")
_UNREAD = tuple(RAW_SUFFIXES | OTHER_SUFFIXES)


@dataclass(frozen=True)
class RowGroup:
    """Images inside a Parquet file: row group `number` with `rows` of them, its first being row `first` of the file."""

    file: str
    number: int
    first: int
    rows: int


_MOST_OF_LIST = 1 << 32  # bytes: some fifty million names


def find_sources(
    arguments: Iterable[str], stores: Stores, column: str | None = None, passed_over: PassedOver | None = None
) -> Iterator[str | RowGroup]:
    """Names of images, absolute or URIs, and row groups of Parquet files that hold images themselves.

    Names of files that are not UTF-8 are escaped as in `glass_rt.results.file_names`, here, in lists and in Parquet.

    An argument is a folder (its images at any depth, in the order of their names, as `infer` takes them), a pattern, an
    image, a list (`.txt`, `.lst`, `-` for standard input: a path or URI per line) or Parquet (`.parquet`, `.pq`), with
    the images in one column, which `column` names (see `glass_rt.bulk.columns.find_column`); with it every argument
    that is no list is Parquet, a folder all the Parquet files in it. Relative paths start at the current folder, those
    in Parquet at the file's folder. In an object store, images are told by their names alone.
    `passed_over` is told of files that look like images of kinds that are not read. Raises UsageError and GlassError,
    also for an argument that names no image.
    """
    for argument in arguments:
        if argument == "-":
            yield from _or_complain(argument, _names(argument, _read_stdin()))
        elif argument.lower().endswith(LIST_SUFFIXES):
            lists = _files(argument, stores, LIST_SUFFIXES)
            yield from _or_complain(argument, (name for file in lists for name in _listed(file, stores)))
        elif column is not None or argument.lower().endswith(PARQUET_SUFFIXES):
            files = _files(argument, stores, PARQUET_SUFFIXES)
            yield from _or_complain(argument, (item for file in files for item in _in_parquet(file, stores, column)))
        elif "://" in argument:
            yield from map(str, _or_complain(argument, _files(argument, stores, tuple(IMAGE_SUFFIXES), passed_over)))
        else:
            yield from _local(argument, passed_over)


def read_images(
    group: RowGroup, stores: Stores, column: str | None, start: int
) -> Iterator[tuple[str, bytes | str | Unreadable]]:
    """The images of a row group from its row `start` on: a name, `FILE#ROW`, and where the image is.

    It is encoded in the row, or lies under the path or URI that the row has; Unreadable where the row has neither.
    """
    try:
        file = _parquet(locate(group.file), stores)
        images = find_column(file.schema_arrow, group.file, column)
        row = 0
        for batch in file.iter_batches(batch_size=16, row_groups=[group.number], columns=images.leaves):
            for cell in images.cells(batch):
                if row >= start:
                    yield f"{group.file}#{group.first + row}", _source_of(cell, images, group.file)
                row += 1
    except (pa.ArrowException, OSError) as error:
        raise GlassError(f"{group.file}: {first_line(error)}") from error


def _source_of(cell: Cell, images: ImageColumn, file: str) -> bytes | str | Unreadable:
    if cell.data is not None:
        return cell.data
    if cell.path:
        return str(_beside(file, cell.path))
    wanted = " and ".join(images.leaves)
    return Unreadable(f"the row has no image: {wanted} {'are' if len(images.leaves) > 1 else 'is'} null")


def _beside(file: str, name: str) -> Location:
    """The location of a path or URI that stands in a file, relative to the file's folder."""
    if "://" in name or name.startswith("/"):
        return locate(name)
    folder = locate(file)
    path = posixpath.normpath(posixpath.join(posixpath.dirname(folder.path), name))
    return Location(folder.store, path)


def _local(argument: str, passed_over: PassedOver | None) -> Iterator[str]:
    for found in find_images([argument], passed_over):
        if isinstance(found, Failure):
            raise GlassError(f"{argument}: {found.error}")
        if found == argument and not os.path.lexists(found):  # mistyped; names in lists get their rows
            raise GlassError(f"{argument}: no such file or folder")
        yield text_from_name(str(locate(found)))


def _read_stdin() -> bytes:
    try:
        return read_stream(sys.stdin.buffer.read, _MOST_OF_LIST, _check_names)
    except OSError as error:
        raise GlassError(f"-: standard input cannot be read: {error.strerror}") from error


def _check_names(first: bytes) -> None:
    if b"\0" in first:
        raise GlassError("-: standard input is no list of paths: it holds NUL bytes")


def _listed(file: Location, stores: Stores) -> Iterator[str]:
    try:
        return _names(str(file), stores.read(file))
    except ImageNotReadable as error:
        raise GlassError(f"{file}: {error}") from error


def _names(name: str, data: bytes) -> Iterator[str]:
    """The names in a list: the text between line ends, with the blanks around it."""
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise GlassError(
            f"{name}: line {line} is no UTF-8; a byte XX of a name that is none is written as \\udcXX"
        ) from error
    return (str(locate(line.removesuffix("\r"))) for line in lines if line.strip())


def _files(
    argument: str, stores: Stores, suffixes: tuple[str, ...], passed_over: PassedOver | None = None
) -> Iterator[Location]:
    """The file of that name, those in the folder of that name, or those that match the pattern."""
    where = locate(argument)
    magic = re.search(r"[*\[]", where.path)
    if magic is not None and stores.kind(where) == "nothing":
        folder = Location(where.store, where.path[: magic.start()].rpartition("/")[0])
        pattern = _pattern(where.path)
        return (file for file in stores.list(folder, recursive=True) if pattern.fullmatch(file.path))
    if where.path and stores.kind(where) == "file":
        return iter([where])
    return _in_folder(where, stores, suffixes, passed_over)


def _in_folder(
    where: Location, stores: Stores, suffixes: tuple[str, ...], passed_over: PassedOver | None
) -> Iterator[Location]:
    start = len(where.path.rstrip("/"))
    for file in stores.list(where, recursive=True):
        if any(part.startswith((".", "_")) for part in PurePosixPath(file.path[start:].lstrip("/")).parts):
            continue
        if file.path.lower().endswith(suffixes):
            yield file
        elif passed_over is not None and file.path.lower().endswith(_UNREAD):
            passed_over.note(str(file))


def _pattern(text: str) -> re.Pattern[str]:
    """`*` and `[...]` within a name, `**/` across folders; `?` is the mark before a URI's options."""
    out = ""
    for part in re.split(r"(\*\*/|\*|\[[^\]/]+\])", text):
        if part == "**/":
            out += "(?:.*/)?"
        elif part == "*":
            out += "[^/]*"
        elif part.startswith("[") and part.endswith("]"):
            out += "[" + part[1:-1].replace("\\", r"\\").replace("!", "^", 1 if part[1] == "!" else 0) + "]"
        else:
            out += re.escape(part)
    try:
        return re.compile(out)
    except re.error as error:
        raise UsageError(f"{text}: no pattern: {error}") from error


def _or_complain(argument: str, found: Iterator[Any]) -> Iterator[Any]:
    empty = True
    for item in found:
        empty = False
        yield item
    if empty:
        raise GlassError(f"{argument}: nothing to judge is found there")


def _in_parquet(where: Location, stores: Stores, column: str | None) -> Iterator[str | RowGroup]:
    try:
        file = _parquet(where, stores)
        images = find_column(file.schema_arrow, str(where), column)
        if images.bytes is None and images.path == images.name:
            yield from _paths(file, where, images)
            return
        first = 0
        for number in range(file.num_row_groups):
            rows = file.metadata.row_group(number).num_rows
            if rows:
                yield RowGroup(str(where), number, first, rows)
            first += rows
    except (pa.ArrowException, OSError) as error:
        raise GlassError(f"{where}: {first_line(error)}") from error


def _paths(file: Any, where: Location, images: ImageColumn) -> Iterator[str]:
    """The names in a column of paths. One that is not beside the file is taken from the current folder, as in lists."""
    row = 0
    for batch in file.iter_batches(columns=images.leaves):
        for cell in images.cells(batch):
            if cell.path is None:
                raise UsageError(f"{where}: row {row} of column {images.name} is null; every image needs a path")
            row += 1
            found = _beside(str(where), cell.path)
            here = found.store != LOCAL or os.path.lexists(name_from_text(found.path))
            yield str(found if here else locate(cell.path))


def _parquet(where: Location, stores: Stores) -> Any:
    if where.store == LOCAL and not Path(where.path).is_file():
        raise GlassError(f"{where}: no such file")
    files, path = stores.open(where)
    return pq.ParquetFile(path, filesystem=files)

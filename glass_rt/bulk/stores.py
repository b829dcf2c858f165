"""Files by path or URI: on disk, or in a store that pyarrow can open (`s3://`, `gs://`, `abfs://`, `hdfs://`, ...).

A URI given as an argument may carry its store's options as pyarrow spells them, and credentials:
`s3://bucket/photos?endpoint_override=127.0.0.1:9000&scheme=http`. They open the store and are then dropped: the
plan and the rows hold `s3://bucket/photos/a.jpg`, with the key as it is, nothing quoted.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from glass_rt.bulk.arrow import fs, pa
from glass_rt.errors import GlassError, ImageNotReadable, UsageError, first_line
from glass_rt.machine.folders import walk

LOCAL = ""
_ATOMIC_PUT = ("s3", "gcs", "gs", "abfs", "abfss")  # an object appears when it is whole, and renaming copies it


@dataclass(frozen=True)
class Location:
    """A path and the store that it is in.

    `store` is `scheme://bucket` (for HDFS the host), or LOCAL; `path` a key without leading slash, or an absolute path.
    """

    store: str
    path: str

    def __str__(self) -> str:
        return f"{self.store}/{self.path}" if self.store else self.path

    def __truediv__(self, name: str) -> Location:
        return Location(self.store, f"{self.path.rstrip('/')}/{name}" if self.path else name)


def locate(name: str) -> Location:
    """The location that a path or URI names, every character of a key taken as it is."""
    if "://" not in name:
        return Location(LOCAL, os.path.abspath(name))  # noqa: PTH100  # Path.resolve would follow links
    scheme, rest = name.split("://", 1)
    if scheme == "file":
        return Location(LOCAL, unquote(rest))
    bucket, _, key = rest.partition("/")
    return Location(f"{scheme}://{bucket}", key)


def split_options(argument: str) -> tuple[str, dict[str, str]]:
    """An argument without options and credentials, and the URI by which its store is opened if it had any."""
    if "://" not in argument or argument.startswith("file:"):
        return argument, {}
    address, mark, query = argument.partition("?")
    scheme, rest = address.split("://", 1)
    authority, slash, key = rest.partition("/")
    bucket = authority.rpartition("@")[2]
    plain = f"{scheme}://{bucket}{slash}{key}"
    if not query and bucket == authority:
        return plain, {}
    return plain, {f"{scheme}://{bucket}": f"{scheme}://{authority}{mark}{query}"}


class Stores:
    """Opens stores once and reads and writes their files. `roots`: URIs with options by store (see split_options)."""

    def __init__(self, roots: Mapping[str, str] | None = None) -> None:
        self.roots = dict(roots or {})
        self._opened: dict[str, tuple[Any, str]] = {}

    def open(self, where: Location) -> tuple[Any, str]:
        """The pyarrow filesystem of a location and its path there. Raises UsageError for a store that has none."""
        if where.store == LOCAL:
            return _LOCAL_FILES, where.path
        if where.store not in self._opened:
            root = self.roots.get(where.store, where.store)
            try:
                self._opened[where.store] = fs.FileSystem.from_uri(root)
            except (pa.ArrowException, OSError, ValueError, ImportError) as error:
                raise UsageError(f"{where.store}: cannot be opened: {first_line(error)}") from error
        files, prefix = self._opened[where.store]
        return files, f"{prefix.rstrip('/')}/{where.path}"

    def read(self, where: Location) -> bytes:
        """The bytes of a file. Raises ImageNotReadable with the store's reason."""
        try:
            files, path = self.open(where)
            with files.open_input_stream(path) as stream:
                data: bytes = stream.read()
                return data
        except FileNotFoundError:
            raise ImageNotReadable("no such file") from None
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ImageNotReadable(f"the file cannot be read: {first_line(error)}") from error

    def kind(self, where: Location) -> str:
        """`file`, `folder` or `nothing`."""
        files, path = self.open(where)
        kind = _told(where, lambda: files.get_file_info(path.rstrip("/"))).type
        return {fs.FileType.File: "file", fs.FileType.Directory: "folder"}.get(kind, "nothing")

    def list(self, folder: Location, *, recursive: bool) -> Iterator[Location]:
        """Files of a folder in the order of their names; nothing where there is no such folder.

        On disk, links to folders are followed as `folders.walk` does.
        """
        if folder.store == LOCAL and recursive:
            yield from sorted(_told(folder, lambda: list(_below(folder))), key=lambda found: found.path)
            return
        files, path = self.open(folder)
        selector = fs.FileSelector(path.rstrip("/"), recursive=recursive, allow_not_found=True)
        found = _told(folder, lambda: [(info.path, info.type) for info in files.get_file_info(selector)])
        prefix = len(path.rstrip("/")) + 1
        for name in sorted(name for name, kind in found if kind == fs.FileType.File):
            yield folder / name[prefix:]

    def write(self, where: Location, data: Any) -> None:
        """Writes bytes or an Arrow buffer. The file appears whole or not at all; an existing one is replaced."""
        files, path = self.open(where)

        def put() -> None:
            if where.store.partition(":")[0] in _ATOMIC_PUT:
                with files.open_output_stream(path) as stream:
                    stream.write(data)
                return
            folder, _, name = path.rpartition("/")
            files.create_dir(folder, recursive=True)
            partial = f"{folder}/.{name}.{uuid.uuid4().hex[:8]}.partial"
            try:
                with files.open_output_stream(partial) as stream:
                    stream.write(data)
                if where.store == LOCAL:  # else after a power failure the name might be there without the content
                    with Path(partial).open("rb+") as file:
                        os.fsync(file.fileno())
                files.move(partial, path)
            except BaseException:
                _remove(files, partial)
                raise

        _told(where, put)

    def remove_partial(self, folder: Location) -> None:
        """Removes the files that killed writers left in a folder. No writer may be at work."""
        files, _ = self.open(folder)
        for found in list(self.list(folder, recursive=False)):
            if found.path.endswith(".partial"):
                _remove(files, self.open(found)[1])


def _below(folder: Location) -> Iterator[Location]:
    def note(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    for where, names in walk(folder.path, note, hidden=True):
        for name in names:
            path = f"{where.rstrip('/')}/{name}"
            path.encode()  # UnicodeError: Arrow could not open it
            if os.path.isfile(path):
                yield Location(LOCAL, path)


def _remove(files: Any, path: str) -> None:
    with suppress(pa.ArrowException, OSError):  # the error under way says more than one of the clean-up
        files.delete_file(path)


def _told(where: Location, act: Any) -> Any:
    """The result of `act`; a store's error becomes a GlassError that names the place."""
    try:
        return act()
    except UnicodeError as error:  # pyarrow's paths are text
        raise GlassError(f"{where}: this name, or one in this folder, is no UTF-8; rename it") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise GlassError(f"{where}: {first_line(error)}") from error


_LOCAL_FILES = fs.LocalFileSystem()

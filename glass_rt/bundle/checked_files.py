"""The files of a bundle, each compared with its manifest entry and read through the descriptor that was compared."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from glass_rt.bundle.hashed_files import hashed_files
from glass_rt.bundle.manifest import FileEntry
from glass_rt.bundle.onnx_references import external_files
from glass_rt.errors import BundleInvalid
from glass_rt.machine.file_names import one_line
from glass_rt.machine.private_copy import private_copy
from glass_rt.machine.regular_file import RegularFile

REBUILD = "rebuild the bundle: glass-rt build"
_MOST_TENSORS = 1 << 30  # bytes; heads and reference values have a few megabytes
_ANY = 1 << 62


class CheckedFiles:
    """The files that a manifest lists, in the folder `path`.

    Files of the names `held` stay open from `check` until `open` gives them away, so that what is handed to a library
    is what was compared, and nothing is read twice; nor is a large file that this process had compared before, for
    another bundle, and that has not changed since. Where the files are `pinned`, `open` gives a private copy that was
    compared while it was made: not even a write into the file changes what a library reads.
    """

    def __init__(self, path: Path, entries: Mapping[str, FileEntry], *, pinned: bool = False) -> None:
        self.path = path
        self.pinned = pinned
        self._entries = entries
        self._held: dict[str, RegularFile] = {}

    def check(self, names: Iterable[str], *, held: Iterable[str] = (), folder: int | None = None) -> None:
        """Compares files with their entries; `folder` is a descriptor of the folder. Raises BundleInvalid by name."""
        keep = set(held)
        for name in dict.fromkeys(names):
            file = self._compared(name, folder)
            if name in keep:
                self._held[name] = file
            else:
                file.close()

    def check_references(self, graph: str) -> None:
        """Raises BundleInvalid where an ONNX graph takes weights from a file that is not listed."""
        file = self._held.get(graph) or self._compared(graph)
        self.references(graph, file)

    def references(self, graph: str, file: RegularFile) -> Mapping[str, str]:
        """Locations that the ONNX graph `graph`, open as `file`, takes weights from, and the names listed for them.

        Raises BundleInvalid where one is not listed.
        """
        try:
            locations = external_files(file)
        except ValueError as error:
            raise BundleInvalid(f"{file.path} is not an ONNX graph: {error}; {REBUILD}") from None
        found = {location: posixpath.normpath(_beside(graph, location)) for location in locations}
        for location, name in found.items():
            if name not in self._entries:
                raise BundleInvalid(
                    f"{file.path} takes weights from {location[:100]!r}, which the manifest does not list; {REBUILD}"
                )
        return found

    def sha256(self, name: str) -> str:
        """What the manifest says of a file's content. Raises BundleInvalid where it lists none of that name."""
        if name not in self._entries:
            raise BundleInvalid(f"{self.path / one_line(name)} is not listed in the manifest")
        return self._entries[name].sha256

    def open(self, name: str) -> RegularFile:
        """The file, compared with its entry; the caller closes it. Raises BundleInvalid."""
        file = self._held.pop(name, None) or self._compared(name)
        if not self.pinned:
            return file
        try:
            return private_copy(file.path, self._compared_chunks(file, self._entries[name]))
        finally:
            file.close()

    def read(self, name: str, most: int = _MOST_TENSORS) -> bytes:
        """The content of a file of at most `most` bytes: the very bytes that were compared. Raises BundleInvalid."""
        file = self._held.pop(name, None) or self._sized(name)
        try:
            if file.size > most:
                raise BundleInvalid(f"{file.path} is larger than any of its kind; {REBUILD}")
            content = file.read(self._entries[name].size + 1)
        except OSError as error:
            raise BundleInvalid(f"{file.path} cannot be read: {error.strerror}") from error
        finally:
            file.close()
        if hashlib.sha256(content).hexdigest() != self._entries[name].sha256:
            raise _altered(file.path)
        return content

    def _compared(self, name: str, folder: int | None = None) -> RegularFile:
        """The file; one that this process has hashed and that has not changed is not read again, unless pinned."""
        file, entry = self._sized(name, folder), self._entries[name]
        if not self.pinned and hashed_files().digest(file) == entry.sha256:
            return file
        before = os.fstat(file.descriptor)
        try:
            for _ in self._compared_chunks(file, entry):
                pass
        except BaseException:
            file.close()
            raise
        if not self.pinned:
            hashed_files().note(file, before, entry.sha256)
        return file

    def _sized(self, name: str, folder: int | None = None) -> RegularFile:
        path = self.path / one_line(name)
        if name not in self._entries:
            raise BundleInvalid(f"{path} is not listed in the manifest")
        try:
            file = RegularFile.open(self.path / name if folder is None else path, name, folder)
        except (FileNotFoundError, NotADirectoryError):
            raise BundleInvalid(f"{path} is missing; {REBUILD}") from None
        except OSError as error:
            raise BundleInvalid(f"{path} cannot be read: {error.strerror}") from error
        size, entry = file.size, self._entries[name]
        if size != entry.size:
            file.close()
            raise BundleInvalid(
                f"{path} has {size} bytes, the manifest says {entry.size}: it was altered or cut short; {REBUILD}"
            )
        return file

    @staticmethod
    def _compared_chunks(file: RegularFile, entry: FileEntry) -> Iterator[bytes]:
        """The content; raises BundleInvalid after the last piece where it is not what the manifest says."""
        digest, size = hashlib.sha256(), 0
        try:
            for chunk in file.chunks(entry.size + 1):  # a file that grows meanwhile is altered, and never ends
                digest.update(chunk)
                size += len(chunk)
                yield chunk
        except OSError as error:
            raise BundleInvalid(f"{file.path} cannot be read: {error.strerror}") from error
        if size != entry.size or digest.hexdigest() != entry.sha256:
            raise _altered(file.path)


@dataclass(frozen=True)
class EngineFile:
    """An engine as its backend reads it, with the files beside it.

    `path` is where it lies, for messages. `files` is None for an engine of no bundle, such as one that is being built:
    its files are read as they lie.
    """

    path: Path
    files: CheckedFiles | None = None
    name: str = ""

    @classmethod
    def of(cls, engine: Path | EngineFile) -> EngineFile:
        """The engine, or the one at a path."""
        return engine if isinstance(engine, EngineFile) else cls(engine, None, engine.name)

    @property
    def pinned(self) -> bool:
        """Whether a user pinned the bundle: then nothing is read that the pin does not cover."""
        return self.files is not None and self.files.pinned

    def open(self, suffix: str | None = None) -> RegularFile:
        """The engine's file, or the one that differs in its suffix; the caller closes it.

        Raises BundleInvalid, or OSError for an engine of no bundle.
        """
        if self.files is None:
            return RegularFile.open(self.path if suffix is None else self.path.with_suffix(suffix))
        return self.files.open(self.name if suffix is None else with_suffix(self.name, suffix))

    def sha256(self, suffix: str | None = None) -> str:
        """What the manifest says of the engine's file, or of the one that differs in its suffix. Raises BundleInvalid.

        Only engines of bundles have it.
        """
        assert self.files is not None, "an engine of no bundle has no manifest"
        return self.files.sha256(self.name if suffix is None else with_suffix(self.name, suffix))

    def read(self) -> bytes:
        """The engine's content, held once. Raises as `open` does."""
        if self.files is not None and self.files.pinned:
            return self.files.read(self.name, _ANY)
        with closing(self.open()) as file:
            return file.read(file.size)


def _altered(path: Path) -> BundleInvalid:
    return BundleInvalid(f"{path} was altered (its SHA-256 differs); {REBUILD}")


def with_suffix(name: str, suffix: str) -> str:
    """A name of a manifest with another suffix."""
    return PurePosixPath(name).with_suffix(suffix).as_posix()


def _beside(graph: str, location: str) -> str:
    return posixpath.join(posixpath.dirname(graph), location.replace(os.sep, "/"))

"""A file that one process appends rows to, and whose loss it notices."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from glass_rt.errors import GlassError, OutputLost, UsageError
from glass_rt.machine.one_writer import Taken, in_use, names_file, open_locked, writer_of

LONGEST_ROW = 1 << 26  # bytes; every window of an image of 10 gigapixels takes a third of that
_CHUNK = 1 << 20
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class RowsFile:
    """An existing or new regular file, locked for this process, that rows of bytes are appended to.

    Another program may delete, move, replace or change the file all the same. `append` and `close` notice it and raise
    OutputLost. Rows of a deleted or replaced file are then in a file beside it.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path = path
        if not resume:
            check_new(path)
        check_regular(path)
        try:
            self._descriptor = open_locked(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        except Taken as taken:
            raise UsageError(f"output: {in_use(path, taken)}") from None
        except OSError as error:
            raise GlassError(f"output: {path} cannot be written: {error.strerror}") from error
        self._end = os.fstat(self._descriptor).st_size
        self._lost: OutputLost | None = None
        if self._end and not resume:  # another run made it and has ended, all in the last moment
            os.close(self._descriptor)
            raise UsageError(_exists(path))

    def __len__(self) -> int:
        """Bytes of all rows."""
        return self._end

    def lines(self) -> Iterator[bytes]:
        """The file line by line, with line ends. A line is cut where it is longer than LONGEST_ROW."""
        with self._reader() as file:
            while line := file.readline(LONGEST_ROW):
                yield line

    def cut(self, size: int) -> None:
        """Keeps the first `size` bytes. Raises GlassError."""
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            raise GlassError(f"output: {self.path} cannot be written: {error.strerror}") from error
        self._end = size

    def append(self, row: bytes) -> None:
        """Hands a row to the system. Raises GlassError where the disk is full: no part of the row is in the file then.

        Raises OutputLost.
        """
        self.check()
        left = memoryview(row)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            raise GlassError(f"output: {self.path} cannot be written: {error.strerror}; --resume goes on") from error
        self._end += len(row)
        size = os.fstat(self._descriptor).st_size
        if size < self._end:  # cut just now: the row stands after a part of another one
            os.ftruncate(self._descriptor, max(0, size - len(row)))
            self.check()

    def check(self) -> None:
        """Raises OutputLost where the file is not there any more, or is not as it was written."""
        if self._lost is not None:
            raise self._lost
        here = os.fstat(self._descriptor)
        if here.st_size != self._end:
            self._lost = OutputLost(self._changed(here.st_size))
        elif not names_file(self.path, here):
            self._lost = OutputLost(self._gone(here))
        if self._lost is not None:
            raise self._lost

    def close(self) -> None:
        """Gives the lock back. Raises OutputLost where that has not been said, though the file is closed then too."""
        try:
            if self._lost is None and self._descriptor >= 0:
                self.check()
        finally:
            self._release()

    def remove(self) -> None:
        """Deletes and closes the file; nothing happens where it is closed already."""
        if self._descriptor < 0:
            return
        if os.name == "nt":  # where open files cannot be deleted, and there is no lock to keep
            self._release()
        try:
            self.path.unlink()
        finally:
            self._release()

    def _release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _reader(self) -> BinaryIO:
        file = os.fdopen(os.dup(self._descriptor), "rb")
        file.seek(0)
        return file

    def _changed(self, size: int) -> str:
        if size < self._end:
            return (
                f"output: {self.path} was cut from {self._end} to {size} bytes by another program while this run wrote "
                "it; --resume judges the images again whose rows are gone"
            )
        return (
            f"output: {self.path} was changed by another program while this run wrote it; --resume goes on with what "
            "is whole in it, and names a line that is not"
        )

    def _gone(self, here: os.stat_result) -> str:
        what = "replaced by another file" if os.path.lexists(self.path) else "deleted"
        if here.st_nlink and (moved := self._moved_to(here)) is not None:
            return f"output: {self.path} was moved to {moved} while this run wrote it; all rows are there"
        rescued = self._rescue()
        if rescued is None:
            return f"output: {self.path} was {what} while this run wrote it; its rows are lost, no disk takes them"
        return (
            f"output: {self.path} was {what} while this run wrote it; its rows are in {rescued}, and "
            f"--output {rescued} --resume goes on"
        )

    def _moved_to(self, here: os.stat_result) -> Path | None:
        with suppress(OSError):
            moved = Path(f"/proc/self/fd/{self._descriptor}").readlink()
            if names_file(moved, here):
                return moved
        return None

    def _refuges(self) -> Iterator[Path]:
        yield self.path.parent
        with suppress(OSError):  # the current folder may be gone too
            yield Path.cwd()
        with suppress(OSError):
            yield Path(tempfile.gettempdir())

    def _rescue(self) -> Path | None:
        """Copies the rows into a new file, beside the one that is gone where that is possible."""
        for folder in self._refuges():
            with suppress(OSError):
                rescued = free_name(folder / self.path.name)
                with self._reader() as rows, rescued.open("xb") as file:
                    try:
                        while chunk := rows.read(_CHUNK):
                            file.write(chunk)
                        file.flush()
                    except OSError:
                        rescued.unlink()
                        raise
                return rescued
        return None


def free_name(path: Path) -> Path:
    """A name beside `path` that is not taken, for the rows of a file that is gone."""
    number = 1
    while os.path.lexists(name := path.with_name(f"{path.stem[:200]}.rescued-{number}{path.suffix}")):
        number += 1
    return name


def check_regular(path: Path) -> os.stat_result | None:
    """The status of the file, None where there is none.

    Raises UsageError where `path` is no regular file, and GlassError where the system does not say.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise GlassError(f"output: {path} cannot be written: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise UsageError(f"output: {path} is {kind}; results go to a regular file, or with --jsonl to standard output")
    return status


def check_new(*paths: Path) -> None:
    """Raises UsageError for the first of these files that exists."""
    for path in paths:
        if (status := check_regular(path)) is not None:
            raise UsageError(_refusal(path, status))


def _refusal(path: Path, status: os.stat_result) -> str:
    writer = writer_of(status)
    return f"output: {in_use(path, Taken(writer))}" if writer else _exists(path)


def _exists(path: Path) -> str:
    return f"output: {path} exists already; --resume goes on with it, another name starts afresh"

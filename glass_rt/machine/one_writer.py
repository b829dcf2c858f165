"""One writer at a time for a file or a folder: locks of the system, which end with the process that holds them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from glass_rt.errors import GlassError, UsageError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None

_TAKEN = (errno.EWOULDBLOCK, errno.EACCES)  # other errors: this file system has no locks
_LOCKS = Path("/proc/locks")


class Taken(Exception):
    """Another process is the writer; the message names it, such as `process 4711`."""


def lock(descriptor: int) -> None:
    """Makes this process the writer of an open file or folder until the descriptor is closed. Raises Taken.

    Where the file system has no locks, nothing is locked.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            raise Taken(writer_of(os.fstat(descriptor)) or "another process") from None


def writer_of(status: os.stat_result) -> str | None:
    """The process that has locked this file or folder, such as `process 4711`; None where Linux knows of none."""
    try:
        rows = [line.split() for line in _LOCKS.read_text().splitlines()]
    except OSError:
        return None
    found = {row[5]: row[4] for row in rows if len(row) == 8 and row[1] == "FLOCK" and _inode(row[5]) == status.st_ino}
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    # Some file systems give their files another device number than the one that is listed.
    process = found.get(device) or (next(iter(found.values())) if len(found) == 1 else None)
    return f"process {process}" if process is not None and int(process) > 0 else None


def _inode(place: str) -> int:
    return int(place.rpartition(":")[2])


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Holds the lock of the file `path`, which is made for it and removed afterwards. Raises Taken, OSError.

    A process that is killed leaves the file behind, unlocked: the next one takes it.
    """
    descriptor = open_locked(path, os.O_RDWR | os.O_CREAT)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is locked: nobody can hold it by this name
        os.close(descriptor)


@contextmanager
def only_writer_in(folder: Path) -> Iterator[None]:
    """Makes this process the only one that writes into `folder`, which is made where it is not there.

    Raises UsageError where another process is at it, and GlassError where the folder cannot be made or opened. A folder
    that was made and is still empty goes again.
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = None if fcntl is None else open_locked(folder, os.O_RDONLY)
    except Taken as taken:
        raise UsageError(in_use(folder, taken)) from None
    except OSError as error:
        raise GlassError(f"{folder} cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        if made:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        if descriptor is not None:
            os.close(descriptor)


def in_use(target: Path | str, taken: Taken) -> str:
    """The message for those who come second."""
    return f"{target} is being written by {taken}; wait until it has ended, or choose another name"


def open_locked(path: Path, flags: int) -> int:
    """A descriptor of `path`, opened with `flags` and locked, which stands for that name now. Raises Taken, OSError."""
    while True:
        descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0), 0o666)
        try:
            lock(descriptor)
            if names_file(path, os.fstat(descriptor)):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was removed by the writer before us


def names_file(path: Path, status: os.stat_result) -> bool:
    """Whether `path` names this very file or folder."""
    try:
        there = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino)

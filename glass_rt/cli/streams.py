"""The standard streams of a command: closed ones, full ones, and readers that have gone."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any


def open_streams() -> Results | None:
    """Gives streams that were closed a descriptor on which reading or writing fails, and makes stderr fail silently.

    Else the next files that are opened, results among them, would be the standard streams of every library. Names in
    no encoding of the locale are written with escapes on stdout, as Python does on stderr. Returns what notes that
    stdout fails; None where it is another one than the process's.
    """
    for descriptor, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        _fill(descriptor, flags)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  # for the life of the process
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
        remarks = Remarks(2, "w", closefd=False)
        sys.stderr = io.TextIOWrapper(remarks, encoding, "backslashreplace", line_buffering=True)
    if sys.stdout is not None and sys.stdout is not sys.__stdout__:
        return None
    encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
    results = Results(1, "w", closefd=False)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(results), encoding, "backslashreplace", line_buffering=results.isatty()
    )
    return results


def _fill(descriptor: int, flags: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, flags)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
        os.set_inheritable(descriptor, True)


class Remarks(io.FileIO):
    """Standard error: what cannot be said there cannot be said at all, and is no reason to stop."""

    def write(self, data: Any) -> int:
        """Writes what can be written of `data`, and says that all was."""
        left = memoryview(data).cast("B")
        size = len(left)
        with suppress(OSError):
            while left:
                left = left[super().write(left) or len(left) :]
        return size


class Results(io.FileIO):
    """Standard output, which keeps the first error of writing."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        """As any file."""
        try:
            return super().write(data)
        except OSError as error:
            self.failure = self.failure or error
            raise

    def end(self) -> OSError | None:
        """Hands to the system what was printed, and returns why that could not be done."""
        with suppress(OSError):
            sys.stdout.flush()
        if self.failure is not None:  # Python would try again when it ends
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.close(nowhere)
        return self.failure


def reason(error: OSError) -> str:
    """Why a standard stream cannot be used."""
    return "it is closed" if error.errno == errno.EBADF else str(error.strerror or error)

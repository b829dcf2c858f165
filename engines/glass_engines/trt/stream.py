"""A plan written to disk while the builder hands it over: it is never whole in memory. TensorRT 10.16 and later."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import IO, Any


def stream_writer(trt: Any, file: IO[bytes]) -> Any:
    """The vendor's IStreamWriter into `file`. `failure` is what went wrong with the disk, if anything did.

    An exception may not pass through the vendor's C++: it is kept, and the builder told that nothing was written.
    """

    class Writer(trt.IStreamWriter):  # type: ignore[misc]  # the base is only known at run time
        def __init__(self) -> None:
            trt.IStreamWriter.__init__(self)
            self.failure: OSError | None = None

        def write(self, data: bytes) -> int:
            try:
                return file.write(data)
            except OSError as error:
                self.failure = error
                return 0

    return Writer()


def return_freed_memory() -> None:
    """Gives back what the C library keeps of freed memory, where it has a call for that (glibc).

    A builder frees weights in pieces of some megabytes, which glibc keeps for later: 147 MB of them for ViT-B/16.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)

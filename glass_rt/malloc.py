"""How glibc's malloc keeps memory that was freed, for processes that are glass-rt's own.

Left to itself it serves arrays of up to 32 MB from heaps, one per thread, once one such array was freed; heaps give
memory back only from their end. With decoding threads that come to 80 to 200 MB that nobody uses.
"""

from __future__ import annotations

import ctypes
import os

_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE = 1 << 20  # bytes from which an array gets pages of its own, and gives them back when it is freed
_CHOSEN_BY_USER = ("MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def give_back_large_arrays() -> None:
    """Lets malloc give large arrays back to the system as soon as they are freed; for the rest of the process's life.

    To be called where a process of glass-rt's own starts: a library that is imported has no say in this. Nothing
    happens without glibc, or where the environment says how malloc is to be.
    """
    if any(name in os.environ for name in _CHOSEN_BY_USER):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # TypeError: Windows, where there is no such thing as None
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE)

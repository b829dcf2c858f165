"""glibc keeps large arrays that were freed; glass-rt's own processes have it give them back."""

import os
import platform
import subprocess
import sys

import pytest

KEPT_MB = """
import ctypes
from pathlib import Path

def resident_mb():
    return next(int(l.split()[1]) for l in Path("/proc/self/status").open() if l.startswith("RssAnon")) / 1024

malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
malloc.argtypes, malloc.restype, free.argtypes = [ctypes.c_size_t], ctypes.c_void_p, [ctypes.c_void_p]
free(malloc(28 << 20))  # from here on glibc takes arrays of this size from its heap
before = resident_mb()
large = malloc(20 << 20)
ctypes.memset(ctypes.c_void_p(large), 1, 20 << 20)
behind = malloc(4 << 20)  # the heap cannot shrink past it
free(large)
print(resident_mb() - before)
"""


def kept_mb(first: str, **environment: str) -> float:
    """MB that a process keeps of 20 that it freed."""
    done = subprocess.run(
        [sys.executable, "-c", first + KEPT_MB],
        env={name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_large_arrays_are_given_back_unless_the_user_set_malloc_up() -> None:
    set_up = "from glass_rt.machine.malloc import give_back_large_arrays\ngive_back_large_arrays()\n"
    assert kept_mb("") > 18
    assert kept_mb(set_up) < 2
    assert kept_mb(set_up, MALLOC_MMAP_THRESHOLD_=str(64 << 20)) > 18

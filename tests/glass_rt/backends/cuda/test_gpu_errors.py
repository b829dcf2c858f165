"""Which of the driver's errors lose a context: those of which NVIDIA says so, in the documentation of the bindings."""

from __future__ import annotations

from typing import Any

import pytest

from glass_rt.backends.cuda.gpu import LOST, GpuError, GpuOutOfMemory, gpu_error

driver: Any = pytest.importorskip("cuda.bindings.driver", reason="cuda-core is not installed")
INCONSISTENT = "leaves the process in an inconsistent state"


def test_every_error_that_leaves_the_process_inconsistent_loses_the_context() -> None:
    told = {member.name: " ".join((member.__doc__ or "").split()) for member in driver.CUresult}
    if not any(told.values()):
        pytest.skip("these bindings document no errors")
    found = {name.removeprefix("CUDA_ERROR_") for name, words in told.items() if INCONSISTENT in words}
    assert len(found) > 8
    assert found - LOST == set()


def test_every_error_that_loses_the_context_is_one_of_the_drivers() -> None:
    known = {member.name.removeprefix("CUDA_ERROR_") for member in driver.CUresult}
    assert LOST - known <= {"CONTAINED", "TENSOR_MEMORY_LEAK"}, "those of newer drivers than the bindings"


@pytest.mark.parametrize(
    ("status", "kind", "lost"),
    [
        ("CUDA_ERROR_ILLEGAL_ADDRESS", GpuError, True),
        ("CONTAINED", GpuError, True),
        ("NVLINK_UNCORRECTABLE", GpuError, True),
        ("DEINITIALIZED", GpuError, True),  # at the end of a process
        ("DEVICE_UNAVAILABLE", GpuError, False),  # another process has it for itself
        ("INVALID_VALUE", GpuError, False),
        ("CUDA_ERROR_OUT_OF_MEMORY", GpuOutOfMemory, False),
    ],
)
def test_a_lost_context_is_told_from_a_refused_call(status: str, kind: type, lost: bool) -> None:
    error = gpu_error("cuCall", status)
    assert type(error) is kind
    assert error.lost == lost
    assert ("restart this process" in str(error)) == lost

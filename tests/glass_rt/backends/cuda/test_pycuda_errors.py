"""What pycuda's errors become, by a stand-in for `pycuda.driver`: its classes, and the sentences of NVIDIA's driver.

pycuda 2026.1 says `CALL failed: ` and what cuGetErrorString says (src/cpp/cuda.hpp); which class an error is of is in
src/wrapper/wrap_cudadrv.cpp. test_bindings_gpu.py has pycuda itself, where it is installed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from glass_rt.backends.cuda.gpu import GpuError, GpuOutOfMemory

MODULE = "glass_rt.backends.cuda.pycuda_gpu"


class Error(Exception):
    """pycuda.driver.Error; its subclasses have pycuda's names."""


CLASSES = {name: type(name, (Error,), {}) for name in ("MemoryError", "LogicError", "LaunchError", "RuntimeError")}


class Driver(ModuleType):
    """Works until `refuse` is set (and `later` calls more), and afterwards, where `lost` is set too, never again."""

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.Error = Error
        self.refuse: Error | None = None
        self.lost = False
        self.later = 0
        self.Context = Context
        self.__dict__.update(CLASSES)

    def respond(self) -> None:
        error = self.refuse
        self.later -= 1
        if error is not None and self.later < 0:
            self.refuse = error if self.lost else None
            raise error

    def init(self) -> None:
        self.respond()

    def mem_alloc(self, nbytes: int) -> int:
        self.respond()
        return 4096

    def mem_get_info(self) -> tuple[int, int]:
        self.respond()
        return 1000, 2000

    class Device:
        """The only one."""

        def __init__(self, index: int) -> None:
            self.index = index

        @staticmethod
        def count() -> int:
            return 1

        def retain_primary_context(self) -> object:
            return Context()

        def name(self) -> str:
            return "Stand-in"

        def compute_capability(self) -> tuple[int, int]:
            return 8, 9


class Context:
    """The primary context; the driver in `sys.modules` refuses its calls."""

    @staticmethod
    def _respond() -> None:
        sys.modules["pycuda.driver"].respond()

    push = pop = detach = _respond


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    stand_in, package = Driver(), ModuleType("pycuda")
    package.__dict__["driver"] = stand_in
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", stand_in)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    yield stand_in
    sys.modules.pop(MODULE, None)


def opened() -> Any:
    return importlib.import_module(MODULE).PycudaGpu()


def test_memory_that_is_used_up(driver: Driver) -> None:
    gpu = opened()
    driver.refuse = CLASSES["MemoryError"]("cuMemAlloc failed: out of memory")
    with pytest.raises(GpuOutOfMemory, match="cuMemAlloc failed: OUT_OF_MEMORY") as found:
        gpu.allocate(64)
    assert not found.value.lost
    assert gpu.allocate(64).address == 4096


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("LogicError", "an illegal memory access was encountered"),
        ("LogicError", "misaligned address"),
        ("LaunchError", "unspecified launch failure"),
        ("LaunchError", "the launch timed out and was terminated"),
        ("RuntimeError", "uncorrectable ECC error encountered"),
        ("Error", "unknown error"),
    ],
)
def test_after_these_the_context_answers_nothing_and_is_lost(driver: Driver, kind: str, sentence: str) -> None:
    gpu = opened()
    driver.lost = True
    driver.refuse = {**CLASSES, "Error": Error}[kind](f"cuMemAlloc failed: {sentence}")
    with pytest.raises(GpuError, match=f"cuMemAlloc failed: {sentence}; the GPU.s context is lost: restart") as found:
        gpu.allocate(64)
    assert found.value.lost


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [("LogicError", "invalid argument"), ("LaunchError", "too many resources requested for launch")],
)
def test_after_these_it_goes_on(driver: Driver, kind: str, sentence: str) -> None:
    gpu = opened()
    driver.refuse = CLASSES[kind](f"cuMemAlloc failed: {sentence}")
    with pytest.raises(GpuError, match=f"^cuMemAlloc failed: {sentence}$") as found:
        gpu.allocate(64)
    assert not found.value.lost
    gpu.allocate(64)


def test_without_a_context_none_can_be_lost(driver: Driver) -> None:
    driver.refuse, driver.lost = CLASSES["RuntimeError"]("cuInit failed: no CUDA-capable device is detected"), True
    with pytest.raises(GpuError, match=r"cuInit failed: no CUDA-capable device is detected$"):
        opened()


def test_a_context_that_cannot_be_made_current_is_an_error_of_ours(driver: Driver) -> None:
    gpu = opened()
    driver.refuse, driver.lost = CLASSES["LogicError"]("cuCtxPushCurrent failed: invalid device context"), True
    with pytest.raises(GpuError, match="cuCtxPushCurrent failed: invalid device context") as found, gpu.current():
        pass
    assert found.value.lost


@pytest.mark.parametrize("calls_that_work", [0, 1, 2])  # push, pop, detach
def test_a_lost_context_is_given_up_without_an_error(driver: Driver, calls_that_work: int) -> None:
    gpu = opened()
    driver.lost, driver.later = True, calls_that_work
    driver.refuse = CLASSES["LogicError"]("cuCtxDetach failed: an illegal memory access was encountered")
    gpu.close()
    gpu.close()

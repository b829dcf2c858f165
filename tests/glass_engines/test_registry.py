"""Which backend `auto` stands for, by the GPU and by what is installed; and what TensorRT's targets require."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from glass_engines import registry
from glass_engines.trt import compiler
from glass_engines.trt.settings import TrtSettings

from glass_rt.backends.trt.library import Library
from glass_rt.errors import UsageError
from glass_rt.machine.environment import Gpu

HOPPER = Gpu("NVIDIA H100 80GB HBM3", "580.65", "81559 MiB", "9.0")
ADA = Gpu("NVIDIA L4", "580.65", "23034 MiB", "8.9")
ALL = ("tensorrt", "tensorrt_rtx", "onnxruntime-gpu", "openvino")


def on(gpu: Gpu, capability: str) -> Gpu:
    return replace(gpu, compute_capability=capability)


@pytest.mark.parametrize(
    ("gpu", "packages", "backend", "precision"),
    [
        (HOPPER, ALL, "tensorrt", "fp16"),
        (HOPPER, ALL[1:], "onnxruntime", "fp16"),  # RTX has no code for 9.0
        (HOPPER, ("tensorrt_rtx", "onnxruntime"), "onnxruntime", "fp32"),
        (on(HOPPER, "10.0"), ALL[1:], "onnxruntime", "fp16"),
        (on(HOPPER, "10.3"), ALL[1:], "onnxruntime", "fp16"),
        (on(ADA, "8.7"), ALL[1:], "onnxruntime", "fp16"),  # Orin
        (on(ADA, "11.0"), ALL[1:], "onnxruntime", "fp16"),  # Thor
        (on(ADA, "7.5"), ALL[1:], "tensorrt_rtx", "fp16"),
        (ADA, ALL[1:], "tensorrt_rtx", "fp16"),
        (on(ADA, "12.1"), ALL[1:], "tensorrt_rtx", "fp16"),
        (ADA, ALL, "tensorrt", "fp16"),
        (on(ADA, "[N/A]"), ALL, "openvino", "fp32"),  # nothing is known of that GPU
        (None, ALL, "openvino", "fp32"),
        (None, ("onnxruntime",), "onnxruntime", "fp32"),
    ],
)
def test_auto_is_what_can_run_on_the_gpu(
    monkeypatch: pytest.MonkeyPatch, gpu: Gpu | None, packages: tuple[str, ...], backend: str, precision: str
) -> None:
    monkeypatch.setattr(registry, "gpus", lambda: (gpu,) if gpu else ())
    monkeypatch.setattr(registry, "installed", lambda name: "1" if name in packages else None)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert registry.choose_backend("auto") == backend
    assert registry.choose_precision(None, backend) == precision
    assert registry.choose_backend("tensorrt_rtx") == "tensorrt_rtx", "what is asked for stays"


@pytest.mark.parametrize(
    ("backend", "precision", "graphs"),
    [
        ("onnxruntime", "fp32", ("fp32",)),
        ("onnxruntime", "fp16", ("fp16",)),
        ("onnxruntime", "int8", ("fp32",)),
        ("openvino", "int8", ("fp32",)),
        ("tensorrt_rtx", "fp16", ("fp16",)),
        ("tensorrt_rtx", "bf16", ("bf16",)),
        ("tensorrt_rtx", "int8", ("fp32", "fp16")),  # made from half, compared with float32
    ],
)
def test_a_build_says_which_graphs_it_needs(backend: str, precision: str, graphs: tuple[str, ...]) -> None:
    pytest.importorskip(backend)
    assert registry.find_compiler(backend, precision).graph_precisions(precision) == graphs


def tensorrt(**levels: Any) -> Library:
    levels = {"NONE": 0, "AMPERE_PLUS": 1, **levels}
    logger = type("ILogger", (), {"__init__": lambda self: None})
    return Library(
        "tensorrt",
        SimpleNamespace(__version__="10.9.0", ILogger=logger, HardwareCompatibilityLevel=SimpleNamespace(**levels)),
    )


@pytest.mark.parametrize(
    ("target", "capabilities", "later", "gpu", "level"),
    [
        ("default", ("9.0",), False, "NVIDIA H100 80GB HBM3", None),  # not on an H200, of the same architecture
        ("same-sm", ("9.0",), False, "", 2),
        ("ampere+", ("8.0",), True, "", 1),
    ],
)
def test_tensorrt_binds_a_plan_to_the_model_of_gpu_unless_told_otherwise(
    target: str, capabilities: tuple[str, ...], later: bool, gpu: str, level: int | None
) -> None:
    library, config = tensorrt(SAME_COMPUTE_CAPABILITY=2), SimpleNamespace()
    needs = library.requirements(target, HOPPER)
    library.apply_target(config, target)
    assert (needs.compute_capabilities, needs.and_later, needs.gpu) == (capabilities, later, gpu)
    assert getattr(config, "hardware_compatibility_level", None) == level


def test_a_tensorrt_that_cannot_build_for_an_architecture_says_which_can() -> None:
    with pytest.raises(UsageError, match=r"same-sm needs tensorrt 10\.9 or newer; this is 10\.9\.0"):
        tensorrt().requirements("same-sm", HOPPER)


@pytest.mark.parametrize(
    ("cards", "runs_here", "profile"),
    [
        ((HOPPER, ADA), False, "a100"),  # the plan would run on the second: the gate opens it on the first
        ((ADA, HOPPER), True, "l4"),
        ((on(ADA, "[N/A]"), ADA), False, "rtx"),
        ((), False, "rtx"),
    ],
)
def test_engines_are_built_for_the_gpu_that_they_are_tried_on(
    monkeypatch: pytest.MonkeyPatch, cards: tuple[Gpu, ...], runs_here: bool, profile: str
) -> None:
    logger = type("ILogger", (), {"__init__": lambda self: None})
    rtx = SimpleNamespace(__version__="1.7.1", ILogger=logger, ComputeCapability=SimpleNamespace())
    monkeypatch.setattr(compiler, "load_library", lambda name: Library(name, rtx))
    monkeypatch.setattr(compiler, "gpus", lambda: cards)
    built = compiler.compiler_for("tensorrt_rtx", TrtSettings())
    assert built.runs_here == runs_here
    assert built.profile is not None
    assert built.profile.name == profile

"""NVIDIA's bindings have every name that the code uses of them: 10.3 (Jetson), 10.16, 11.4 and RTX."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import glass_engines.trt.compiler
import glass_engines.trt.float32_sums
import glass_engines.trt.progress
import glass_engines.trt.stream
import pytest

import glass_rt.backends.trt.backend
import glass_rt.backends.trt.library
import glass_rt.backends.trt.plan

MODULES = (
    glass_rt.backends.trt.backend, glass_rt.backends.trt.library, glass_rt.backends.trt.plan,
    glass_engines.trt.compiler, glass_engines.trt.float32_sums, glass_engines.trt.progress, glass_engines.trt.stream,
)  # fmt: skip
VERSIONS = ("tensorrt 10.3.0", "tensorrt 10.16.1", "tensorrt 11.4.0", "tensorrt_rtx 1.7.1")
# Behind `is_rtx` or `hasattr` in trt/library.py, and only there.
RTX_ONLY = {
    "ComputeCapability",
    "CudaGraphStrategy",
    "CudaGraphStrategy.WHOLE_GRAPH_CAPTURE",
    "EngineValidity",
    "EngineValidity.INVALID",
    "EngineValidity.SUBOPTIMAL",
    "DynamicShapesKernelSpecializationStrategy",
    "DynamicShapesKernelSpecializationStrategy.EAGER",
    "get_engine_validity",
    "engine_header_size",
}
# Which class each object of the code is, so that the attributes used of it can be looked up.
OBJECTS = {
    "builder": "Builder", "network": "INetworkDefinition", "parser": "OnnxParser", "profile": "IOptimizationProfile",
    "_runtime": "Runtime", "runtime": "Runtime", "engine": "ICudaEngine", "_engine": "ICudaEngine", "context": "IExecutionContext", "layer": "ILayer", "reader": "ILayer",
    "inspector": "EngineInspector",
}  # fmt: skip
CONFIGS = {
    "compiler": "IBuilderConfig",
    "apply_target": "IBuilderConfig",
    "runtime_config": "IRuntimeConfig",
    "open_cache": "IRuntimeConfig",
}
RTX_CONFIG = {
    "num_compute_capabilities", "set_compute_capability", "cuda_graph_strategy", "create_runtime_cache",
    "set_runtime_cache", "dynamic_shapes_kernel_specialization_strategy",
}  # fmt: skip
SINCE_10_16 = {  # probed
    "create_runtime_config", "IRuntimeConfig.set_execution_context_allocation_strategy",
    "load_model_proto", "load_initializer", "parse_model_proto",
    "IStreamWriter", "IStreamWriter.__init__", "build_serialized_network_to_stream",
}  # fmt: skip
# Of pathlib.Path and of our own profile file, by the same variable names.
OURS = {"open", "unlink", "read_bytes", "stem", "with_name", "parent", "name", "shapes"}


def chain(node: ast.Attribute) -> list[str]:
    parts = [node.attr]
    inner: ast.expr = node.value
    while isinstance(inner, ast.Attribute):
        parts.append(inner.attr)
        inner = inner.value
    parts.append(inner.id if isinstance(inner, ast.Name) else "?")
    return parts[::-1]


def uses() -> set[tuple[str, str]]:
    """(class or "", name) of every use found in the source; `Enum.MEMBER` counts as a name of its own."""
    found = set()
    for module in MODULES:
        tree = ast.parse(Path(str(module.__file__)).read_text())
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if not isinstance(node, ast.Attribute):
                    continue
                parts = chain(node)
                if "trt" in parts[:-1]:
                    found.add(("", ".".join(parts[parts.index("trt") + 1 :])))
                owner = parts[-2]
                if owner in OBJECTS and parts[-1] not in OURS:
                    found.add((OBJECTS[owner], parts[-1]))
                if owner in ("config", "_config"):
                    kind = CONFIGS.get(function.name, CONFIGS.get(module.__name__.rsplit(".")[-1], "IRuntimeConfig"))
                    found.add((kind, parts[-1]))
    return found


def test_the_search_finds_what_is_known_to_be_used() -> None:
    found = uses()
    assert ("", "BuilderFlag.TF32") in found
    assert ("Builder", "build_serialized_network") in found
    assert ("IExecutionContext", "execute_async_v3") in found
    assert ("IBuilderConfig", "set_memory_pool_limit") in found
    assert ("ICudaEngine", "get_tensor_profile_shape") in found
    assert len(found) > 45


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_used_exists(version: str, vendor_names: dict[str, dict[str, list[str]]]) -> None:
    names, rtx, missing = vendor_names[version], version.startswith("tensorrt_rtx"), []
    for owner, name in sorted(uses()):
        if not rtx and (name in RTX_ONLY or name in RTX_CONFIG):
            continue
        if version == "tensorrt 10.3.0" and (name in SINCE_10_16 or f"{owner}.{name}" in SINCE_10_16):
            continue
        if "__" in name:  # Python's own
            continue
        first, _, rest = name.partition(".")
        known = names.get(owner, [])
        nested_later = rest.partition(".")[0]
        if first not in known or (rest and nested_later not in names.get(first, [])):
            missing.append(f"{owner}.{name}".lstrip("."))
    assert missing == []


def test_what_only_rtx_has_is_really_only_there(vendor_names: dict[str, dict[str, list[str]]]) -> None:
    for version in VERSIONS[:3]:
        assert not {"ComputeCapability", "CudaGraphStrategy"} & set(vendor_names[version][""])


def test_the_record_is_of_the_installed_rtx(vendor_names: dict[str, dict[str, list[str]]]) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    if not trt.__version__.startswith("1.7.1."):
        pytest.skip(f"another version is installed: {trt.__version__}")
    recorded = vendor_names["tensorrt_rtx 1.7.1"]
    public = [name for name in dir(trt.ICudaEngine) if not name.startswith("_")]
    assert recorded["ICudaEngine"] == sorted(public)


def test_the_drivers_calls_exist_in_the_bindings() -> None:
    """No GPU and no driver are needed to know the names that cuda-core's bindings have."""
    driver: Any = pytest.importorskip("cuda.bindings.driver", reason="cuda-core is not installed")
    module = importlib.import_module("glass_rt.backends.cuda.bindings_gpu")
    tree = ast.parse(Path(str(module.__file__)).read_text())
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "driver"
    }
    assert len(used) > 25
    assert [name for name in sorted(used) if not hasattr(driver, name)] == []

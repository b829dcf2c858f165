"""The text that names a device, on every surface."""

from __future__ import annotations

import re

import pytest

from glass_rt.errors import UsageError
from glass_rt.machine.device import Device, device_for, device_from_text, is_cpu, kind_of, on_processor

# text, what it means, whether its engines take the processor's cores
TEXTS = [
    ("cpu", Device("cpu"), True),
    ("cuda", Device("cuda"), False),
    ("cuda:0", Device("cuda", 0), False),
    ("cuda:12+cpu,use_tf32=1", Device("cuda", 12, cpu_too=True, options=(("use_tf32", "1"),)), False),
    ("coreml", Device("coreml"), False),
    ("coreml+cpu", Device("coreml", cpu_too=True), False),
    ("coreml,MLComputeUnits=CPUAndGPU,X=", Device("coreml", options=(("MLComputeUnits", "CPUAndGPU"), ("X", ""))), False),
    ("dml:1", Device("dml", 1), False),
    ("xnnpack+cpu", Device("xnnpack", cpu_too=True), True),
    ("plugin:webgpu", Device("plugin", name="webgpu"), False),
    ("plugin:nv-tensorrt-rtx:1", Device("plugin", 1, "nv-tensorrt-rtx"), False),
    ("plugin:/opt/a b/libx.so+cpu", Device("plugin", name="/opt/a b/libx.so", cpu_too=True), False),
    ("plugin:C:\\x.dll:2", Device("plugin", 2, "C:\\x.dll"), False),  # the drive's colon is the file's
]  # fmt: skip


@pytest.mark.parametrize(("text", "device", "takes_cores"), TEXTS)
def test_a_text_is_a_device_and_the_other_way_round(text: str, device: Device, takes_cores: bool) -> None:
    assert device_from_text(text) == device
    assert device_for("onnxruntime", text) == device
    assert str(device) == text
    assert (kind_of(text), on_processor(text), is_cpu(text)) == (device.kind, takes_cores, text == "cpu")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "got ''; ONNX Runtime engines run on cpu, cuda or cuda:N, coreml, dml or dml:N, xnnpack, plugin:NAME or"),
        ("tpu", "got 'tpu'"),
        ("CPU", "got 'CPU'"),
        ("cpu:0", "got 'cpu:0'"),
        ("cpu+cpu", "got 'cpu+cpu'"),  # it is the CPU already
        ("cpu,x=1", "got 'cpu,x=1'"),  # whose provider has no options
        ("cuda:", "got 'cuda:'"),
        ("cuda:x", "got 'cuda:x'"),
        ("cuda:²", "got 'cuda:²'"),
        ("cuda:12345", "got 'cuda:12345'"),
        ("dml:" + "9" * 5000, "got 'dml:" + "9" * 76 + "...'; ONNX Runtime engines run on"),
        ("cuda," + "x" * 5000, "...'; behind a comma"),
        ("coreml:1", "got 'coreml:1'"),
        ("xnnpack:0", "got 'xnnpack:0'"),
        ("plugin", "got 'plugin'"),
        ("plugin:", "got 'plugin:'"),
        ("cuda,tf32", "behind a comma stands OPTION=VALUE"),
        ("cuda,", "behind a comma stands OPTION=VALUE"),
        ("cuda,device_id=1", "such as cuda:1"),
    ],
)
def test_what_is_no_device_is_refused_with_the_choices(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        device_for("onnxruntime", text)


@pytest.mark.parametrize(
    ("backend", "text"),
    [("openvino", "cuda"), ("openvino", "coreml"), ("tensorrt", "cpu"), ("tensorrt_rtx", "plugin:webgpu")],
)
def test_backends_run_on_their_own_kinds(backend: str, text: str) -> None:
    with pytest.raises(UsageError, match=rf"device: got '{text}'; (OpenVINO|TensorRT) engines run on"):
        device_for(backend, text)


@pytest.mark.parametrize("text", ["cuda+cpu", "cuda,use_tf32=1", "cuda:1,unknown_option=2"])
@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt_rtx"])
def test_what_only_onnx_runtime_knows_is_refused_elsewhere(backend: str, text: str) -> None:
    with pytest.raises(UsageError, match="are for engines of ONNX Runtime, not of TensorRT"):
        device_for(backend, text)

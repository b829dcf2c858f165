"""ONNX Runtime's execution providers: the table, what is missing here, fixed batches, and where operators run."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from glass_rt.backends import open_backend, ort_providers
from glass_rt.backends.ort_placement import allowing_cpu, check_placement, record_placement
from glass_rt.backends.ort_providers import PROVIDERS, select_provider
from glass_rt.bundle.bundle import Bundle
from glass_rt.errors import BackendError
from glass_rt.inference.engines import open_engines
from glass_rt.machine.device import _SPELLINGS, device_from_text
from glass_rt.options import RunOptions
from tests.bench_zoo import CROPS, write_bundle

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """embedding = the pixels as float32, of which a product is taken with ones."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 4])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 4])
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["float", "float"], ["double"]),
        helper.make_node("Tanh", ["double"], ["embedding"]),
    ]
    graph = helper.make_graph(nodes, "small", [pixels], [embedding])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "small.onnx")
    return tmp_path / "small.onnx"


def test_every_kind_of_device_has_a_row() -> None:
    assert tuple(PROVIDERS) == tuple(_SPELLINGS)
    known = onnxruntime.get_all_providers()
    assert [row.name for row in PROVIDERS.values() if row.name and row.name not in known] == []


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("cpu", {}),
        ("cuda", {"device_id": 0, "use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"}),
        ("coreml", {"ModelFormat": "MLProgram", "MLComputeUnits": "ALL", "RequireStaticInputShapes": "1"}),
        ("dml:2", {"device_id": 2}),
        ("xnnpack", {"intra_op_num_threads": 3}),
    ],
)
def test_a_provider_gets_the_options_that_it_needs(text: str, options: dict[str, Any]) -> None:
    device = device_from_text(text)
    assert PROVIDERS[device.kind].options(device, 3) == options


def with_all_providers() -> Any:
    """The library as a build would be that has every provider."""
    every = onnxruntime.get_all_providers
    return SimpleNamespace(get_available_providers=every, ExecutionMode=onnxruntime.ExecutionMode)


def test_a_provider_that_a_loaded_library_brings_is_here() -> None:
    library = with_all_providers()
    library.get_available_providers = lambda: ["CPUExecutionProvider"]
    library.get_ep_devices = lambda: [SimpleNamespace(ep_name="CUDAExecutionProvider")]
    found = select_provider(library, onnxruntime.SessionOptions(), device_from_text("cuda"), 2)
    assert found.name == "CUDAExecutionProvider"


@pytest.mark.parametrize(
    ("text", "name", "expected", "settings"),
    [
        ("cuda:1,use_tf32=1", "CUDAExecutionProvider", {"device_id": 1, "use_tf32": "1"}, {}),
        ("coreml,MLComputeUnits=CPUOnly", "CoreMLExecutionProvider", {"MLComputeUnits": "CPUOnly"}, {}),
        ("dml:1", "DmlExecutionProvider", {"device_id": 1}, {"enable_mem_pattern": False}),
        ("xnnpack", "XnnpackExecutionProvider", {"intra_op_num_threads": 2}, {"intra_op_num_threads": 1}),
    ],
)
def test_sessions_are_set_up_for_the_provider_and_its_options_can_be_chosen(
    text: str, name: str, expected: dict[str, Any], settings: dict[str, Any]
) -> None:
    options = onnxruntime.SessionOptions()
    found = select_provider(with_all_providers(), options, device_from_text(text), 2)
    assert found.providers is not None
    ((provider, given),) = found.providers
    assert (found.name, provider) == (name, name)
    assert expected.items() <= given.items()
    assert {key: getattr(options, key) for key in settings} == settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("coreml", r"not on the CoreML\w+ asked for: the onnxruntime [\d.]+ .* has .*CPU.*packages for macOS"),
        ("dml", "not on the Dml.*pip install onnxruntime-directml"),
        ("xnnpack+cpu", "not on the Xnnpack.*--use_xnnpack"),  # the CPU for some of it is not the CPU for all of it
    ],
)
def test_a_provider_that_is_not_in_this_build_is_an_error_in_one_line(engine: Path, text: str, words: str) -> None:
    """And the library's own warning is not heard besides: it would fail this test."""
    if PROVIDERS[device_from_text(text).kind].name in onnxruntime.get_available_providers():
        pytest.skip(f"this ONNX Runtime has {text}")
    with pytest.raises(BackendError, match=words) as caught:
        open_backend("onnxruntime", engine, device=text)
    assert "Azure" not in str(caught.value), "which is no engine"
    assert "\n" not in str(caught.value)


def recorded(engine: Path, *names: str) -> Any:
    """A session with those providers that remembers where its operators run."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    record_placement(onnxruntime, options, device_from_text("dml"))
    return onnxruntime.InferenceSession(str(engine), options, providers=list(names), enable_fallback=0)


def test_a_provider_that_stands_first_and_computes_nothing_is_found_out(engine: Path) -> None:
    """Azure's takes no operator of such a graph, and is the first in the session's list."""
    name = "AzureExecutionProvider"
    if name not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no provider that takes nothing")
    session = recorded(engine, name)
    assert session.get_providers()[0] == name
    for text in ("dml", "dml+cpu"):  # a CPU that does it all was not asked for either
        with pytest.raises(BackendError, match=r"2 of 2 operators are left to the CPU by dml.* computes nothing"):
            check_placement(session, name, device_from_text(text))
    check_placement(recorded(engine, "CPUExecutionProvider"), "CPUExecutionProvider", device_from_text("dml"))


def placed(**operators: int) -> Any:
    """A session as the library describes it: operators by provider, `there_Conv` or `cpu_Conv`."""

    def part(name: str, count: int) -> Any:
        where, _, kind = name.partition("_")
        nodes = [SimpleNamespace(op_type=kind) for _ in range(count)]
        return SimpleNamespace(ep_name={"there": "X", "cpu": "CPUExecutionProvider"}[where], get_nodes=lambda: nodes)

    parts = [part(name, count) for name, count in operators.items()]
    return SimpleNamespace(get_provider_graph_assignment_info=lambda: parts)


@pytest.mark.parametrize(
    ("session", "text", "words"),
    [
        (placed(there_Conv=3), "dml", None),
        (placed(there_Conv=3, cpu_Shape=1, cpu_Concat=1, cpu_Cast=1), "dml", None),  # these compute nothing
        (placed(there_Conv=3, cpu_Gelu=2), "dml", r"2 of 5 .* by dml \(2 Gelu\). Allow it: --device dml\+cpu; or run"),
        (placed(there_Conv=3, cpu_Gelu=2), "dml:1,a=b", r"Allow it: --device dml:1\+cpu,a=b;"),
        (placed(there_Conv=3, cpu_Gelu=2), "dml+cpu", None),
        (placed(there_Cast=3, cpu_Gelu=2), "dml+cpu", "2 of 2 .* computes nothing"),
    ],
)
def test_what_is_left_to_the_cpu_is_refused_unless_it_is_allowed(session: Any, text: str, words: str | None) -> None:
    device = device_from_text(text)
    if words is None:
        check_placement(session, "X", device)
        return
    with pytest.raises(BackendError, match=words):
        check_placement(session, "X", device)


def test_what_is_allowed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="glass_rt"):
        check_placement(placed(there_Conv=3, cpu_Gelu=2), "X", device_from_text("dml+cpu"))
    assert "2 of 5 operators are left to the CPU by dml+cpu (2 Gelu)" in caplog.text


def test_a_library_that_cannot_tell_is_refused_but_for_cuda(caplog: pytest.LogCaptureFixture) -> None:
    """ONNX Runtime before 1.24, which is the last for Python 3.10."""
    older = SimpleNamespace(__version__="1.23.2", InferenceSession=SimpleNamespace())
    options = onnxruntime.SessionOptions()
    device = device_from_text("coreml")
    with pytest.raises(BackendError, match=rf"1.23.2 does not tell .*{re.escape(allowing_cpu(device))}"):
        record_placement(older, options, device)
    record_placement(older, options, device_from_text("coreml+cpu"))
    record_placement(older, options, device_from_text("cuda"))
    assert "does not tell what it leaves to the CPU" in caplog.text
    check_placement(SimpleNamespace(), "CoreMLExecutionProvider", device)


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU's provider as one that needs shapes which are known."""
    rows = {**PROVIDERS, "cpu": replace(PROVIDERS["cpu"], fixed_batch=True)}
    monkeypatch.setattr(ort_providers, "PROVIDERS", rows)


@pytest.mark.usefixtures("fixed")
def test_a_fixed_batch_takes_any_number_of_views(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = open_backend("onnxruntime", engine, batch=3)
    assert backend.inputs[0].shape == (None, 4)
    assert backend._session.get_inputs()[0].shape == [3, 4]  # type: ignore[attr-defined]
    monkeypatch.undo()
    free = open_backend("onnxruntime", engine)
    for count in (0, 1, 3, 4, 7):
        feeds = {"pixels": np.random.default_rng(count).integers(0, 256, (count, 4), np.uint8)}
        found, expected = backend.run(feeds)["embedding"], free.run(feeds)["embedding"]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert found.shape == (count, 4)


@pytest.mark.usefixtures("fixed")
def test_an_engine_with_a_fixed_batch_runs_an_images_crops_at_once(tmp_path: Path) -> None:
    bundle = Bundle.open(write_bundle(tmp_path / "bundle"))
    for asked, local in ((None, CROPS), (5, 5)):
        engines: dict[str, Any] = open_engines(bundle, RunOptions(batch=asked))
        sizes = {role: engine._session.get_inputs()[0].shape[0] for role, engine in engines.items()}
        assert sizes == {"global": 1, "local": local}


@pytest.mark.usefixtures("fixed")
def test_a_graph_whose_batch_has_another_name_is_refused(engine: Path, tmp_path: Path) -> None:
    model = onnx.load(engine)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "B"
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(BackendError, match="pixels: its batch cannot be fixed, since its first axis is 'B'"):
        open_backend("onnxruntime", tmp_path / "other.onnx", batch=3)

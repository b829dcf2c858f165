"""ONNX Runtime on CUDA, as far as it can be tested without a GPU."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from glass_engines.build import BuildOptions, build_bundle
from onnx import TensorProto, helper

from glass_rt.backends import open_backend, ort_cuda
from glass_rt.backends.ort import OnnxRuntimeBackend
from glass_rt.backends.ort_cuda import CUDA, preload_libraries, why_not_cuda
from glass_rt.backends.ort_providers import PROVIDERS
from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.folder import write_manifest
from glass_rt.errors import BackendError, BundleInvalid, ParityError, UsageError
from glass_rt.inference import pending_parity
from glass_rt.inference.engines import batch_for, engine_for, open_engines
from glass_rt.machine.cuda_driver import CudaDevice
from glass_rt.machine.device import device_for
from glass_rt.machine.environment import Gpu
from glass_rt.options import RunOptions
from tests.bench_zoo import write_bundle
from tests.support import Bundles, Portables

pytest.importorskip("onnxruntime")


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """embedding = the pixels as float32."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 4])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 4])
    node = helper.make_node("Cast", ["pixels"], ["embedding"], to=TensorProto.FLOAT)
    graph = helper.make_graph([node], "cast", [pixels], [embedding])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, tmp_path / "cast.onnx")
    return tmp_path / "cast.onnx"


def test_an_io_binding_gives_what_a_run_gives_whatever_batches_it_saw_before(engine: Path) -> None:
    backend = OnnxRuntimeBackend(engine)
    for count in (3, 5, 3, 1, 2, 4, 6, 3):
        feeds = {"pixels": np.random.default_rng(count).integers(0, 256, (count, 4), np.uint8)[:, ::-1]}
        backend._bound_to = None
        plain = backend.run(feeds)
        backend._bound_to = ("cpu", 0)
        bound = backend.run(feeds)
        np.testing.assert_array_equal(bound["embedding"], plain["embedding"])
        np.testing.assert_array_equal(bound["embedding"], feeds["pixels"])
    assert 1 < len(backend._on_device) <= 4, "memory for a few batch sizes stays, and not for all there were"
    backend.close()
    assert not backend._on_device


def test_convolutions_are_not_tried_out_for_every_new_batch_and_float32_stays() -> None:
    row = PROVIDERS["cuda"]
    options = row.options(device_for("onnxruntime", "cuda:1"), 2)
    assert (row.name, options) == (CUDA, {"device_id": 1, "use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"})


def test_a_fallback_to_the_cpu_is_an_error_that_says_which_package_is_here(engine: Path) -> None:
    import onnxruntime

    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    wanted = r"runs on CPUExecutionProvider, not on the CUDA.* is made for CPUs, and"
    with pytest.raises(BackendError, match=wanted) as caught:  # and the library's own warning is not heard besides
        open_backend("onnxruntime", engine, device="cuda")
    assert "pip uninstall onnxruntime; pip install 'glass-rt[gpu]'" in str(caught.value)


CARD = CudaDevice("NVIDIA H100", "9.0", 80 << 30)


@pytest.mark.skipif(sys.platform != "linux", reason="builds Linux libraries")
@pytest.mark.parametrize(
    ("devices", "needs", "words", "not_said"),
    [
        (None, "", "no NVIDIA driver starts here", "pip install"),
        ((), "", "no NVIDIA driver starts here", "pip install"),  # CUDA_VISIBLE_DEVICES hides all
        ((CARD,), "libcublasLt_of_a_test.so.13", "libcublasLt_of_a_test.so.13: cannot open", "no NVIDIA driver"),
        (None, "libcublasLt_of_a_test.so.13", "besides, libcublasLt_of_a_test.so.13: cannot open", "pip install"),
        ((CARD,), "", "the driver may be too old for them", "pip install"),
    ],
)
def test_what_cuda_lacks_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    devices: tuple[CudaDevice, ...] | None,
    needs: str,
    words: str,
    not_said: str,
) -> None:
    """A provider's library that is linked to one that is not there, as the real one is to cuBLAS and cuDNN."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    folder = tmp_path / "capi"
    folder.mkdir()
    (tmp_path / "empty.c").write_text("")
    build = ["gcc", "-shared", "-fPIC", str(tmp_path / "empty.c"), "-o"]
    linked: list[str] = []
    if needs:
        subprocess.run([*build, str(tmp_path / needs), f"-Wl,-soname,{needs}"], check=True)
        linked = ["-Wl,--no-as-needed", str(tmp_path / needs)]
    subprocess.run([*build, str(folder / "libonnxruntime_providers_shared.so")], check=True)
    subprocess.run([*build, str(folder / "libonnxruntime_providers_cuda.so"), *linked], check=True)
    if needs:
        (tmp_path / needs).unlink()
    monkeypatch.setattr(ort_cuda, "cuda_devices", lambda: devices)
    library = SimpleNamespace(
        __file__=str(tmp_path / "__init__.py"), __version__="1.31.1", get_available_providers=lambda: [CUDA]
    )
    found = why_not_cuda(library)
    assert words in found
    assert not_said not in found


def test_a_build_whose_cuda_is_a_plugin_is_not_taken_for_one_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its library is loaded with the package, and where that fails the provider is not listed."""
    monkeypatch.setattr(ort_cuda, "cuda_devices", lambda: None)
    library = SimpleNamespace(
        __file__="/nowhere/__init__.py",
        __version__="1.33.0",
        get_available_providers=lambda: ["CPUExecutionProvider"],
        get_build_info=lambda: "ORT Build Info: git-branch=rel, cuda-plugin-ep=1",
    )
    assert why_not_cuda(library).startswith("no NVIDIA driver starts here")


def test_libraries_of_packages_are_found_and_the_search_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    called = []

    def preload() -> None:
        print("Failed to load /somewhere/libcudnn.so.9")
        called.append(True)

    preload_libraries(SimpleNamespace(preload_dlls=preload))
    preload_libraries(SimpleNamespace())  # before 1.21
    assert called == [True]
    assert capfd.readouterr().out == ""


@pytest.mark.slow
def test_a_gpu_opens_the_graph_before_it_was_fused_for_cpus(bundles: Bundles) -> None:
    """CUDA has no convolution that is fused with a hard sigmoid, which MobileNetV3 gets on the CPU."""
    bundle = bundles("mobilenet_v3_small")
    on_cpu, on_gpu = (engine_for(bundle, "local", device) for device in ("cpu", "cuda:1"))
    fused, portable = ({node.op_type for node in onnx.load(file.path).graph.node} for file in (on_cpu, on_gpu))
    assert "FusedConv" in fused
    assert not {"FusedConv"} & portable
    views = bundle.reference()["crops"][:2]
    found = open_backend("onnxruntime", on_gpu).run({"pixels": views})["embedding"]
    np.testing.assert_allclose(found, bundle.reference()["local_embeddings"][:2], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_that_graph_is_compared_with_the_manifest_too(bundles: Bundles, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundles("mobilenet_v3_small").folder, folder)
    graph = folder / "model" / "local.fp32.onnx"
    content = bytearray(graph.read_bytes())
    content[5000] ^= 1
    graph.write_bytes(content)
    with pytest.raises(BundleInvalid, match="was altered"):
        engine_for(Bundle.open(folder), "local", "cuda")


@pytest.mark.parametrize(
    ("precision", "words"),
    [("int8", r"INT8 engines run on CPUs.*--precision fp16"), ("fp32", "build it without --slim")],
)
def test_what_a_gpu_cannot_open_is_refused_in_words(tmp_path: Path, precision: str, words: str) -> None:
    folder = write_bundle(tmp_path / "bundle")
    manifest = Bundle.open(folder).manifest
    write_manifest(folder, replace(manifest, engine=replace(manifest.engine, precision=precision)))
    bundle = Bundle.open(folder)
    with pytest.raises(UsageError, match=words):
        engine_for(bundle, "global", "cuda")
    assert engine_for(bundle, "global", "cpu").path == bundle.engine_file("global")


def test_a_gpu_gets_all_that_the_bundle_takes_in_a_run(tmp_path: Path) -> None:
    manifest = Bundle.open(write_bundle(tmp_path / "bundle")).manifest
    manifest = replace(manifest, engine=replace(manifest.engine, max_batch=64))
    assert batch_for(manifest, None, device="cuda") == 64
    assert 4 <= batch_for(manifest, None) == batch_for(manifest, None, device="cpu") <= 16


def test_parity_passed_on_a_cpu_says_nothing_of_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engines of this bundle compute something wrong, and its manifest says that they passed."""
    bundle = Bundle.open(write_bundle(tmp_path / "bundle", fault="wrong"))
    monkeypatch.setattr(pending_parity, "named_gpu", lambda device: Gpu("NVIDIA L4", "580.65", "23034 MiB", "8.9"))
    engines = open_engines(bundle)
    assert pending_parity.resolve_parity(bundle, engines, "cpu").status == "passed"
    assert pending_parity.known_parity(bundle, "cuda").status != "passed"
    with pytest.raises(ParityError, match="does not compute what PyTorch computes on this GPU"):
        pending_parity.resolve_parity(bundle, engines, "cuda")


@pytest.mark.slow
def test_an_fp16_bundle_is_for_gpus_and_its_graphs_are_right(portables: Portables, tmp_path: Path) -> None:
    """A CPU computes the graph in float32 between its casts: enough to know that it is the right graph."""
    source = portables("mobilenet_v3_small", precisions=("fp16",))
    bundle = build_bundle(source, tmp_path / "bundle", BuildOptions("onnxruntime", "fp16"))
    manifest = bundle.manifest
    assert (manifest.engine.device, manifest.parity.status, manifest.engine.max_batch) == ("cuda", "pending", 64)
    assert batch_for(manifest, None) == 64
    engines: dict[str, Any] = open_engines(bundle, RunOptions(device="cpu"))
    assert pending_parity.known_parity(bundle, "cpu").status == "passed"
    for opened in engines.values():
        opened.close()

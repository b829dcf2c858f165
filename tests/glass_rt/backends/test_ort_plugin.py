"""Execution providers that ONNX Runtime loads from libraries: what goes wrong with them, and one that runs.

The one that runs is WebGPU's, over SwiftShader, the Vulkan for CPUs that Chromium carries.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from glass_rt.backends import open_backend
from glass_rt.backends.ort_plugin import plugin_device, plugin_version
from glass_rt.errors import BackendError, GlassError, UsageError
from glass_rt.machine.device import device_from_text
from tests.bench_zoo import write_bundle, write_picture

onnxruntime = pytest.importorskip("onnxruntime")
SWIFTSHADER = Path("/usr/lib/chromium/libvk_swiftshader.so")
# A library with the two functions of a plug-in. The tables that ONNX Runtime hands over begin with these functions.
SOURCE = """
#include <stddef.h>
typedef struct { void *const *(*tables)(unsigned version); } Base;
void *CreateEpFactories(const char *name, const Base *base, const void *log, void **made, size_t most, size_t *count) {
  void *(*status)(int code, const char *message);
  *count = 0;
  if (!FAILS) return NULL;
  *(void **)&status = base->tables(22)[0];
  return status(1, "this accelerator is asleep");
}
void *ReleaseEpFactory(void *factory) { return NULL; }
"""


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "zoo") / "global.onnx"


def built(path: Path, *, fails: bool) -> Path:
    """A plug-in that makes no provider: it says why, or says nothing."""
    compiler = shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("gcc is not installed, or builds other libraries")
    (path.with_suffix(".c")).write_text(SOURCE)
    options = ["-shared", "-fPIC", f"-DFAILS={int(fails)}", "-o", str(path), str(path.with_suffix(".c"))]
    subprocess.run([compiler, *options], check=True)
    return path


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("nothing-such", BackendError, "is not installed: pip install onnxruntime-ep-nothing-such, or name its library"),
        ("No Such", UsageError, "a plug-in called 'No Such'; expected a name such as webgpu"),
        ("os.path", UsageError, "a plug-in called 'os.path'"),  # no module but a plug-in's is imported
        ("/nowhere/lib.so", BackendError, "plugin:/nowhere/lib.so: there is no such file"),
        (str(Path(__file__)), BackendError, "ONNX Runtime cannot take .*test_ort_plugin.py for a plug-in: .*(ELF|load)"),
    ],
)  # fmt: skip
def test_what_is_no_plugin_is_refused_in_a_line(engine: Path, name: str, kind: type[GlassError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        open_backend("onnxruntime", engine, device=f"plugin:{name}")
    assert "\n" not in str(caught.value)


def test_a_library_that_is_no_plugin_is_refused_by_the_library(engine: Path) -> None:
    library = next((path for path in (Path("/lib/x86_64-linux-gnu/libm.so.6"),) if path.is_file()), None)
    if library is None:
        pytest.skip("the mathematical library lies elsewhere")
    with pytest.raises(BackendError, match=r"libm.so.6 for a plug-in: .*CreateEpFactories"):
        open_backend("onnxruntime", engine, device=f"plugin:{library}")


def test_a_plugin_that_fails_is_told_with_its_own_words(engine: Path, tmp_path: Path) -> None:
    library = built(tmp_path / "libasleep.so", fails=True)
    for _ in range(2):
        with pytest.raises(BackendError, match=r"libasleep.so for a plug-in: .*this accelerator is asleep"):
            open_backend("onnxruntime", engine, device=f"plugin:{library}")


def test_a_plugin_that_has_nothing_here_is_told_with_what_is_here(engine: Path, tmp_path: Path) -> None:
    library = built(tmp_path / "libnone.so", fails=False)
    for _ in range(2):  # it is registered by then
        with pytest.raises(BackendError, match=r"finds no device here that it runs on; ONNX Runtime sees: .*CPU"):
            open_backend("onnxruntime", engine, device=f"plugin:{library}:1")


def test_a_library_that_takes_no_plugins_is_to_be_upgraded() -> None:
    with pytest.raises(BackendError, match=r"1.21.0 takes no plug-in libraries.*--upgrade"):
        plugin_device(SimpleNamespace(__version__="1.21.0"), device_from_text("plugin:webgpu"))


def test_packages_tell_where_their_library_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime_ep_broken.py").write_text("import nothing_of_that_name")
    (tmp_path / "onnxruntime_ep_odd.py").write_text("def get_library_path(): raise RuntimeError('two of them')")
    (tmp_path / "onnxruntime_older_kind.py").write_text(f"def get_library_path(): return {str(tmp_path / 'x.so')!r}")
    monkeypatch.syspath_prepend(tmp_path)
    for name, words in (
        ("broken", "onnxruntime_ep_broken is installed and cannot be loaded: No module named 'nothing_of"),
        ("odd", "onnxruntime_ep_odd does not tell where its library lies: two of them"),
        ("older-kind", r"cannot take .*x.so for a plug-in"),
    ):
        with pytest.raises(BackendError, match=words):
            plugin_device(onnxruntime, device_from_text(f"plugin:{name}"))


def test_versions_of_a_plugin_are_told_apart_without_loading_it(tmp_path: Path) -> None:
    library = tmp_path / "lib.so"
    assert plugin_version(str(library)) == plugin_version("nothing-such") == ""
    library.write_bytes(b"first")
    first = plugin_version(str(library))
    library.write_bytes(b"second")
    assert "" != plugin_version(str(library)) != first


# What a process does that WebGPU runs in. The engines are opened twice, as a server does that reloads.
PROGRAM = """
import json, logging, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
import onnx
from onnx import TensorProto, helper
from glass_rt import Detector, DetectOptions
from glass_rt.backends import open_backend
from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.folder import write_manifest
from glass_rt.errors import GlassError
from glass_rt.inference.pending_parity import known_parity

folder, picture = Path(sys.argv[1]), Path(sys.argv[2])
manifest = Bundle.open(folder).manifest
write_manifest(folder, replace(manifest, engine=replace(manifest.engine, device="cuda")))  # whose graph is portable
logging.getLogger("glass_rt").setLevel(logging.INFO)

def judged(device):
    with Detector.open(folder, device=device) as detector:
        return detector.device, detector.detect(picture, DetectOptions(seed=1)).probability_fake

def refused(function, *arguments, **named):
    try:
        function(*arguments, **named)
    except GlassError as error:
        return f"{error.kind}: {error}"

def matrix(name):
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 2, 2])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N"])
    nodes = [helper.make_node("Add", ["pixels", "pixels"], ["sum"]), helper.make_node("Det", ["sum"], ["embedding"])]
    graph = helper.make_graph(nodes, "det", [pixels], [embedding])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), name)
    return name

plugin = "plugin:webgpu"
known = [known_parity(Bundle.open(folder), plugin).status]
found = {"cpu": judged("cpu"), "webgpu": [judged(plugin), judged(plugin + ":0")]}
known.append(known_parity(Bundle.open(folder), plugin + ":0").status)
known.append(known_parity(Bundle.open(folder), "coreml").status)
nothing = open_backend("onnxruntime", folder / "global.onnx", device=plugin).run(
    {"pixels": np.empty((0, 224, 224, 3), np.float32)}
)
graph = matrix(folder.parent / "det.onnx")
print(json.dumps({
    **found, "known": known, "nothing": nothing["embedding"].shape,
    "second": refused(open_backend, "onnxruntime", graph, device=plugin + ":1"),
    "left": refused(open_backend, "onnxruntime", graph, device=plugin),
    "allowed": refused(open_backend, "onnxruntime", graph, device=plugin + "+cpu"),
    "option": refused(open_backend, "onnxruntime", graph, device=plugin + "+cpu,powerPreference=none-such"),
}))
"""


@pytest.fixture(scope="module")
def on_webgpu(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("onnxruntime_ep_webgpu")
    if not SWIFTSHADER.is_file():
        pytest.skip("there is no Vulkan for CPUs: Chromium carries SwiftShader")
    folder = tmp_path_factory.mktemp("webgpu")
    (folder / "libvulkan.so.1").symlink_to(SWIFTSHADER)  # which is its own loader
    picture = write_picture(folder / "picture.png", (170, 90, 80))
    command = [sys.executable, "-c", PROGRAM, str(write_bundle(folder / "zoo")), str(picture)]
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder),
        "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER": "1",  # without it the provider takes GPUs alone
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_plugin_judges_as_the_cpu_does(on_webgpu: dict[str, Any]) -> None:
    (where, expected), others = on_webgpu["cpu"], on_webgpu["webgpu"]
    assert where == "cpu"
    assert [name for name, _ in others] == ["plugin:webgpu", "plugin:webgpu:0"]
    assert [probability for _, probability in others] == pytest.approx([expected] * 2, abs=1e-4)


def test_it_takes_no_views_too(on_webgpu: dict[str, Any]) -> None:
    assert on_webgpu["nothing"] == [0, 4]


def test_its_parity_is_passed_at_the_first_opening_and_is_its_own(on_webgpu: dict[str, Any]) -> None:
    assert on_webgpu["known"] == ["pending", "passed", "pending"]


def test_its_devices_are_numbered(on_webgpu: dict[str, Any]) -> None:
    assert on_webgpu["second"].startswith("usage: device: got 'plugin:webgpu:1'; plugin:webgpu has 0 (")


def test_operators_that_it_lacks_are_refused_unless_the_cpu_may_help(on_webgpu: dict[str, Any]) -> None:
    assert "1 of 2 operators are left to the CPU by plugin:webgpu (1 Det)" in on_webgpu["left"]
    assert on_webgpu["allowed"] is None


def test_an_option_that_it_refuses_is_told(on_webgpu: dict[str, Any]) -> None:
    assert on_webgpu["option"].startswith("backend: ONNX Runtime cannot open ")

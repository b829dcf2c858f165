"""From a portable model to a bundle of TensorRT-RTX engines, by the library and by the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from glass_engines.build import BuildOptions, build_bundle
from glass_engines.trt.cache import build_key
from glass_engines.trt.compiler import TrtBuild, _load_timings, _save_timings
from glass_engines.trt.profiles_file import find_profile
from glass_engines.trt.settings import TrtSettings

from glass_rt.backends.trt.library import Library, load_library
from glass_rt.bundle.bundle import Bundle, PortableModel
from glass_rt.bundle.folder import sha256_of
from glass_rt.bundle.requirements import Requirements
from glass_rt.detector import Detector
from glass_rt.errors import BundleUnfit
from glass_rt.inference.parity import tolerance_of
from glass_rt.machine.cache_files import read_cached, write_cached
from glass_rt.machine.environment import installed
from tests.support import Portables

pytestmark = pytest.mark.trt

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'glass-rt[tensorrt-rtx]'")

COMMAND = str(Path(sys.executable).with_name("glass-rt"))


def built(model: PortableModel, folder: Path, precision: str = "fp16", **settings: Any) -> Bundle:
    options = BuildOptions("tensorrt_rtx", precision, trt=TrtSettings(**settings))
    return build_bundle(model, folder, options)


@pytest.fixture(scope="module")
def bundle(small_model: PortableModel, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return built(small_model, tmp_path_factory.mktemp("bundle") / "fp16", profile="rtx")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_other_precisions_build_too(small_resize_model: PortableModel, tmp_path: Path, precision: str) -> None:
    assert built(small_resize_model, tmp_path / "bundle", precision).manifest.engine.precision == precision


@pytest.mark.parametrize("backbone", ["timm:test_efficientnet", "timm:test_vit"])
def test_backbones_of_timm_build_too(backbone: str, portables: Portables, tmp_path: Path) -> None:
    bundle = built(portables(backbone, "resize", precisions=("fp16",)), tmp_path / "bundle")
    assert bundle.manifest.model.backbone.startswith(backbone)
    assert bundle.manifest.parity.status == "pending"


def test_a_bundle_says_what_it_needs_and_what_its_precision_cost(bundle: Bundle) -> None:
    manifest = bundle.manifest
    engine, requirements, report = manifest.engine, manifest.engine.requirements, manifest.precision_report
    assert requirements is not None
    assert (requirements.library, requirements.version) == ("tensorrt_rtx", installed("tensorrt_rtx"))
    assert requirements.compute_capabilities == ("8.0", "8.6", "8.9", "12.0", "12.1")
    assert engine.profile is not None
    assert [shape.high for shape in engine.profile.shapes["local"]] == [16, 64]
    assert engine.max_batch == 64
    assert report is not None
    assert 0 < report.embedding < 2e-3
    assert report.half_sums is not None
    assert report.embedding / 2 < report.half_sums.embedding < 1.6e-2
    assert report.ranges["local"].widened == ()
    assert report.ranges["local"].largest_activation > 1


def test_parity_is_pending_where_the_engines_cannot_run(bundle: Bundle) -> None:
    parity = bundle.manifest.parity
    assert (parity.status, parity.embedding, parity.logits) == ("pending", None, None)
    allowed = tolerance_of("fp16", bundle.manifest.precision_report)
    assert (parity.embedding_tolerance, parity.logits_tolerance) == (allowed.embedding, allowed.logits)


def test_opening_on_a_machine_without_a_gpu_says_how_to_get_on(bundle: Bundle) -> None:
    with pytest.raises(BundleUnfit, match=r"(?s)run on an NVIDIA GPU.*pip install 'glass-rt\[tensorrt-rtx,cuda\]'"):
        Detector.open(bundle.folder)


def test_a_bundle_carries_what_another_machine_builds_from(bundle: Bundle, tmp_path: Path) -> None:
    again = built(PortableModel.open(bundle.folder), tmp_path / "again", target="8.9")
    assert again.manifest.model == bundle.manifest.model
    assert again.manifest.engine.requirements is not None
    assert again.manifest.engine.requirements.compute_capabilities == ("8.9",)


def test_the_same_build_is_taken_from_the_cache_and_another_one_is_not(
    small_model: PortableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    first = built(small_model, tmp_path / "1", cache=cache)
    kept = sorted(path.name for path in (cache / "engines").iterdir())
    assert len(kept) == 4  # two engines and their hashes
    with monkeypatch.context() as patch:
        patch.delattr("glass_engines.trt.compiler.plan_from_onnx")  # nothing is compiled
        second = built(small_model, tmp_path / "2", cache=cache)
    assert second.sha256 == first.sha256
    assert sorted(path.name for path in (cache / "engines").iterdir()) == kept
    others: tuple[dict[str, Any], ...] = ({"target": "8.9"}, {"profile": "l4"}, {"workspace_mb": 64}, {"tf32": True})
    for index, other in enumerate(others):
        built(small_model, tmp_path / f"other{index}", cache=cache, **other)
        assert len(list((cache / "engines").iterdir())) == 4 * (index + 2), f"{other} is another build"


def test_a_damaged_cache_entry_is_built_again(small_model: PortableModel, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = built(small_model, tmp_path / "1", cache=cache)
    sizes = {name: entry.size for name, entry in first.manifest.files.items()}
    for path in (cache / "engines").iterdir():
        if not path.suffix:
            path.unlink()  # the bundle has a link to it
            path.write_bytes(b"not an engine")
    again = built(small_model, tmp_path / "2", cache=cache)
    assert {name: entry.size for name, entry in again.manifest.files.items()} == sizes


def test_two_models_never_share_an_engine(tmp_path: Path) -> None:
    """One bit of one weight is another model."""
    first, second = tmp_path / "a.onnx", tmp_path / "b.onnx"
    first.write_bytes(bytes(1000))
    second.write_bytes(bytes(999) + b"\1")
    assert build_key(first, {"target": "default"}) != build_key(second, {"target": "default"})
    assert build_key(first, {"target": "default"}) != build_key(first, {"target": "8.9"})
    second.write_bytes(bytes(1000))
    assert build_key(first, {}) == build_key(second, {}), "the path does not matter"


def test_without_the_library_the_build_fails_at_once_with_the_commands(tmp_path: Path) -> None:
    if installed("tensorrt"):
        pytest.skip("TensorRT is installed here")
    done = subprocess.run(
        [COMMAND, "build", "--backbone", "vit_b16", "--backend", "tensorrt"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "..." not in done.stderr, "no stage of the build began"
    assert "--backend tensorrt needs tensorrt: it is not installed" in done.stderr
    for command in ("pip install 'glass-rt[tensorrt,cuda]'", "pip install 'glass-rt[tensorrt-rtx,cuda]'"):
        assert command in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_stops_the_builder_and_leaves_nothing_behind(small_model: PortableModel, tmp_path: Path) -> None:
    arguments = ["build", "--from", str(small_model.folder), "--backend", "tensorrt_rtx", "--precision", "fp16"]
    process = subprocess.Popen(
        [COMMAND, *arguments, "--no-cache", "--output", "bundle"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    line = ""
    while "compiling the global engine" not in line:
        line += process.stderr.read(1)
    time.sleep(0.3)  # into the vendor's builder, or at least near it
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert list(tmp_path.iterdir()) == []


def test_max_batch_cuts_the_profile(small_model: PortableModel, tmp_path: Path) -> None:
    bundle = built(small_model, tmp_path / "bundle", max_batch=8)
    assert bundle.manifest.engine.max_batch == 8
    assert bundle.manifest.engine.profile is not None
    assert {shape.high for shapes in bundle.manifest.engine.profile.shapes.values() for shape in shapes} == {4, 8}


class TimingConfig:
    """What TensorRT's builder configuration has for timings, which no library here takes: `good` is what it accepts."""

    def __init__(self, good: bytes) -> None:
        self.good, self.used, self.tried = good, b"", list[bytes]()

    def create_timing_cache(self, data: bytes) -> bytes:
        self.tried.append(data)
        return data

    def set_timing_cache(self, cache: bytes, _ignore: bool) -> bool:
        self.used = cache
        return cache in (b"", self.good)

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: bytearray(b"measured"))


def test_timings_lie_beside_the_bundle_and_in_the_users_cache(tmp_path: Path) -> None:
    build = TrtBuild(
        Library("tensorrt", SimpleNamespace(__version__="11.4.0", ILogger=load_library("tensorrt_rtx").trt.ILogger)), TrtSettings(cache=tmp_path / "mine"),
        find_profile("l4"), Requirements("tensorrt", "11.4.0", "default", ("8.9",), False, ""), "NVIDIA L4",
    )  # fmt: skip
    first, second = (tmp_path / name / "local.plan" for name in ("first", "second"))
    config = TimingConfig(b"measured")
    places = _load_timings(build, config, first)
    assert config.tried == [b""]
    _save_timings(config, places)
    name = "tensorrt-11.4.0-NVIDIA_L4.timings"
    assert places == (tmp_path / "first" / "cache" / name, tmp_path / "mine" / "timings" / name)
    assert [read_cached([place]) for place in places] == [b"measured"] * 2
    _load_timings(build, config, second)
    assert config.used == b"measured", "another bundle on the same GPU uses them too"
    for place in places:
        place.write_bytes(b"damaged")
    _load_timings(build, config, first)
    assert config.used == b""
    _save_timings(config, places)
    stranger = TimingConfig(b"of another version")
    _load_timings(build, stranger, first)
    assert stranger.tried == [b"measured", b""]
    assert stranger.used == b"", "what the library refuses is not used"


def test_a_bundle_keeps_the_timings_of_the_one_it_replaces_and_of_the_one_it_is_built_from(
    small_model: PortableModel, tmp_path: Path
) -> None:
    first = built(small_model, tmp_path / "first")
    assert write_cached(b"measured", [first.folder / "cache" / "a.timings"])
    assert write_cached(b"compiled", [first.folder / "cache" / "local.kernels"])
    second = built(PortableModel.open(first.folder), tmp_path / "second")
    assert [path.name for path in (second.folder / "cache").iterdir()] == ["a.timings"]
    again = build_bundle(small_model, first.folder, BuildOptions("tensorrt_rtx", "fp16"), force=True)
    assert [path.name for path in (again.folder / "cache").iterdir()] == ["a.timings"]
    assert not [name for name in again.manifest.files if name.startswith("cache")]
    Bundle.open(again.folder, every_file=True)


def test_the_bundle_does_not_change_when_it_is_cached_beside(bundle: Bundle) -> None:
    (bundle.folder / "cache").mkdir(exist_ok=True)
    (bundle.folder / "cache" / "anything").write_bytes(b"x")
    again = Bundle.open(bundle.folder, every_file=True)
    assert again.sha256 == bundle.sha256 == sha256_of(bundle.folder / "manifest.json")

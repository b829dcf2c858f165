"""One suite for every backend of the CPU that is installed, against PyTorch within the precision's tolerance."""

from pathlib import Path

import numpy as np
import pytest
from glass_engines.build import BuildOptions, build_bundle
from glass_engines.registry import choose_backend

from glass_rt import Detector
from glass_rt.backends import Backend, open_backend
from glass_rt.bundle.bundle import Bundle, PortableModel
from glass_rt.errors import BackendError, ParityError, UsageError
from glass_rt.inference.engines import open_engines
from glass_rt.inference.parity import TOLERANCES
from glass_rt.machine.environment import installed
from tests.support import Bundles, Portables

pytestmark = pytest.mark.slow

CASES = (
    ("onnxruntime", "fp32", "resnet18"),
    ("openvino", "fp32", "resnet18"),
    ("openvino", "fp32", "convnext_tiny"),  # two crops at a time
    ("openvino", "bf16", "resnet18"),
    ("onnxruntime", "int8", "resnet18"),
    ("openvino", "int8", "resnet18"),
)


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def bundle(
    request: pytest.FixtureRequest,
    portables: Portables,
    pictures: tuple[Path, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundle:
    backend, precision, backbone = request.param
    if not installed(backend):
        pytest.skip(f"{backend} is not installed")
    options = BuildOptions(backend, precision, calibration=pictures[0].parent, tolerance=0.3)
    target = tmp_path_factory.mktemp("backend") / "bundle"
    try:
        return build_bundle(portables(backbone), target, options)
    except UsageError as error:
        if precision == "bf16" and "does not compute in bf16" in str(error):
            pytest.skip(str(error))
        raise


@pytest.fixture(scope="module")
def engines(bundle: Bundle) -> dict[str, Backend]:
    return open_engines(bundle)


def test_it_computes_what_pytorch_computes_at_every_batch(bundle: Bundle, engines: dict[str, Backend]) -> None:
    reference = bundle.reference()
    expected = reference["local_embeddings"]
    limit = TOLERANCES[bundle.manifest.engine.precision].embedding
    for count in (1, 2, 3, len(expected)):
        found = engines["local"].run({"pixels": reference["crops"][:count]})["embedding"]
        assert found.dtype == np.float32
        distances = np.linalg.norm(found - expected[:count], axis=1) / np.linalg.norm(expected[:count], axis=1)
        assert distances.max() <= limit


def test_a_row_hardly_depends_on_its_batch(bundle: Bundle, engines: dict[str, Backend]) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (9, 224, 224, 3), dtype=np.uint8)
    together = engines["local"].run({"pixels": crops})["embedding"]
    alone = np.concatenate([engines["local"].run({"pixels": crop[None]})["embedding"] for crop in crops])
    limit = 1e-5 if bundle.manifest.engine.precision == "fp32" else 1e-2
    assert np.abs(together - alone).max() <= limit * np.abs(together).max()


def test_no_views_give_no_embeddings(engines: dict[str, Backend]) -> None:
    found = engines["local"].run({"pixels": np.empty((0, 224, 224, 3), np.uint8)})["embedding"]
    assert found.shape == (0, engines["local"].outputs[0].shape[1])


def test_results_are_the_callers_own(engines: dict[str, Backend]) -> None:
    crops = np.zeros((2, 224, 224, 3), np.uint8)
    first = engines["local"].run({"pixels": crops})["embedding"]
    copied = first.copy()
    engines["local"].run({"pixels": crops + np.uint8(255)})
    assert (first == copied).all()


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"pixels": np.zeros((1, 224, 224, 3), np.float32)},
        {"pixels": np.zeros((1, 256, 256, 3), np.uint8)},
        {"pixels": np.zeros((224, 224, 3), np.uint8)},
        {"pixels": np.zeros((1, 224, 224, 3), np.uint8), "more": np.zeros(1)},
    ],
)
def test_wrong_feeds_are_refused_by_name(engines: dict[str, Backend], feeds: dict[str, np.ndarray]) -> None:
    with pytest.raises(BackendError, match=r"pixels \(N, 224, 224, 3\) uint8"):
        engines["local"].run(feeds)


def test_it_says_what_it_is_and_can_be_closed_twice(bundle: Bundle, pictures: tuple[Path, ...]) -> None:
    with Detector.open(bundle.folder) as detector:
        verdict = detector.detect(pictures[0])
    detector.close()
    engine = bundle.manifest.engine
    assert (verdict.engine.backend, verdict.engine.precision) == (engine.backend, engine.precision)


def test_int8_is_judged_on_images_kept_out_and_rebuilt_from_exact_graphs(bundle: Bundle) -> None:
    assert set(PortableModel.open(bundle.folder).manifest.graphs) == {"fp32"}
    report = bundle.manifest.precision_report
    if bundle.manifest.engine.precision != "int8":
        assert report is None
        return
    assert report is not None
    assert "on 2 images kept out" in report.computed_by
    assert 0 < report.embedding <= 0.3


def test_int8_past_its_tolerance_is_refused(portables: Portables, pictures: tuple[Path, ...], tmp_path: Path) -> None:
    options = BuildOptions("onnxruntime", "int8", calibration=pictures[0].parent, tolerance=1e-3)
    with pytest.raises(ParityError, match="INT8 changes too much on images kept out"):
        build_bundle(portables("resnet18"), tmp_path / "bundle", options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [[], ["a.jpg"]])
def test_int8_needs_images(portables: Portables, tmp_path: Path, content: list[str]) -> None:
    for name in content:
        (tmp_path / name).write_text("no image")
    with pytest.raises(UsageError, match="at least 4 are needed"):
        build_bundle(portables("resnet18"), tmp_path / "b", BuildOptions("onnxruntime", "int8", calibration=tmp_path))
    with pytest.raises(UsageError, match="--calibration DIR"):
        BuildOptions("onnxruntime", "int8")


def test_a_damaged_engine_is_the_backends_error(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no engine")
    with pytest.raises(BackendError, match="ONNX Runtime cannot open"):
        open_backend("onnxruntime", tmp_path / "x.onnx")
    if installed("openvino"):
        (tmp_path / "x.xml").write_bytes(b"no engine")
        with pytest.raises(BackendError, match="OpenVINO cannot open"):
            open_backend("openvino", tmp_path / "x.xml")
    with pytest.raises(UsageError, match="backend: got 'caffe'"):
        open_backend("caffe", tmp_path / "x.onnx")


def test_a_device_that_a_backend_lacks_is_refused(bundles: Bundles) -> None:
    engine = bundles("resnet18").engine_file("global")
    with pytest.raises(UsageError, match="cpu, cuda or cuda:N"):
        open_backend("onnxruntime", engine, device="tpu")


def test_auto_stands_for_a_backend_that_is_here() -> None:
    assert installed(choose_backend("auto"))
    assert choose_backend("onnxruntime") == "onnxruntime"

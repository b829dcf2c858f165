"""What tests share: models and bundles (made once per session), real files, pictures, and the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from glass_bench.sample import landscape
from glass_engines.build import BuildOptions, build_bundle
from glass_export.backbones import find_backbone
from glass_export.model import Glass, ResizeOnly, build_model, checkpoint_module
from glass_export.portable import ExportOptions, export_portable
from glass_export.untrained import fill_untrained

from glass_rt.bundle.bundle import Bundle, PortableModel
from tests.command_line import run_here, run_process
from tests.exported_once import exported_once
from tests.glass_rt.bulk.planted import POISON
from tests.support import (
    FAULTS_VARIABLE,
    IMAGES_VARIABLE,
    PAIRS_VARIABLE,
    Bundles,
    Cli,
    Portables,
    TorchModels,
    folder_named_by,
    write_picture,
)

SMALL = 500_000  # bytes of a photograph


@pytest.fixture(scope="session", autouse=True)
def _exported_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "graphs"  # workers share one
    folder.mkdir(exist_ok=True)
    with exported_once(folder):
        yield


@pytest.fixture(scope="session")
def portables(tmp_path_factory: pytest.TempPathFactory) -> Portables:
    """`portables(backbone, architecture="glass", weights=None, ...)`: a portable model, exported once per session."""
    made: dict[tuple[object, ...], PortableModel] = {}

    def portable(backbone: str, architecture: str = "glass", **options: object) -> PortableModel:
        key = (backbone, architecture, *sorted(options.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("portable") / backbone
            made[key] = export_portable(ExportOptions(backbone, architecture, **options), folder)  # type: ignore[arg-type]
        return made[key]

    return portable


@pytest.fixture(scope="session")
def torch_models() -> TorchModels:
    """`torch_models(backbone, architecture="glass")`: the PyTorch model that `portables` exports; not to be altered."""

    @cache
    def model(backbone: str, architecture: str = "glass") -> Glass | ResizeOnly:
        built = build_model(find_backbone(backbone), architecture)
        fill_untrained(checkpoint_module(built))
        return built

    return model


@pytest.fixture(scope="session")
def bundles(portables: Portables, tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """`bundles(backbone, architecture="glass", ...)`: an ONNX Runtime fp32 bundle, built once per session."""
    made: dict[Path, Bundle] = {}

    def bundle(backbone: str, architecture: str = "glass", **options: object) -> Bundle:
        source = portables(backbone, architecture, **options)
        if source.folder not in made:
            folder = tmp_path_factory.mktemp("bundle") / backbone
            made[source.folder] = build_bundle(source, folder, BuildOptions(backend="onnxruntime"))
        return made[source.folder]

    return bundle


@pytest.fixture(scope="session")
def real_images() -> Path:
    """The folder of real images that the environment names; without it the test is skipped."""
    return _real_files(IMAGES_VARIABLE, "real images")


@pytest.fixture(scope="session")
def real_pairs() -> Path:
    """The folder of real windows and their resynthesised twins; without it the test is skipped."""
    return _real_files(PAIRS_VARIABLE, "pairs of real and resynthesised images")


@pytest.fixture(scope="session")
def fault_files() -> Path:
    """The folder of small files on which an earlier version failed; without it the test is skipped."""
    return _real_files(FAULTS_VARIABLE, "files with faults")


def _real_files(variable: str, what: str) -> Path:
    folder = folder_named_by(variable)
    if folder is None:
        pytest.skip(f"{variable} names no folder of {what}")
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Eight generated pictures of different sizes and formats, the smaller ones not stratified at K = 4."""
    folder = tmp_path_factory.mktemp("pictures")
    sizes = ((1600, 1200), (1000, 700), (640, 480), (2400, 900), (300, 1200), (200, 150), (1, 1), (1024, 1024))
    paths = []
    for seed, (width, height) in enumerate(sizes):
        path = folder / f"{width}x{height}.{('jpg', 'png')[seed % 2]}"
        write_picture(path, landscape(width, height, seed))
        paths.append(path)
    return tuple(paths)


@pytest.fixture(scope="session")
def photographs(pictures: tuple[Path, ...]) -> tuple[Path, ...]:
    """Real images where the environment names some, the generated pictures elsewhere."""
    named = folder_named_by(IMAGES_VARIABLE)
    if named is None:
        return pictures
    found = (path for kind in ("real", "fake") for path in sorted((named / kind).rglob("*.*")))
    small = sorted(path for path in found if path.suffix in (".jpg", ".png") and path.stat().st_size < SMALL)
    return tuple(small[:24]) or pictures


@pytest.fixture(scope="session")
def poison(photographs: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG that is a good one everywhere but under the planted decoder, which dies of it."""
    good = next(path for path in photographs if path.suffix == ".jpg")
    path = tmp_path_factory.mktemp("poison") / "poison.jpg"
    path.write_bytes(good.read_bytes() + POISON)
    return path


@pytest.fixture(scope="session")
def cli() -> Cli:
    """`cli("infer", path, ...)`: runs the command line in this process; exit code and output as text."""
    return run_here


@pytest.fixture(scope="session")
def process_cli() -> Cli:
    """`process_cli("infer", path, ...)`: runs the command line in a process of its own, as a user does."""
    return run_process

"""Every kind of bundle through every command that opens one: it works, or is refused in words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner

from glass_rt.backends.ov import load_openvino
from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.folder import write_manifest
from glass_rt.bundle.manifest import Parity
from glass_rt.bundle.precision_report import PrecisionReport, RangeReport
from glass_rt.bundle.requirements import Profile, Requirements, Shapes
from glass_rt.cli import cli
from glass_rt.detector import Detector
from glass_rt.errors import BackendError, BundleUnfit, MissingDependency, UsageError
from glass_rt.machine.cache_files import CACHE_VARIABLE
from glass_rt.machine.environment import installed
from glass_rt.serve.metrics import Metrics
from glass_rt.serve.service import Service
from glass_rt.serve.settings import ServerSettings
from tests.bench_zoo import write_bundle, write_picture

pytestmark = pytest.mark.slow

# Backend, its precisions, the suffix of its engines. The next backend is a row.
BACKENDS = (
    ("onnxruntime", ("fp32", "int8"), ".onnx"),
    ("openvino", ("fp32", "bf16", "int8"), ".xml"),
    ("tensorrt", ("fp32", "fp16", "bf16", "int8"), ".plan"),
    ("tensorrt_rtx", ("fp32", "fp16", "bf16", "int8"), ".plan"),
)
ARCHITECTURES = ("glass", "resize")
TRAINED = (True, False)
PARITIES = ("passed", "pending")


@dataclass(frozen=True)
class Kind:
    """One kind of bundle."""

    backend: str
    precision: str
    suffix: str
    architecture: str
    trained: bool
    parity: str

    def __str__(self) -> str:
        trained = "trained" if self.trained else "untrained"
        return f"{self.backend}-{self.precision}-{self.architecture}-{trained}-{self.parity}"

    @property
    def on_gpu(self) -> bool:
        return self.suffix == ".plan"


KINDS = [
    Kind(backend, precision, suffix, architecture, trained, parity)
    for backend, precisions, suffix in BACKENDS
    for precision, architecture, trained, parity in product(precisions, ARCHITECTURES, TRAINED, PARITIES)
]


def write_kind(kind: Kind, folder: Path) -> Path:
    """A tiny bundle of that kind; engines for GPUs are files that no library has seen."""
    write_bundle(folder, kind.architecture)
    manifest = Bundle.open(folder).manifest
    files = {role: f"{role}{kind.suffix}" for role in manifest.model.roles}
    for role, name in files.items():
        graph = folder / f"{role}.onnx"
        if kind.suffix == ".xml":
            write_openvino(graph, folder / name)
        if kind.on_gpu:
            (folder / name).write_bytes(b"a plan")
        if kind.suffix != ".onnx":
            graph.unlink()
    shapes = {role: (Shapes(1, 4, 16), Shapes(1, 64, 64)) for role in files}
    engine = replace(
        manifest.engine,
        backend=kind.backend,
        precision=kind.precision,
        device="cuda" if kind.on_gpu else "cpu",
        files=files,
        requirements=Requirements(kind.backend, "99.1", "default", ("8.9",), True, "580") if kind.on_gpu else None,
        profile=Profile("rtx", shapes) if kind.on_gpu else None,
    )
    ranges = {"global": RangeReport(4, "seeded views", 1.6e4, 3.0, "a", 70.0, "b", ("unit",), (), 9)}
    reports = {
        "int8": PrecisionReport("NNCF on 2 images kept out", 0.1, 0.2, {}),
        "fp16": PrecisionReport("PyTorch", 1e-3, 1e-3, ranges),
    }
    changed = replace(
        manifest,
        model=replace(manifest.model, weights=replace(manifest.model.weights, trained=kind.trained)),
        engine=engine,
        parity=Parity("passed", 1e-6, 1e-6, 1e-5, 5e-5) if kind.parity == "passed" else Parity("pending"),
        precision_report=reports.get(kind.precision),
    )
    write_manifest(folder, changed)
    return folder


def write_openvino(graph: Path, engine: Path) -> None:
    """OpenVINO drops the zoo's cast from float to float; the pixels would then go by the name of its result too."""
    ov = load_openvino()
    model = ov.Core().read_model(graph)
    for cast in [op for op in model.get_ops() if op.get_type_name() == "Convert"]:
        cast.output(0).get_tensor().set_names(set())
    ov.save_model(model, engine, compress_to_fp16=False)


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and output of a command, in this process; raises what the command raises."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.return_value, result.output


def computes_in_bf16() -> bool:
    return "BF16" in load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def start_server(folder: Path) -> tuple[int, str]:
    async def started() -> None:
        service = Service(partial(Detector.open, folder), ServerSettings(), Metrics())
        await service.start()
        await service.stop()

    asyncio.run(started())
    return 0, ""


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_command_takes_the_bundle_or_says_why_not(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kind.on_gpu and not installed(kind.backend):
        pytest.skip(f"{kind.backend} is not installed")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "user's cache"))
    folder = write_kind(kind, tmp_path / "bundle")
    picture = write_picture(tmp_path / "red.png", (180, 60, 60))
    pin = Bundle.open(folder).sha256

    for options in ([folder], ["--engine", folder], ["--json", folder]):
        code, output = run("inspect", *options)
        assert code == 0
        assert kind.precision in output
    repository = tmp_path / "models"
    assert run("triton", "--engine", folder, "--output", repository, "--expect-bundle", pin)[0] == 0

    opening: tuple[Callable[[], tuple[int, str]], ...] = (
        lambda: run("verify", folder),
        lambda: run("verify", "--engine", folder, "--expect-bundle", pin),
        lambda: run("infer", "--engine", folder, "--expect-bundle", pin, picture),
        lambda: run("infer", "--engine", folder, "--json", picture),
        lambda: start_server(folder),
        lambda: start_server(repository / "bundle" / "1" / "bundle"),
    )
    for command in opening:
        if kind.on_gpu:
            with pytest.raises((BundleUnfit, MissingDependency, BackendError), match=r"needs? |cannot open"):
                command()
        elif kind.precision == "bf16" and not computes_in_bf16():
            with pytest.raises(UsageError, match="does not compute in bf16"):
                command()
        else:
            assert command()[0] == 0


def test_a_bundle_is_named_once(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    for command in ("inspect", "verify"):
        assert run(command, folder, "--engine", folder)[0] == 0
        with pytest.raises(Exception, match="name one bundle"):
            run(command, folder, "--engine", tmp_path)

"""A portable model becomes a bundle: compile, pass the parity gate, write whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from glass_engines.compilers.base import EXACT, Compiler
from glass_engines.decision import keep_decision
from glass_engines.int8.accuracy import accuracy_report
from glass_engines.int8.calibration import CalibrationSet, calibration_set
from glass_engines.int8.quantise import load_nncf
from glass_engines.registry import choose_backend, find_compiler
from glass_engines.trt.cache import carry_timings
from glass_engines.trt.settings import TrtSettings
from glass_rt.backends import Backend, open_backend
from glass_rt.bundle.bundle import HEAD, PORTABLE_FOLDER, REFERENCE, Bundle, PortableModel, load_tensors
from glass_rt.bundle.folder import MANIFEST, link_or_copy, staged, write_manifest
from glass_rt.bundle.manifest import PRECISIONS, BundleManifest, Engine, Model, Parity
from glass_rt.bundle.precision_report import PrecisionReport
from glass_rt.errors import BuildError, MissingDependency, ParityError, UsageError
from glass_rt.inference.head import Head
from glass_rt.inference.parity import Tolerance, check_parity, tolerance_of
from glass_rt.progress import Stage, silent
from glass_rt.version import __version__

DEFAULT_THRESHOLD = 0.5
DEFAULT_MAX_BATCH = 64
INT8_TOLERANCE = 0.2


class ModelToExport(Protocol):
    """A model that the export stage has loaded and can write as a portable model."""

    @property
    def model(self) -> Model:
        """The manifest's description of the model."""

    def write(self, folder: Path, stage: Stage) -> None:
        """Writes a portable model's files into an existing folder."""


@dataclass(frozen=True)
class BuildOptions:
    """How to compile. `backend` may be `auto`; `slim` leaves the portable model out of the bundle.

    `trt` holds what only TensorRT's backends know; their batch sizes are those of its profile. For INT8, `calibration`
    is a folder of images, and `tolerance` the largest relative L2 distance of an embedding from float32 that is
    accepted on the images kept out of the calibration (three times that for a logit).
    """

    backend: str = "auto"
    precision: str = "fp32"
    max_batch: int = DEFAULT_MAX_BATCH
    slim: bool = False
    trt: TrtSettings = field(default_factory=TrtSettings)
    calibration: Path | None = None
    tolerance: float = INT8_TOLERANCE

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision: got {self.precision!r}; expected one of {', '.join(PRECISIONS)}")
        if self.max_batch < 1:
            raise UsageError(f"max_batch: got {self.max_batch}; at least one is needed")
        if self.precision == "int8" and self.calibration is None:
            raise UsageError(
                "calibration: INT8 needs images to learn the ranges of activations from: --calibration DIR, with some "
                "hundred images of the kind that will be judged (a quarter of them is kept to check the result)"
            )


def build_bundle(
    source: PortableModel | ModelToExport,
    target: Path,
    options: BuildOptions,
    *,
    force: bool = False,
    stage: Stage = silent,
    remark: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Compiles a portable model (or what `source` exports) into the folder `target`, whole or not at all.

    A bundle that this one is built from, or in place of, hands its decision on where the content is the same; where it
    is not, `remark` is told that the decision is left out.

    Past the parity gate, else nothing is written. Raises BuildError, ParityError, UsageError, MissingDependency, and
    BundleExists where `target` exists and `force` is not given.
    """
    backend = choose_backend(options.backend)
    compiler = find_compiler(backend, options.precision, options.trt)
    builders = compiler.tools()  # a library that is missing is better known before the export than after
    if options.precision == "int8":
        load_nncf()
    with staged(target, force=force) as folder:
        for bundle in _predecessors(source, target):
            carry_timings(bundle, folder)
        with (
            _portable_in(folder, source, options.slim, stage) as portable,
            TemporaryDirectory(prefix="glass-rt-") as scratch,
        ):
            _check_graphs(portable, compiler, options.precision)
            for name in (HEAD, REFERENCE):
                link_or_copy(portable.folder / name, folder / name)
            model = portable.manifest.model
            images = (
                calibration_set(options.calibration, model)
                if options.calibration and options.precision == "int8"
                else None
            )
            graphs = {role: portable.graph(compiler.graph_precision(options.precision), role) for role in model.roles}
            if images is not None:
                graphs = _quantised(graphs, compiler, images, model, Path(scratch), stage)
            engine = _compile(graphs, folder, backend, compiler, options, stage)
            report = portable.manifest.precisions.get(options.precision)
            allowed = tolerance_of(options.precision, report)
            parity = (
                _checked_parity(folder, model, engine, allowed, stage)
                if compiler.runs_here
                else _pending_parity(allowed)
            )
            if images is not None:
                with stage("comparing with float32 on images kept out"):
                    report = _int8_report(portable, folder, engine, graphs, images, options.tolerance)
            tools = {**portable.manifest.tools, **builders, "glass-rt": __version__}
        with stage("writing the bundle"):
            manifest = BundleManifest(model, engine, parity, DEFAULT_THRESHOLD, tools, precision_report=report)
            write_manifest(folder, manifest)
            keep_decision(folder, _predecessors(source, target), remark)
    return Bundle.open(target)


def prepare_export(stage: Stage, **options: Any) -> ModelToExport:
    """Has the export stage load a model; it is found by its entry point, this stage does not import it.

    Raises MissingDependency where it, or PyTorch under it, is not installed.
    """
    for point in entry_points(group="glass_rt.exporters"):
        try:
            prepare = point.load()
        except ImportError as error:
            raise MissingDependency(
                error.name or "torch", "export", "building from a checkpoint (rather than --from MODEL)"
            ) from error
        prepared: ModelToExport = prepare(stage, **options)
        return prepared
    raise BuildError("no export stage is installed; install glass-rt whole, or build with --from MODEL")


def _predecessors(source: PortableModel | ModelToExport, target: Path) -> tuple[Path, ...]:
    """Bundles that this one is built in place of, or from."""
    inside = isinstance(source, PortableModel) and source.folder.name == PORTABLE_FOLDER
    return (target, source.folder.parent) if isinstance(source, PortableModel) and inside else (target,)


@contextmanager
def _portable_in(
    folder: Path, source: PortableModel | ModelToExport, slim: bool, stage: Stage
) -> Iterator[PortableModel]:
    """The portable model inside the bundle's folder; it is removed after the block where the bundle is to be slim."""
    inside = folder / PORTABLE_FOLDER
    inside.mkdir()
    if isinstance(source, PortableModel):
        for name in (*source.manifest.files, MANIFEST):
            link_or_copy(source.folder / name, inside / name)
        portable = PortableModel(inside, source.manifest)  # its files were checked when it was opened
    else:
        source.write(inside, stage)
        portable = PortableModel.open(inside)
    yield portable
    if slim:
        for path in sorted(inside.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        inside.rmdir()


def _check_graphs(portable: PortableModel, compiler: Compiler, precision: str) -> None:
    needed, there = compiler.graph_precisions(precision), portable.manifest.graphs
    if any(name not in there for name in needed):
        raise UsageError(
            f"the portable model has graphs in {', '.join(there)}; these engines are made from {' and '.join(needed)}. "
            f"Export it again with {' '.join(f'--precision {name}' for name in needed)}"
        )


def _quantised(
    graphs: Mapping[str, Path], compiler: Compiler, images: CalibrationSet, model: Model, folder: Path, stage: Stage
) -> dict[str, Path]:
    """The graphs in INT8, by role, in `folder`."""
    narrow = {role: folder / f"{role}.int8.onnx" for role in graphs}
    for role, graph in graphs.items():
        with stage(f"quantising the {role} engine"):
            compiler.quantise(graph, images.calibrating.of(role), narrow[role])
    return narrow


def _compile(
    graphs: Mapping[str, Path],
    folder: Path,
    backend: str,
    compiler: Compiler,
    options: BuildOptions,
    stage: Stage,
) -> Engine:
    files = {role: f"{role}{compiler.suffix}" for role in graphs}
    for role, graph in graphs.items():
        with stage(f"compiling the {role} engine ({backend} {options.precision})"):
            compiler.compile(graph, folder / files[role])
    max_batch = compiler.max_batch or options.max_batch
    profile, requirements = compiler.profile, compiler.requirements
    if profile is not None:  # of the roles that this model has
        profile = replace(profile, shapes={role: profile.shapes[role] for role in files})
    return Engine(backend, options.precision, compiler.device, max_batch, files, requirements, profile)


def _int8_report(
    portable: PortableModel,
    folder: Path,
    engine: Engine,
    graphs: Mapping[str, Path],
    images: CalibrationSet,
    tolerance: float,
) -> PrecisionReport:
    """Compares INT8 with float32 on the CPU. Engines for GPUs are stood for by the graphs that they are compiled from.

    Those also pass the parity gate here, so that the first opening on a GPU does not find what could be known now.
    """
    model, head = portable.model, Head.for_model(portable.model, load_tensors(folder / HEAD))
    on_cpu = engine.device == "cpu"
    library = engine.backend if on_cpu else "onnxruntime"
    exact = {role: open_backend(library, portable.graph(EXACT, role)) for role in model.roles}
    files = {role: folder / name for role, name in engine.files.items()} if on_cpu else graphs
    narrow = {role: open_backend(library, file, precision="int8") for role, file in files.items()}
    if not on_cpu:
        with _model_named(model, engine):
            check_parity(
                narrow, head, model, load_tensors(folder / REFERENCE), tolerance_of("int8", None), engine.max_batch
            )
    computed_by = "the engines themselves" if on_cpu else "ONNX Runtime with the graphs of these engines"
    allowed = Tolerance(tolerance, 3 * tolerance)
    return accuracy_report(exact, narrow, head, model, images.held_out, allowed, computed_by)


@contextmanager
def _model_named(model: Model, engine: Engine) -> Iterator[None]:
    try:
        yield
    except ParityError as error:
        raise ParityError(
            f"{model.name}, {engine.backend} {engine.precision}: {error}; nothing was written: {_way_out(engine)}"
        ) from error


def _way_out(engine: Engine) -> str:
    if engine.precision == EXACT:
        return "choose another --backend, or install another version of this one's library"
    return (
        f"this model loses too much in {engine.precision}; build it with --precision {EXACT}, or in another precision"
    )


def _pending_parity(allowed: Tolerance) -> Parity:
    """For an engine that cannot run here: its first opening on a machine where it can settles the parity."""
    return Parity("pending", None, None, allowed.embedding, allowed.logits)


def _open_engines(folder: Path, engine: Engine) -> dict[str, Backend]:
    return {
        role: open_backend(engine.backend, folder / name, precision=engine.precision, device=engine.device)
        for role, name in engine.files.items()
    }


def _checked_parity(folder: Path, model: Model, engine: Engine, allowed: Tolerance, stage: Stage) -> Parity:
    """Runs the reference views through the engines. Raises ParityError."""
    with stage("parity gate"):
        head = Head.for_model(model, load_tensors(folder / HEAD))
        engines = _open_engines(folder, engine)
        try:
            with _model_named(model, engine):
                return check_parity(engines, head, model, load_tensors(folder / REFERENCE), allowed, engine.max_batch)
        finally:
            for backend in engines.values():
                backend.close()

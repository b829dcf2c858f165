"""ONNX to TensorRT plans, by TensorRT or by TensorRT for RTX. The graph says which types are computed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from glass_engines.compilers.base import Compiler
from glass_engines.int8.quantise import symmetric_from_onnx
from glass_engines.trt.cache import build_key, restore_engine, store_engine, timings
from glass_engines.trt.float32_sums import sum_in_float32
from glass_engines.trt.onnx_weights import GraphAndWeights, weights_apart
from glass_engines.trt.profiles_file import ProfileFile, find_profile, with_max_batch
from glass_engines.trt.progress import Cancellation, progress_monitor
from glass_engines.trt.settings import TrtSettings
from glass_engines.trt.stream import stream_writer
from glass_rt.backends.embedding import INPUT, OUTPUT
from glass_rt.backends.trt.library import Library, load_library
from glass_rt.bundle.requirements import Requirements, Shapes, is_capability
from glass_rt.errors import BuildError
from glass_rt.machine.cache_files import read_cached
from glass_rt.machine.cache_files import write_cached as keep_file
from glass_rt.machine.environment import Gpu, gpus

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
SUFFIX = ".plan"


@dataclass(frozen=True)
class TrtBuild:
    """Everything that one build depends on, apart from the graph."""

    library: Library
    settings: TrtSettings
    file: ProfileFile
    requirements: Requirements
    gpu: str

    @property
    def workspace_mb(self) -> int:
        """Most scratch memory of a kernel."""
        return self.settings.workspace_mb or self.file.workspace_mb

    @property
    def optimisation_level(self) -> int:
        """The vendor's 0..5."""
        chosen = self.settings.optimisation_level
        return self.file.optimisation_level if chosen is None else chosen

    def key(self, graph: Path, shapes: tuple[Shapes, ...]) -> str:
        """The name under which the cache stores the engine."""
        circumstances = {
            "shapes": [asdict(item) for item in shapes],
            "requirements": asdict(self.requirements),
            "gpu": self.gpu,
            "workspace_mb": self.workspace_mb,
            "optimisation_level": self.optimisation_level,
            "tf32": self.settings.tf32,
        }
        return build_key(graph, circumstances)


def compiler_for(backend: str, settings: TrtSettings) -> Compiler:
    """The compiler `tensorrt` or `tensorrt_rtx` with these settings.

    Raises MissingDependency where the library is not there, and UsageError: a target or profile that it does not have.
    """
    library, here = load_library(backend), _first_gpu()
    names = () if here is None else (here.name,)
    file = with_max_batch(find_profile(settings.profile, names), settings.max_batch)
    requirements = library.requirements(settings.target, here)
    # What TensorRT builds depends on the very card it is built on; what RTX builds does not.
    build = TrtBuild(library, settings, file, requirements, "" if library.is_rtx or here is None else here.name)
    return Compiler(
        precisions=PRECISIONS,
        device="cuda",
        suffix=SUFFIX,
        compile=_compile_with(build),
        tools=lambda: _tools(library),
        max_batch=max(shapes[-1].high for shapes in file.profile.shapes.values()),
        requirements=requirements,
        profile=file.profile,
        runs_here=here is not None and requirements.runs_on(here.compute_capability),
        narrows={"int8": "fp16"},
        quantise=symmetric_from_onnx,
    )


def _first_gpu() -> Gpu | None:
    """The GPU that the vendor's builder and the parity gate run on, beside others of other kinds."""
    return next((gpu for gpu in gpus()[:1] if is_capability(gpu.compute_capability)), None)


def plan_from_onnx(build: TrtBuild, graph: Path, engine: Path, shapes: tuple[Shapes, ...]) -> None:
    """Writes the plan of a strongly typed graph, with one optimisation profile per entry of `shapes`.

    At its peak, ViT-B/16 takes 2.2 times the plan's size of memory: the packed weights (a plan's size) and three times
    64 MB (3 x 0.37) through which the library hands the plan over, one of them the copy that Python's binding makes.
    The graph's own weights are not among it, see `onnx_weights`. Where a version lacks the calls for that (10.3), it is
    4.3 times. Raises BuildError with the vendor's log lines, and KeyboardInterrupt where Ctrl-C stopped the builder.
    """
    library = build.library
    apart = weights_apart(graph, engine.parent) if hasattr(library.trt.OnnxParser, "load_initializer") else None
    with library.explained(BuildError, f"{library.name} cannot compile {graph.name}"):
        _build_plan(build, graph, apart, engine, shapes)  # whose objects are gone before the weights that they point to


def _build_plan(
    build: TrtBuild, graph: Path, apart: GraphAndWeights | None, engine: Path, shapes: tuple[Shapes, ...]
) -> None:
    library, trt = build.library, build.library.trt
    cancellation = Cancellation()
    builder = trt.Builder(library.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, library.logger)
    if not _parsed(parser, graph, apart):
        raise BuildError(library.reason(f"{library.name} cannot read {graph.name}"))
    sum_in_float32(trt, network)
    config = _configured(build, builder, network, shapes)
    config.progress_monitor = progress_monitor(trt, cancellation)
    places = _load_timings(build, config, engine)
    try:
        with engine.open("wb") as file, cancellation.on_interrupt():
            written = _write_plan(trt, builder, network, config, file)
        if not written:
            raise BuildError(library.reason(f"{library.name} cannot compile {graph.name}"))
    except BaseException:
        engine.unlink(missing_ok=True)
        raise
    _save_timings(config, places)


def _parsed(parser: Any, graph: Path, apart: GraphAndWeights | None) -> bool:
    if apart is None:
        return bool(parser.parse_from_file(str(graph)))
    return (
        parser.load_model_proto(apart.graph, str(graph))
        and all(parser.load_initializer(name, *place) for name, place in apart.weights.items())
        and parser.parse_model_proto()
    )


def _write_plan(trt: Any, builder: Any, network: Any, config: Any, file: IO[bytes]) -> bool:
    if not hasattr(trt, "IStreamWriter"):
        plan = builder.build_serialized_network(network, config)
        return plan is not None and file.write(plan) > 0
    writer = stream_writer(trt, file)
    written: bool = builder.build_serialized_network_to_stream(network, config, writer)
    if writer.failure is not None:
        raise writer.failure
    return written


def _compile_with(build: TrtBuild) -> Callable[[Path, Path], None]:
    def compile_engine(graph: Path, engine: Path) -> None:
        shapes = build.file.profile.shapes[engine.stem]
        cache = build.settings.cache
        key = build.key(graph, shapes)
        if cache is not None and restore_engine(cache, key, engine):
            return
        plan_from_onnx(build, graph, engine, shapes)
        if cache is not None:
            store_engine(cache, key, engine)

    return compile_engine


def _configured(build: TrtBuild, builder: Any, network: Any, shapes: tuple[Shapes, ...]) -> Any:
    trt, library = build.library.trt, build.library
    _check_ends(network, library)
    config = builder.create_builder_config()
    build.library.apply_target(config, build.settings.target)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, build.workspace_mb << 20)
    config.builder_optimization_level = build.optimisation_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not build.settings.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)  # it is set by default
    view = tuple(network.get_input(0).shape)[1:]
    for bucket in shapes:
        profile = builder.create_optimization_profile()
        profile.set_shape(INPUT, (bucket.low, *view), (bucket.best, *view), (bucket.high, *view))
        if config.add_optimization_profile(profile) < 0:
            raise BuildError(library.reason(f"{library.name} refuses the batch sizes {bucket}"))
    return config


def _check_ends(network: Any, library: Library) -> None:
    names = [network.get_input(0).name, network.get_output(0).name]
    if names != [INPUT, OUTPUT] or network.num_inputs != 1 or network.num_outputs != 1:
        raise BuildError(f"{library.name}: the graph has {', '.join(names)}; expected one {INPUT} and one {OUTPUT}")


def _load_timings(build: TrtBuild, config: Any, engine: Path) -> tuple[Path, ...]:
    """TensorRT measures kernels on the GPU; what it measured before is reused. RTX measures nothing.

    Returns where the timings are to be kept afterwards.
    """
    library = build.library
    if library.is_rtx:
        return ()
    places = timings(engine, build.settings.cache, library.name, library.version, build.gpu)
    for data in (read_cached(places), b""):  # of another version or GPU after all: as good as none
        cache = None if data is None else config.create_timing_cache(data)
        if cache is not None and config.set_timing_cache(cache, False):
            break
    return places


def _save_timings(config: Any, places: tuple[Path, ...]) -> None:
    cache = config.get_timing_cache() if places else None
    if cache is not None:
        data = bytes(memoryview(cache.serialize()))
        for place in places:
            keep_file(data, [place])


def _tools(library: Library) -> Mapping[str, str]:
    return {library.name: library.version}

"""glass-rt itself as a system under test, around its engines or around engines that do nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np

from glass_bench.measure.contenders import Contender
from glass_bench.measure.systems.base import Description, ImageResult
from glass_rt.backends import Backend, TensorSpec
from glass_rt.backends.base import Array
from glass_rt.backends.embedding import INPUT, OUTPUT
from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.manifest import Model
from glass_rt.detector import Detector
from glass_rt.errors import GlassError, ParityError
from glass_rt.image.encoded import read_image
from glass_rt.inference.engines import batch_for
from glass_rt.inference.head import Head
from glass_rt.inference.judge import Judge
from glass_rt.inference.opened_bundle import OpenedBundle
from glass_rt.inference.parity import verify_parity
from glass_rt.inference.prepared_image import prepare_image
from glass_rt.machine.blas import single_threaded_blas
from glass_rt.machine.malloc import give_back_large_arrays
from glass_rt.options import DetectOptions, RunOptions
from glass_rt.results.verdict import Failure, Timings


class TimedBackend:
    """A backend that adds up the milliseconds spent in its runs.

    It has no `submit`: the two engines of a backend that could overlap them (TensorRT) run one after the other, so that
    each has its time. The latency of a single image is the sum of both then, more than that of `Detector.detect`.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.inputs, self.outputs = backend.inputs, backend.outputs
        self.spent_ms = 0.0

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the engine and times it."""
        start = perf_counter()
        arrays = self._backend.run(feeds)
        self.spent_ms += (perf_counter() - start) * 1e3
        return arrays

    def close(self) -> None:
        """Closes the engine."""
        self._backend.close()


class NoopBackend:
    """An engine that does nothing: embeddings of zeros. What is left of the time is the pipeline's own."""

    def __init__(self, model: Model, role: str) -> None:
        dtype = np.dtype(np.float32 if role == "global" else np.uint8)
        size = model.crop_size
        self.inputs = (TensorSpec(INPUT, dtype, (None, size, size, 3)),)
        self.outputs = (TensorSpec(OUTPUT, np.dtype(np.float32), (None, model.embedding_dim)),)
        self._dim = model.embedding_dim

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Zeros, float32 (N, D)."""
        return {OUTPUT: np.zeros((len(feeds[INPUT]), self._dim), np.float32)}

    def close(self) -> None:
        """Nothing to free."""


class EngineSystem:
    """A bundle opened as `Detector.open` does it, in a process set up like those of the command line.

    Single images go through engines with a clock around them, many through the engines as they are: a clock would hide
    what a backend can do beyond `run`.
    """

    def __init__(self, contender: Contender) -> None:
        give_back_large_arrays()
        bundle = Bundle.open(contender.bundle)
        manifest, noop = bundle.manifest, contender.kind == "no-op"
        self._plain = _around_nothing(bundle, contender) if noop else _opened(bundle, contender)
        self._engines = {role: TimedBackend(engine) for role, engine in self._plain.engines.items()}
        self._detector = Detector(replace(self._plain, engines=self._engines))
        self._plain_detector = Detector(self._plain)
        self._options = DetectOptions(crops=contender.crops, sampling=contender.sampling)
        self._noop = noop
        self.description = Description(
            architecture=manifest.model.architecture,
            backbone=manifest.model.backbone,
            backend="none" if noop else manifest.engine.backend,
            precision="none" if noop else manifest.engine.precision,
            device=self._plain.device,
            crops=0 if manifest.model.architecture == "resize" else contender.crops or manifest.model.trained_crops,
            batch=self._plain.batch,
            trained=manifest.model.weights.trained,
            weights_sha256=manifest.model.weights.sha256,
            bundle_sha256=bundle.sha256,
        )

    def judge(self, path: str, crops: int | None = None) -> ImageResult:
        """One image, with its stage times."""
        for engine in self._engines.values():
            engine.spent_ms = 0.0
        options = self._options if crops is None else replace(self._options, crops=crops)
        try:
            result = self._detector.detect(path, options)
        except GlassError as error:
            return ImageResult(None, error=f"{error.kind}: {error}")
        return ImageResult(
            result.probability_fake, stages_ms=self._stages_ms(result.timings_ms), windows=len(result.crops)
        )

    def judge_many(self, paths: Sequence[str]) -> Iterator[ImageResult]:
        """Images in order, their crops sharing batches."""
        for result in self._plain_detector.detect_many(paths, self._options):
            if isinstance(result, Failure):
                yield ImageResult(None, error=f"{result.error.kind}: {result.error}")
            else:
                yield ImageResult(result.probability_fake, windows=len(result.crops))

    def engine_alone(self, paths: Sequence[str], seconds: float) -> float:
        """Images per second where their views are there already: what decoding costs at most is the rest.

        The packs are as full as the pipeline makes them at best.
        """
        packs = []
        packer = self._plain.new_packer()
        for path in paths:
            prepare_image(read_image(path), self._plain.manifest, self._options, packer)
        placed = 0
        while placed < len(paths):
            pack = packer.take()
            assert pack is not None, "images were placed"
            packs.append(pack)
            placed += len(pack.slots)
        judge, judged = Judge(self._plain), 0
        with single_threaded_blas():  # as in the pipeline
            start = perf_counter()
            while perf_counter() - start < seconds:
                for pack in packs:
                    judged += len(judge.judge(pack))
            return judged / (perf_counter() - start)

    def check(self) -> str | None:
        """The bundle's parity gate, run here and now; nothing to compare where the engines do nothing."""
        if self._noop:
            return None
        try:
            verify_parity(self._plain.bundle, self._plain.engines)
        except ParityError as error:
            return str(error)
        return None

    def close(self) -> None:
        """Closes the engines."""
        self._detector.close()

    def _stages_ms(self, timings: Timings) -> dict[str, float]:
        in_global = self._engines["global"].spent_ms
        in_local = self._engines["local"].spent_ms if "local" in self._engines else 0.0
        return {
            "decode": timings.decode,
            "views": timings.views,
            "copy": max(0.0, timings.engine - in_global - in_local),
            "engine_global": in_global,
            "engine_local": in_local,
            "aggregate": timings.aggregate,
        }


def _opened(bundle: Bundle, contender: Contender) -> OpenedBundle:
    run = RunOptions(contender.device, contender.batch, threads=contender.threads, memory=contender.memory)
    return OpenedBundle.open(bundle, run)


def _around_nothing(bundle: Bundle, contender: Contender) -> OpenedBundle:
    model = bundle.manifest.model
    engines = {role: NoopBackend(model, role) for role in model.roles}
    batch = batch_for(bundle.manifest, contender.batch, contender.memory, contender.device)
    return OpenedBundle(bundle, engines, Head.for_model(model, bundle.head()), batch, memory=contender.memory)

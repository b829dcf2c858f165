"""The facade: open a bundle, judge images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from types import TracebackType

from glass_rt.aggregator import Head
from glass_rt.backends import Backend, open_backend
from glass_rt.bundle import Bundle
from glass_rt.environment import usable_cores
from glass_rt.errors import UsageError
from glass_rt.fitness import check_machine
from glass_rt.image.decode import ImageSource
from glass_rt.image.views import HostViews, Views
from glass_rt.judge import Judge
from glass_rt.manifest import BundleManifest
from glass_rt.options import DetectOptions
from glass_rt.pipeline import PackObserver, Pipeline, judge_one
from glass_rt.settlement import settle_parity
from glass_rt.verdict import Failure, Verdict


class Detector:
    """An opened bundle that judges images. Threads may share it: the engines take one batch at a time.

    >>> with Detector.open("engines/vit_b16") as detector:  # doctest: +SKIP
    ...     verdict = detector.detect("image.png")
    """

    def __init__(self, bundle: Bundle, judge: Judge, batch: int, views: Views | None = None) -> None:
        self._views = views or HostViews()
        self.bundle = bundle
        self._judge = judge
        self._batch = batch

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        device: str | None = None,
        batch: int | None = None,
        threads: int | None = None,
        expect_bundle: str | None = None,
        views: str = "host",
    ) -> Detector:
        """Opens a bundle that `glass-rt build` wrote.

        `device`: the backend's default where None. `batch`: most views in one run of an engine, up to the bundle's
        `max_batch` (None: on a GPU all of it, on a CPU 4 to 16 by its cores). `threads`: CPU threads of an engine.
        `expect_bundle`: the bundle's SHA-256, which pins it. `views`: `device` has the GPU cut the crops and resize the
        image, for TensorRT engines; it has not been tried on a GPU yet. Raises BundleError, BackendError,
        MissingDependency, UsageError.
        """
        bundle = Bundle.open(path, expect_sha256=expect_bundle)
        return cls.from_bundle(bundle, device=device, batch=batch, threads=threads, views=views)

    @classmethod
    def from_bundle(
        cls,
        bundle: Bundle,
        *,
        device: str | None = None,
        batch: int | None = None,
        threads: int | None = None,
        views: str = "host",
    ) -> Detector:
        """Opens the engines of a bundle that was opened (and checked) before."""
        chosen = batch_for(bundle.manifest, batch)
        head = Head.for_model(bundle.manifest.model, bundle.head())
        check_views(bundle.manifest, views)
        judge = Judge(open_engines(bundle, device=device, threads=threads), head, chosen)
        try:
            return cls(bundle, judge, chosen, open_views(views, device))
        except BaseException:
            judge.close()
            raise

    @property
    def manifest(self) -> BundleManifest:
        """What the bundle says of itself."""
        return self.bundle.manifest

    def detect(self, source: ImageSource, options: DetectOptions | None = None) -> Verdict:
        """Judges one image: a path, encoded bytes, or an RGB uint8 (H, W, 3) array. Raises ImageError, BackendError."""
        return judge_one(source, self.bundle, self._judge, self._batch, options or DetectOptions(), self._views)

    def detect_many(
        self, sources: Iterable[ImageSource | Failure], options: DetectOptions | None = None
    ) -> Iterator[Verdict | Failure]:
        """Judges images and gives the results in their order; one that cannot be judged gives a Failure in its place.

        Lazy: images are taken a little ahead of the results, decoded in `options.workers` threads and judged in packs.

        A Failure among the sources is passed on, so that callers who find sources can keep their order too.
        """
        options = options or DetectOptions()
        with self.pipeline(options.workers) as pipeline:
            yield from pipeline.run(sources, options)

    def pipeline(self, workers: int | None = None, observe: PackObserver | None = None) -> Pipeline:
        """Threads of this detector for whoever has images coming in, such as a server; to be closed before it.

        `workers`: threads that decode (None: one per core, at most 8). `observe` is told of every batch that was
        judged, its images, crops and seconds, on the thread that judges.
        """
        return Pipeline(self.bundle, self._judge, self._batch, workers, observe, self._views)

    def close(self) -> None:
        """Closes the engines."""
        self._judge.close()
        self._views.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_engines(bundle: Bundle, *, device: str | None = None, threads: int | None = None) -> dict[str, Backend]:
    """The bundle's engines by role, opened.

    Before a vendor's library reads them this machine is compared with what they require, and where parity is pending
    they pass the gate first. Raises BundleUnfit, ParityError, BackendError, MissingDependency, UsageError.
    """
    check_machine(bundle, device)
    engine = bundle.manifest.engine
    engines: dict[str, Backend] = {}
    try:
        for role in bundle.manifest.model.roles:
            engines[role] = open_backend(
                engine.backend, bundle.engine_file(role), precision=engine.precision, device=device, threads=threads
            )
        settle_parity(bundle, engines, device)
    except BaseException:
        for opened in engines.values():
            opened.close()
        raise
    return engines


def check_views(manifest: BundleManifest, views: str) -> None:
    """Raises UsageError where the views of this bundle's engines cannot be made there."""
    if views not in ("host", "device"):
        raise UsageError(f"views: got {views!r}; expected host or device")
    if views == "device" and not manifest.engine.backend.startswith("tensorrt"):
        raise UsageError(f"views: {manifest.engine.backend} engines read views from memory; device is for TensorRT's")
    if views == "device" and manifest.model.architecture != "glass":
        raise UsageError("views: the resize-only model's view is Pillow's, which is only made in memory")


def open_views(views: str, device: str | None) -> Views:
    """What writes the views: in memory, or on the GPU of the engines. Raises MissingDependency, BackendError."""
    if views == "host":
        return HostViews()
    from glass_rt.backends.cuda import open_gpu
    from glass_rt.backends.cuda.device_views import DeviceViews
    from glass_rt.backends.trt import gpu_index

    gpu = open_gpu(gpu_index(device))
    try:
        return DeviceViews(gpu)
    except BaseException:
        gpu.close()
        raise


def batch_for(manifest: BundleManifest, asked: int | None) -> int:
    """Most views in one run of an engine; raises UsageError where the bundle does not take as many as were asked for.

    Where nobody says: on a CPU as many as it has cores, 4 to 16, for on two cores a view took as long in a batch of 4
    as in one of 8 or 16, and every view in a batch costs memory. GPUs get all that their bundle allows.
    """
    most = manifest.engine.max_batch
    if asked is not None:
        if not 1 <= asked <= most:
            raise UsageError(
                f"batch: got {asked}; this bundle takes 1..{most}. Rebuild with --max-batch, or lower --batch"
            )
        return asked
    return most if manifest.engine.requirements else min(most, max(4, min(usable_cores(), 16)))

"""The facade: open a bundle, judge images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from types import TracebackType

from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.manifest import BundleManifest
from glass_rt.image.decode import ImageSource
from glass_rt.image.views import HostViews, Views
from glass_rt.inference.engines import batch_for, check_views, open_engines, open_views
from glass_rt.inference.head import Head
from glass_rt.inference.judge import Judge
from glass_rt.inference.pipeline import PackObserver, Pipeline, judge_one
from glass_rt.options import DetectOptions
from glass_rt.results.verdict import Failure, Verdict


class Detector:
    """An opened bundle that judges images. Threads may share it: the engines take one batch at a time.

    >>> with Detector.open("bundles/vit_b16") as detector:  # doctest: +SKIP
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

"""The facade: open a bundle, judge images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType
from typing import Any

from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.manifest import BundleManifest
from glass_rt.image.encoded import DEFAULT_MAX_PIXELS, ImageSource
from glass_rt.inference.decoding_room import NOTHING_BESIDE, Beside
from glass_rt.inference.judge import Judge
from glass_rt.inference.opened_bundle import OpenedBundle
from glass_rt.inference.pipeline import PackObserver, Pipeline, decoding_room, judge_one
from glass_rt.options import DetectOptions, RunOptions
from glass_rt.results.verdict import Failure, Verdict


class Detector:
    """An opened bundle that judges images. Threads may share it: the engines take one batch at a time.

    >>> with Detector.open("bundles/vit_b16") as detector:  # doctest: +SKIP
    ...     verdict = detector.detect("image.png")
    """

    def __init__(self, opened: OpenedBundle, workers: int | None = None) -> None:
        self._judge = Judge(opened)
        self._workers = workers

    @classmethod
    def open(cls, path: str | os.PathLike[str], run: RunOptions | None = None, **changes: Any) -> Detector:
        """Opens a bundle that `glass-rt build` wrote.

        `changes`: fields of RunOptions by name, in place of those of `run`: `Detector.open("bundle", batch=4)`. Raises
        BundleError, ParityError, BackendError, MissingDependency, UsageError.
        """
        run = replace(run or RunOptions(), **changes)
        return cls.from_bundle(Bundle.open(path, expect_sha256=run.expect_bundle), run)

    @classmethod
    def from_bundle(cls, bundle: Bundle, run: RunOptions | None = None) -> Detector:
        """Opens the engines of a bundle that was opened (and checked) before."""
        run = run or RunOptions()
        return cls(OpenedBundle.open(bundle, run), run.workers)

    @property
    def bundle(self) -> Bundle:
        """The bundle that is open."""
        return self._judge.opened.bundle

    @property
    def manifest(self) -> BundleManifest:
        """What the bundle says of itself."""
        return self.bundle.manifest

    @property
    def device(self) -> str:
        """Where the engines run, as text (`glass_rt.machine.device`)."""
        return self._judge.opened.device

    def detect(self, source: ImageSource, options: DetectOptions | None = None) -> Verdict:
        """Judges one image: a path, encoded bytes, or an RGB uint8 (H, W, 3) array. Raises ImageError, BackendError."""
        return judge_one(source, self._judge, options or DetectOptions())

    def detect_many(
        self, sources: Iterable[ImageSource | Failure], options: DetectOptions | None = None
    ) -> Iterator[Verdict | Failure]:
        """Judges images and gives the results in their order; one that cannot be judged gives a Failure in its place.

        Lazy: images are taken a little ahead of the results, decoded in `workers` threads and judged in packs.

        A Failure among the sources is passed on, so that callers who find sources can keep their order too.
        """
        with self.pipeline() as pipeline:
            yield from pipeline.run(sources, options or DetectOptions())

    def pipeline(
        self, workers: int | None = None, observe: PackObserver | None = None, beside: Beside = NOTHING_BESIDE
    ) -> Pipeline:
        """Threads of this detector for callers that have images coming in, such as a server; to be closed before it.

        `workers`: threads that decode (None: as the detector was opened with). `observe` is told of every batch that
        was judged, its images, crops and seconds, on the thread that judges. `beside`: memory that the caller takes.
        """
        return Pipeline(self._judge, workers or self._workers, observe, beside)

    def holding(self, size: int, max_pixels: int = DEFAULT_MAX_PIXELS) -> AbstractContextManager[None]:
        """For work on an image beside those being judged: waits for room for `size` bytes, held by the block.

        Raises OutOfMemory where they do not fit alone.
        """
        return decoding_room(self._judge.opened, self._workers).hold(size, max_pixels)

    def close(self) -> None:
        """Closes the engines, after the pack at work."""
        self._judge.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

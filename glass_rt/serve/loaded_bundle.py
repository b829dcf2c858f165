"""One opened bundle at work, from its canary to its close; a reload opens another beside it and retires this one."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from glass_rt.bundle.manifest import BundleManifest
from glass_rt.detector import Detector
from glass_rt.errors import BackendError
from glass_rt.inference.decoding_room import Beside
from glass_rt.inference.pipeline import PackObserver, Pipeline
from glass_rt.options import DetectOptions
from glass_rt.results.verdict import Verdict
from glass_rt.serve.canary import OPTIONS, canary_image, check_canary

CLOSING_S = 5.0  # for the pack at work and the images being decoded; an engine that takes longer is left open

T = TypeVar("T")

log = logging.getLogger("glass_rt.serve")


class LoadedBundle:
    """A detector, its pipeline, and how many calls are using them."""

    def __init__(self, detector: Detector, pipeline: Pipeline) -> None:
        self._detector = detector
        self._pipeline = pipeline
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def manifest(self) -> BundleManifest:
        """The bundle's manifest."""
        return self._detector.manifest

    @property
    def bundle_sha256(self) -> str:
        """The SHA-256 that names the bundle."""
        return self._detector.bundle.sha256

    @property
    def device(self) -> str:
        """Where its engines run, as text."""
        return self._detector.device

    @property
    def pack_taken(self) -> float | None:
        """When the engine was given the pack at work, by `perf_counter`; None where it has none."""
        return self._pipeline.pack_taken

    @contextmanager
    def in_use(self) -> Iterator[Callable[[bytes, DetectOptions], Future[Verdict]]]:
        """Gives the pipeline's `submit`, and keeps the bundle open while the block runs."""
        self._users += 1
        self._unused.clear()
        try:
            yield self._pipeline.submit
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    def holding(self, size: int, max_pixels: int) -> AbstractContextManager[None]:
        """As `Detector.holding`."""
        return self._detector.holding(size, max_pixels)

    async def try_canary(self, timeout_s: float) -> None:
        """Judges the canary picture. Raises BackendError where the engine fails or has no verdict in time."""
        with self.in_use() as submit:
            judging = submit(canary_image(), OPTIONS)
            try:
                check_canary(await asyncio.wait_for(asyncio.wrap_future(judging), timeout_s))
            except asyncio.TimeoutError:
                raise BackendError(f"the canary picture was not judged within {timeout_s:g} s") from None

    async def retire(self) -> bool:
        """Waits until no call uses the bundle, and closes it as `close` does."""
        await self._unused.wait()
        return await self.close()

    async def close(self) -> bool:
        """Cancels the images that the engine has not received, and closes pipeline and engines, on a thread.

        False where closing takes longer than CLOSING_S, as it does where an engine hangs: the engine is left open.
        """
        try:
            await asyncio.wait_for(_in_thread(self._close), CLOSING_S)
        except asyncio.TimeoutError:
            log.error("not closed within %g s, and left behind: the engine hangs", CLOSING_S)
            return False
        return True

    def _close(self) -> None:
        self._pipeline.close()
        self._detector.close()


async def load_bundle(
    open_detector: Callable[[], Detector], observe: PackObserver, canary_timeout_s: float, beside: Beside
) -> LoadedBundle:
    """Opens a detector on a thread and passes the canary. Raises what opening raises, and BackendError."""
    detector = await _in_thread(open_detector)
    loaded = LoadedBundle(detector, detector.pipeline(observe=observe, beside=beside))
    try:
        await loaded.try_canary(canary_timeout_s)
    except BaseException:
        await loaded.close()
        raise
    return loaded


async def _in_thread(function: Callable[[], T]) -> T:
    """Like asyncio.to_thread, but neither the event loop nor the process waits for the thread when it ends."""
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(function())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="glass-rt engine", daemon=True).start()
    return await asyncio.wrap_future(done)

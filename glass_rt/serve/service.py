"""The judging side of a server, the same for every protocol: admission, deadlines, health, reload."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from time import monotonic, perf_counter

from glass_rt.bundle.manifest import BundleManifest
from glass_rt.detector import Detector
from glass_rt.errors import BackendError, GlassError, ImageCorrupt, UsageError, drop_frames, first_line
from glass_rt.inference.decoding_room import Beside
from glass_rt.inference.pipeline import result_of
from glass_rt.options import DetectOptions
from glass_rt.results.verdict import Failure, Verdict
from glass_rt.serve.admission import Admission
from glass_rt.serve.api_keys import read_api_keys_again
from glass_rt.serve.loaded_bundle import LoadedBundle, load_bundle
from glass_rt.serve.metrics import Metrics
from glass_rt.serve.refusals import DeadlineExceeded, Draining, EngineBroken
from glass_rt.serve.settings import ServerSettings
from glass_rt.serve.statistics import Statistics

FAILURES_IN_A_ROW = 3  # of the engine, after which it counts as broken
CANARY_PAUSE_S = 1.0  # between canaries while the engine is broken
BROKEN_LIMIT_S = 300.0  # an engine that is broken for longer will not recover: the process is not live

log = logging.getLogger("glass_rt.serve")


class RequestHold:
    """A request's claim on the server's memory; grows as its body arrives."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.bytes = 0

    def hold(self, size: int) -> None:
        """Counts `size` more bytes of body. Raises Overloaded."""
        self._admission.hold(size)
        self.bytes += size


class Service:
    """Judges images for any number of requests on one event loop; `async with` starts and stops it.

    Every request, of any protocol, runs inside `request()`; the images of all of them share the engine's batches.
    """

    def __init__(self, open_detector: Callable[[], Detector], settings: ServerSettings, metrics: Metrics) -> None:
        self._open_detector = open_detector
        self.settings = settings
        self.metrics = metrics
        self.statistics = Statistics()
        self._api_keys = settings.api_keys
        self._admission = Admission(settings)
        self._loaded: LoadedBundle | None = None
        self._requests = 0
        self._no_requests = asyncio.Event()
        self._no_requests.set()
        self._draining = False
        self._failures = 0
        self._broken_since: float | None = None
        self._recovering: asyncio.Task[None] | None = None
        self._reloading = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._left_behind = False
        metrics.watch(
            {
                "queue_images": ("Images under way.", lambda: self._admission.images),
                "queue_bytes": ("Bytes of bodies held.", lambda: self._admission.bytes),
                "requests_open": ("Requests under way that may judge.", lambda: self._requests),
                "ready": ("1 where requests should be sent here.", lambda: self.ready),
            }
        )

    async def start(self) -> None:
        """Opens the engine and passes the canary. Raises what opening a detector raises, and BackendError."""
        async with self._reloading:
            self._serve_from(await self._open())

    async def __aenter__(self) -> Service:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def manifest(self) -> BundleManifest:
        """The manifest of the bundle that serves now."""
        return self._current.manifest

    @property
    def bundle_sha256(self) -> str:
        """The SHA-256 that names the bundle that serves now."""
        return self._current.bundle_sha256

    @property
    def device(self) -> str:
        """Where the engines of the bundle run that serves now, as text."""
        return self._current.device

    @property
    def api_keys(self) -> tuple[bytes, ...]:
        """One of these opens the server; where there are none, it is open."""
        return self._api_keys

    @property
    def live(self) -> bool:
        """Whether the process is worth keeping: started, not stopped, and not broken for minutes."""
        beyond_recovery = self._broken_since is not None and monotonic() - self._broken_since > BROKEN_LIMIT_S
        return self._loaded is not None and not beyond_recovery

    @property
    def draining(self) -> bool:
        """Whether the server was told to stop, and takes no new requests."""
        return self._draining

    @property
    def broken(self) -> bool:
        """Whether the engine has failed so often in a row, or for so long, that only a canary can clear it."""
        return self._broken_since is not None

    @property
    def left_behind(self) -> bool:
        """Whether an engine did not close: the process should then end without waiting for its threads."""
        return self._left_behind

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here: a canary passed, not draining, and the engine is not broken."""
        return self.live and not self._draining and not self.broken

    def leave_behind(self) -> None:
        """Gives up an engine that is being opened, which no thread can be kept from doing."""
        self._draining = self._left_behind = True

    @contextmanager
    def request(self) -> Iterator[RequestHold]:
        """A request from its headers to its response. Raises Draining or Overloaded before its body is read.

        A server that drains waits for the blocks that were entered before.
        """
        if self._draining:
            raise Draining("this server is stopping: send the request to another", retry_after_s=1)
        self._admission.check_room()
        hold = RequestHold(self._admission)
        self._requests += 1
        self._no_requests.clear()
        try:
            yield hold
        finally:
            self._admission.let_go(hold.bytes)
            self._requests -= 1
            if not self._requests:
                self._no_requests.set()

    async def judge(
        self,
        images: Sequence[bytes],
        options: DetectOptions,
        conclude: Callable[[list[Verdict | Failure]], Awaitable[None]] | None = None,
    ) -> list[Verdict | Failure]:
        """One result per image, in order; the images share batches with those of other requests.

        `conclude`: further work on the results, such as pictures. Meanwhile the images count as under way, and their
        deadline holds.
        Raises UsageError (more crops than the server allows), BodyTooLarge (more images than it takes at once),
        Overloaded, EngineBroken and DeadlineExceeded. Cancelling the task that waits cancels the images.
        """
        began, results = perf_counter(), None
        try:
            results = await self._judge(images, self._within_limits(options), conclude)
            return results
        finally:
            self.statistics.request_done(results, perf_counter() - began)

    async def _judge(
        self,
        images: Sequence[bytes],
        options: DetectOptions,
        conclude: Callable[[list[Verdict | Failure]], Awaitable[None]] | None,
    ) -> list[Verdict | Failure]:
        if self.broken:
            raise EngineBroken("the engine fails: nothing is judged until it works again", retry_after_s=1)
        until = monotonic() + self.settings.deadline_s
        with self._admission.admit(len(images)):
            results = await self._results(images, options)
            if conclude is not None:
                try:
                    await asyncio.wait_for(conclude(results), until - monotonic())
                except asyncio.TimeoutError:
                    raise self._late("the answer was not ready", "ask for less, such as no overlay") from None
        return results

    async def _results(self, images: Sequence[bytes], options: DetectOptions) -> list[Verdict | Failure]:
        with self._current.in_use() as submit:
            futures = [submit(image, options) for image in images]
            try:
                if futures and not await _all_done(futures, self.settings.deadline_s):
                    self._watch_engine()
                    late = self._late("not judged", "given up")
                    for _ in images:
                        self.metrics.judged(Failure(None, late))
                    raise late
            finally:
                for future in futures:
                    future.cancel()
        results = [_result(future) for future in futures]
        self._note(results)
        return results

    def holding(self, size: int) -> AbstractContextManager[None]:
        """For work on an image beside those being judged, see `Detector.holding`. Raises OutOfMemory, Draining."""
        return self._current.holding(size, self.settings.max_pixels)

    async def reload(self) -> bool:
        """Opens the bundle again beside the one that serves, passes the canary, and lets the new one take over.

        Requests under way finish where they began. Where the reload fails, the old bundle goes on serving. True where
        the new one took over.
        """
        async with self._reloading:
            try:
                opened = await self._open()
            except Exception as error:  # vendor libraries raise errors of any class
                log.error("reload failed, the old bundle goes on serving: %s", first_line(error))
                self.metrics.reloaded(worked=False)
                return False
            old = self._loaded
            if old is None or self._draining:
                await self._note_closing(opened.close())
                return False
            self._serve_from(opened)
            retiring = asyncio.create_task(self._note_closing(old.retire()))
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
            self.metrics.reloaded(worked=True)
            log.info("reloaded: bundle %s serves", opened.bundle_sha256)
            return True

    async def reload_api_keys(self) -> bool:
        """Reads the file of API keys again; a file that is no good changes nothing. True where it was read."""
        path = self.settings.api_key_file
        if path is None:
            return False
        try:
            self._api_keys = await asyncio.to_thread(read_api_keys_again, path)
        except UsageError as error:
            log.error("API keys not read again, those from before stay: %s", error)
            return False
        log.info("API keys read again: %d", len(self._api_keys))
        return True

    async def drain(self) -> bool:
        """Refuses new requests and waits for those under way; False where they did not finish in time."""
        self._draining = True
        try:
            await asyncio.wait_for(self._no_requests.wait(), self.settings.drain_timeout_s)
        except asyncio.TimeoutError:
            log.error("%d requests were not finished within %g s", self._requests, self.settings.drain_timeout_s)
            return False
        return True

    async def stop(self) -> None:
        """Closes the engine and cancels the images that it has not received. An engine that hangs is left open."""
        self._draining = True
        if self._recovering is not None:
            self._recovering.cancel()
        try:  # a reload under way closes what it opens
            await asyncio.wait_for(self._no_reload(), self.settings.deadline_s)
        except asyncio.TimeoutError:
            self._left_behind = True
        if self._loaded is not None:
            await self._note_closing(self._loaded.close())
            self._loaded = None
        await asyncio.gather(*self._retiring)

    @property
    def _current(self) -> LoadedBundle:
        if self._loaded is None:
            raise Draining("this server has stopped")
        return self._loaded

    async def _open(self) -> LoadedBundle:
        bodies = Beside(lambda: self._admission.bytes, self.settings.queue_bytes)
        return await load_bundle(self._open_detector, self._pack_judged, self.settings.deadline_s, bodies)

    def _pack_judged(self, images: int, crops: int, seconds: float) -> None:
        self.metrics.pack_judged(images, crops, seconds)
        self.statistics.run_done(images, seconds)

    async def _no_reload(self) -> None:
        async with self._reloading:
            return

    async def _note_closing(self, closing: Awaitable[bool]) -> None:
        if not await closing:
            self._left_behind = True

    def _serve_from(self, loaded: LoadedBundle) -> None:
        self._loaded = loaded
        self._failures = 0
        self._broken_since = None
        if self._recovering is not None:
            self._recovering.cancel()
            self._recovering = None
        self.metrics.serving(loaded.manifest, loaded.bundle_sha256)

    def _within_limits(self, options: DetectOptions) -> DetectOptions:
        most = self.settings.max_crops
        crops = options.crops if isinstance(options.crops, int) else self.manifest.model.trained_crops
        if options.sampling == "tiles":
            raise UsageError("sampling: this server judges stratified crops alone; tiles may be any number of crops")
        if (options.crops is not None or options.draws > 1) and crops * options.draws > most:
            raise UsageError(f"crops: got {crops * options.draws} in all; this server allows {most} (--max-crops)")
        return replace(options, max_pixels=min(options.max_pixels, self.settings.max_pixels))

    def _late(self, what: str, remedy: str) -> DeadlineExceeded:
        return DeadlineExceeded(f"{what} within {self.settings.deadline_s:g} s: {remedy}", retry_after_s=1)

    def _note(self, results: Sequence[Verdict | Failure]) -> None:
        """Counts a request's images, and the runs of the engine that failed: all images of a run have one error."""
        noted: list[GlassError] = []
        for result in results:
            self.metrics.judged(result)
            if isinstance(result, Verdict):
                self._failures = 0
            elif isinstance(result.error, BackendError) and not any(result.error is error for error in noted):
                noted.append(result.error)
                self._failures += 1
                log.error("engine: %s", result.error)
        if self._failures >= FAILURES_IN_A_ROW:
            self._break(f"the engine failed {self._failures} times in a row")

    def _watch_engine(self) -> None:
        """Calls the engine hung once one pack has taken it a whole deadline; slow decoding does not count."""
        current = self._current
        taken = current.pack_taken

        def look_again() -> None:
            if self._loaded is current and current.pack_taken == taken:
                self._break("the engine hangs")

        if taken is not None:
            left_s = self.settings.deadline_s - (perf_counter() - taken)
            asyncio.get_running_loop().call_later(max(0.0, left_s), look_again)

    def _break(self, why: str) -> None:
        """Refuses images until a canary passes."""
        if not self.broken and not self._draining:
            log.error("not ready: %s", why)
            self._broken_since = monotonic()
            self._recovering = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        while True:
            try:
                await self._current.try_canary(self.settings.deadline_s)
                break
            except Exception as error:  # vendor libraries raise errors of any class
                log.error("still not ready: %s", first_line(error))
            await asyncio.sleep(CANARY_PAUSE_S)
        log.info("ready again: the canary passed")
        self._failures = 0
        self._broken_since = self._recovering = None


async def _all_done(futures: Sequence[Future[Verdict]], timeout_s: float) -> bool:
    """Waits until all are done; False where time runs out before."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[bool] = loop.create_future()
    left = len(futures)

    def finish(in_time: bool) -> None:
        if not waiter.done():
            waiter.set_result(in_time)

    def one_done() -> None:
        nonlocal left
        left -= 1
        if not left:
            finish(True)

    for future in futures:
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(one_done))
    timer = loop.call_later(timeout_s, finish, False)
    try:
        return await waiter
    finally:
        timer.cancel()


def _result(future: Future[Verdict]) -> Verdict | Failure:
    if future.cancelled():
        raise Draining("this server has stopped before the image was judged")
    result = result_of(future, unexpected=_not_the_engines)
    if isinstance(result, Failure):
        drop_frames(result.error)
    return result


def _not_the_engines(error: Exception) -> GlassError:
    """The engine's errors are BackendErrors; any other comes from the image, which alone it concerns."""
    return ImageCorrupt(f"the image cannot be judged: {first_line(error)}")

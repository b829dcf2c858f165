"""Many images through one judge: threads decode and write views, one thread judges the packs that they fill."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from time import perf_counter
from types import TracebackType
from typing import Any, TypeAlias

from glass_rt.errors import BackendError, GlassError, OutOfMemory, drop_frames, first_line
from glass_rt.image.buffer import PixelBuffer
from glass_rt.image.encoded import ArrayImage, EncodedImage, ImageSource, read_image
from glass_rt.inference.decoding_room import NOTHING_BESIDE, Beside, DecodingRoom
from glass_rt.inference.device_decoding import MOST_WAITING, DeviceDecoding, decoded_on_device
from glass_rt.inference.judge import Judge
from glass_rt.inference.judgement import Judgement
from glass_rt.inference.opened_bundle import OpenedBundle
from glass_rt.inference.pack import Pack, Packer
from glass_rt.inference.prepared_image import (
    DecodedSource,
    PreparedImage,
    as_image_error,
    prepare_decoded,
    prepare_image,
    verdict_of,
)
from glass_rt.inference.room import most_decoders
from glass_rt.machine.blas import single_threaded_blas
from glass_rt.machine.environment import usable_cores
from glass_rt.options import DetectOptions
from glass_rt.results.verdict import Failure, Verdict

MAX_WORKERS = 8
log = logging.getLogger("glass_rt")

PackObserver: TypeAlias = Callable[[int, int, float], None]  # images, crops, seconds


class Pipeline:
    """Judges images from any number of threads; those that are there at the same time share the engine's batches.

    What decoders hold at the same time, and views until they are judged, is bounded by a budget, the pixels of one
    image of `max_pixels` (see `decoding_budget`), and by what memory is left beside what the engines will take (and
    the caller: `beside`). An image that takes more goes alone, and one that does not fit into memory alone is refused
    (OutOfMemory). The caller bounds how many images are under way, as `run` does.
    """

    def __init__(
        self,
        judge: Judge,
        workers: int | None = None,
        observe: PackObserver | None = None,
        beside: Beside = NOTHING_BESIDE,
    ) -> None:
        self._judge = judge
        self._opened = judge.opened
        self._observe = observe
        usual = default_workers(on_gpu=self._opened.on_gpu)
        self.workers = workers or min(usual, most_decoders(self._opened.memory) or usual)
        self._room = decoding_room(self._opened, self.workers, beside)
        self._buffers: list[PixelBuffer] = []
        self._packer = self._opened.new_packer()
        self._of_thread = threading.local()
        self._pack_taken: float | None = None
        self._concluded = 0.0
        self._decoding = ThreadPoolExecutor(self.workers, thread_name_prefix="glass-rt decode")
        self._judging = threading.Thread(target=self._judge_all, name="glass-rt judge", daemon=True)
        with _threads_to_start():
            self._on_device = self._device_decoding()
            self._judging.start()

    def submit(self, source: ImageSource, options: DetectOptions) -> Future[Verdict]:
        """Begins to judge one image. The future gives its verdict, or raises ImageError or BackendError.

        Cancelling the future gives the image up: what has not been done of it by then is not done. Callbacks of the
        future run on the thread that judges, and should be short.
        """
        result: Future[Verdict] = Future()
        wanted = [source]
        with _threads_to_start():
            decoding = self._decoding.submit(self._prepare, wanted, options, result)
        decoding.add_done_callback(lambda task: task.cancelled() and result.cancel())
        # An image given up waits its turn in the pool's queue all the same, but without its bytes.
        result.add_done_callback(lambda future: wanted.clear() if future.cancelled() else None)
        return result

    def run(self, sources: Iterable[ImageSource | Failure], options: DetectOptions) -> Iterator[Verdict | Failure]:
        """One result per source, in order; a Failure among the sources is passed on in its place.

        Sources are taken ahead of the results, by a few images per worker, whatever the number of images.
        """
        pending: deque[tuple[str | None, Future[Verdict]]] = deque()
        ahead = self.images_ahead
        try:
            for source in sources:
                if isinstance(source, Failure):
                    pending.append((source.path, _failed(source.error)))
                else:
                    pending.append((_path_of(source), self.submit(source, options)))
                while pending and (len(pending) >= ahead or pending[0][1].done()):
                    path, judged = pending.popleft()
                    yield result_of(judged, path)
            for path, judged in pending:
                yield result_of(judged, path)
        finally:
            for _, future in pending:
                future.cancel()

    @property
    def images_ahead(self) -> int:
        """Images under way that keep the decoders and the judge busy."""
        on_device = 0 if self._on_device is None else 2 * MOST_WAITING
        return 2 * self.workers + on_device + 2 * self._opened.images_per_pack

    @property
    def pack_taken(self) -> float | None:
        """When the judge was given the pack at work, by `perf_counter`; None where it has none. From any thread."""
        return self._pack_taken

    def close(self) -> None:
        """Gives up the images that are not yet with the judge, and waits for those that are."""
        self._decoding.shutdown(wait=True, cancel_futures=True)
        if self._on_device is not None:
            self._on_device.close()
        self._packer.close()
        self._judging.join()  # the engines may be closed next, and a pack may be at work

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self, wanted: list[ImageSource], options: DetectOptions, result: Future[Verdict]) -> None:
        try:
            source = wanted.pop()
        except IndexError:  # given up meanwhile
            return

        def finish(decoded: DecodedSource | None) -> None:
            try:
                prepared = self._prepared(image, decoded, options)
            except BaseException as error:
                if isinstance(error, GlassError):
                    drop_frames(error)  # they hold the image's bytes, and the error may wait among many
                _fail(result, error)
                return
            self._conclude_once_judged(prepared, options, result)

        try:
            with as_image_error():
                with self._room.reading(source, options.max_pixels):
                    image = read_image(source, options.max_pixels)
                handed_over = self._on_device is not None and self._on_device.offer(image, result, finish)
        except BaseException as error:
            if isinstance(error, GlassError):
                drop_frames(error)  # they hold the image's bytes, and the error may wait for its turn among many
            _fail(result, error)
            return
        if not handed_over:
            finish(None)

    def _conclude_once_judged(self, prepared: PreparedImage, options: DetectOptions, result: Future[Verdict]) -> None:
        def conclude(judged: Future[Judgement]) -> None:
            if judged.cancelled():
                result.cancel()
            elif (failure := judged.exception()) is not None:
                _fail(result, failure)
            elif result.set_running_or_notify_cancel():
                try:
                    result.set_result(verdict_of(prepared, judged.result(), self._opened.bundle, options))
                except BaseException as error:  # an error in a callback would be lost
                    result.set_exception(error)

        prepared.judgement.add_done_callback(conclude)
        result.add_done_callback(lambda future: future.cancelled() and prepared.judgement.cancel())

    def _prepared(
        self, image: EncodedImage | ArrayImage, decoded: DecodedSource | None, options: DetectOptions
    ) -> PreparedImage:
        if decoded is not None:
            return prepare_decoded(decoded, self._opened.manifest, options, self._packer)
        needed, views = self._room.needed(image, options)
        buffer = self._pixel_buffer()
        with self._room.hold(needed, options.max_pixels, buffer.size, kept=views):
            prepared = prepare_image(image, self._opened.manifest, options, self._packer, buffer)
        prepared.judgement.add_done_callback(lambda _: self._room.let_go(views))
        return prepared

    def _device_decoding(self) -> DeviceDecoding | None:
        """Views on the device take a millisecond, those in memory many: these are made by as many as decode."""
        codec = self._opened.codec
        return None if codec is None else DeviceDecoding(codec, self.workers if codec.in_memory else 2)

    def _pixel_buffer(self) -> PixelBuffer:
        """This decoding thread's own: an image's pixels are done with once its views are placed."""
        if not hasattr(self._of_thread, "buffer"):
            self._of_thread.buffer = PixelBuffer()
            self._buffers.append(self._of_thread.buffer)
        buffer: PixelBuffer = self._of_thread.buffer
        return buffer

    def _judge_all(self) -> None:
        with single_threaded_blas():
            self._judge_packs()

    def _judge_packs(self) -> None:
        """Engines that can be left to themselves have two packs, and get the next before the former is concluded."""
        under_way: deque[_PackUnderWay] = deque()
        while (pack := self._packer.take(wait=not under_way)) is not None or under_way:
            if pack is not None:
                under_way.append(self._started(pack))
                if self._judge.overlaps and len(under_way) == 1:
                    continue
            first = under_way.popleft()
            first.wait()
            if self._judge.overlaps and (pack := self._packer.take(wait=False)) is not None:
                under_way.append(self._started(pack))
            pack = None  # with the views, whose memory others wait for
            self._conclude(first)
            self._pack_taken = under_way[0].start if under_way else None

    def _started(self, pack: Pack) -> _PackUnderWay:
        start = perf_counter()
        if self._pack_taken is None:
            self._pack_taken = start
        return _PackUnderWay(pack, start, self._judge)

    def _conclude(self, under_way: _PackUnderWay) -> None:
        pack = under_way.pack
        slots, images, crops = [slot.judgement for slot in pack.slots], len(pack.slots), pack.num_crops
        del pack
        try:
            judgements = under_way.judgements()
        except BaseException as error:  # raised to the caller that waits for the image
            self._pack_taken = None
            failure = _from_the_engine(error) if isinstance(error, Exception) else error
            under_way.drop()
            for judged in slots:
                judged.set_exception(failure)
            return
        under_way.drop()
        self._pack_taken = None
        self._room.note_engines(sum(buffer.size for buffer in self._buffers))
        since = max(under_way.start, self._concluded)  # while the one before was computed, this one waited
        self._concluded = perf_counter()
        if self._observe is not None:
            self._observe(images, crops, self._concluded - since)
        for judged, judgement in zip(slots, judgements, strict=True):
            if isinstance(judgement, BackendError):
                judged.set_exception(judgement)
            else:
                judged.set_result(judgement)


class _PackUnderWay:
    """A pack that the judge has started; errors on the way come out of `judgements`."""

    def __init__(self, pack: Pack, start: float, judge: Judge) -> None:
        self.pack, self.start = pack, start
        self._failure: BaseException | None = None
        self._next: Callable[[], Any] | None = None
        self._step(lambda: judge.start(pack))

    def wait(self) -> None:
        """Waits for the engines."""
        self._step(self._next)

    def judgements(self) -> list[Judgement | BackendError]:
        """One for each slot of the pack; raises what starting, waiting or concluding raised."""
        if self._failure is not None:
            raise self._failure
        assert self._next is not None, "the engines are waited for before"
        judgements: list[Judgement | BackendError] = self._next()
        return judgements

    def drop(self) -> None:
        """Gives up the pack, whose memory others wait for."""
        del self.pack, self._next

    def _step(self, step: Callable[[], Any] | None) -> None:
        if step is None:
            return
        try:
            self._next = step()
        except BaseException as error:
            self._failure, self._next = error, None


def judge_one(source: ImageSource, judge: Judge, options: DetectOptions) -> Verdict:
    """One image on the calling thread, by the shortest path. Raises ImageError, BackendError, OutOfMemory."""
    opened = judge.opened
    packer = opened.new_packer()
    with single_threaded_blas():
        room, kept = decoding_room(opened), 0
        with as_image_error(), room.reading(source, options.max_pixels):
            image = read_image(source, options.max_pixels)
        with decoded_on_device(opened.codec, image) as decoded:
            if decoded is not None:
                prepared = prepare_decoded(decoded, opened.manifest, options, packer)
            else:
                needed, kept = room.needed(image, options)
                with room.hold(needed, options.max_pixels, kept=kept):
                    prepared = prepare_image(image, opened.manifest, options, packer)
        try:
            (judgement,) = _judged_alone(packer, judge)
        finally:
            room.let_go(kept)
        room.note_engines()
    if isinstance(judgement, BackendError):
        raise judgement
    return verdict_of(prepared, judgement, opened.bundle, options)


def _judged_alone(packer: Packer, judge: Judge) -> list[Judgement | BackendError]:
    """Its own function, so that the pack is gone by the time that others are told of its memory."""
    pack = packer.take()
    assert pack is not None, "the image was just prepared"
    return judge.judge(pack)


def decoding_room(opened: OpenedBundle, workers: int | None = None, beside: Beside = NOTHING_BESIDE) -> DecodingRoom:
    """What all that decode for an opened bundle may hold: more beside a GPU, with as many `workers`."""
    return DecodingRoom(opened, (workers or default_workers(on_gpu=True)) if opened.on_gpu else 0, beside)


def default_workers(*, on_gpu: bool) -> int:
    """Threads that decode: one per core and at most `MAX_WORKERS` beside engines on the CPU.

    Where the engines are on a GPU, decoding is what the cores are there for: all of them but the judge's.
    """
    return max(1, usable_cores() - 1) if on_gpu else min(usable_cores(), MAX_WORKERS)


def _path_of(source: ImageSource) -> str | None:
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else None


@contextmanager
def _threads_to_start() -> Iterator[None]:
    """Python's error where the system gives no thread, as ours. Raises OutOfMemory."""
    try:
        yield
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
        raise OutOfMemory("start a thread") from None


def _failed(error: GlassError) -> Future[Verdict]:
    future: Future[Verdict] = Future()
    future.set_exception(error)
    return future


def _fail(result: Future[Verdict], error: BaseException) -> None:
    if result.set_running_or_notify_cancel():
        result.set_exception(error)


def _from_the_engine(error: Exception) -> GlassError:
    """An error of the engine's run as one of ours: vendor libraries raise errors of any class."""
    if isinstance(error, GlassError):
        return error
    log.error("unexpected error while judging", exc_info=error)
    return BackendError(first_line(error))


def result_of(
    judged: Future[Verdict],
    path: str | None = None,
    unexpected: Callable[[Exception], GlassError] = _from_the_engine,
) -> Verdict | Failure:
    """Waits for an image's verdict; an error that was raised instead is its failure, under the name `path`.

    `unexpected` makes an error of ours of one that was not raised on purpose, such as a vendor library's.
    """
    try:
        return judged.result()
    except GlassError as error:
        return Failure(path, error)
    except Exception as error:
        log.exception("unexpected error while judging")
        return Failure(path, unexpected(error))

"""Many images through one judge: threads decode and write views, one thread judges, results come in input order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter

from glass_rt.budget import ByteBudget
from glass_rt.bundle import Bundle
from glass_rt.environment import usable_cores
from glass_rt.errors import GlassError
from glass_rt.image.decode import ImageSource, decoded_bytes, load, read
from glass_rt.judge import Judge, Stopping
from glass_rt.options import DetectOptions
from glass_rt.pack import Packer
from glass_rt.subject import Subject, path_of, place, verdict_of
from glass_rt.verdict import Failure, Verdict

RUNS_PER_PACK = 4  # a pack holds this many runs of the local engine, so that few of them are partly filled
MAX_WORKERS = 8
DECODED_BYTES = 1 << 30  # held by all decoding threads together
Prepared = Subject | Failure


class Pipeline:
    """Judges a stream of images with one set of options."""

    def __init__(self, bundle: Bundle, judge: Judge, batch: int, options: DetectOptions) -> None:
        self._bundle = bundle
        self._model = bundle.manifest.model
        self._judge = judge
        self._options = options
        self._batch = batch
        self._budget = ByteBudget(DECODED_BYTES)
        threshold = bundle.manifest.threshold if options.threshold is None else options.threshold
        adaptive = options.crops == "auto" and self._model.architecture == "glass"
        self._stopping = Stopping(self._model.fake_index, threshold, options.margin) if adaptive else None

    def judge_one(self, source: ImageSource) -> Verdict:
        """One image on the calling thread, by the shortest path. Raises ImageError, BackendError."""
        packer = self._packer()
        subject = self._place(source, packer)
        pack = packer.take()
        assert pack is not None, "the image was just placed"
        (judgement,) = self._judge.judge(pack, self._stopping)
        return verdict_of(subject, judgement, self._bundle, self._options)

    def run(self, sources: Iterable[ImageSource | Failure]) -> Iterator[Verdict | Failure]:
        """One result per source, in order; a Failure among the sources is passed on in its place.

        Sources are taken ahead of the results, by a few images per worker. Decoded pixels are held to a budget of
        bytes, views to a few packs, whatever the number of images.
        """
        workers = self._options.workers or min(usable_cores(), MAX_WORKERS)
        packer = self._packer()
        judging = threading.Thread(target=self._judge_packs, args=(packer,), name="glass-rt judge", daemon=True)
        ahead = 2 * workers + 2 * self._images_per_pack()
        with ThreadPoolExecutor(workers, thread_name_prefix="glass-rt decode") as decoding:
            judging.start()
            pending: deque[Future[Prepared]] = deque()
            try:
                for source in sources:
                    pending.append(self._submit(decoding, source, packer))
                    while pending and (len(pending) >= ahead or _is_finished(pending[0])):
                        yield self._result(pending.popleft())
                while pending:
                    yield self._result(pending.popleft())
            finally:
                for future in pending:
                    future.cancel()
                packer.close()
                judging.join()  # the pack at work is finished: nobody closes an engine under it

    def _packer(self) -> Packer:
        """Packs with room for a few runs of the engine."""
        return Packer(self._model.crop_size, RUNS_PER_PACK * self._batch, self._batch)

    def _images_per_pack(self) -> int:
        return max(1, RUNS_PER_PACK * self._batch // max(1, self._model.trained_crops))

    def _submit(self, decoding: ThreadPoolExecutor, source: ImageSource | Failure, packer: Packer) -> Future[Prepared]:
        if isinstance(source, Failure):
            return _done(source)

        def prepare() -> Prepared:
            try:
                return self._place(source, packer)
            except GlassError as error:
                return Failure(path_of(source), error)

        return decoding.submit(prepare)

    def _place(self, source: ImageSource, packer: Packer) -> Subject:
        start = perf_counter()
        data = read(source)
        size = decoded_bytes(data, self._options.max_pixels)
        waited = perf_counter()
        with self._budget.hold(size):
            start += perf_counter() - waited
            image = load(data, max_pixels=self._options.max_pixels)
            decode_ms = (perf_counter() - start) * 1e3
            return place(path_of(source), image, decode_ms, self._model, self._options, packer)

    def _judge_packs(self, packer: Packer) -> None:
        while (pack := packer.take()) is not None:
            try:
                judgements = self._judge.judge(pack, self._stopping)
            except BaseException as error:  # reaches whoever waits for the image, on the main thread
                for slot in pack.slots:
                    slot.judgement.set_exception(error)
                continue
            for slot, judgement in zip(pack.slots, judgements, strict=True):
                slot.judgement.set_result(judgement)

    def _result(self, future: Future[Prepared]) -> Verdict | Failure:
        subject = future.result()
        if isinstance(subject, Failure):
            return subject
        try:
            judgement = subject.slot.judgement.result()
        except GlassError as error:
            return Failure(subject.path, error)
        return verdict_of(subject, judgement, self._bundle, self._options)


def _done(failure: Failure) -> Future[Prepared]:
    future: Future[Prepared] = Future()
    future.set_result(failure)
    return future


def _is_finished(future: Future[Prepared]) -> bool:
    """Whether its result can be given without waiting."""
    if not future.done():
        return False
    subject = future.result()
    return isinstance(subject, Failure) or subject.slot.judgement.done()

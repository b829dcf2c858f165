"""Images from several threads at once, and images that are given up."""

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glass_rt import DetectOptions, Detector, Verdict
from glass_rt.backends.cuda.gpu import GpuError, GpuOutOfMemory
from glass_rt.errors import ImageCorrupt, OutOfMemory
from glass_rt.image.views import HostViews
from glass_rt.inference.judgement import Judgement
from glass_rt.inference.pack import Pack, Packer
from tests.support import Bundles

OPTIONS = DetectOptions(seed=5)


@pytest.fixture(scope="module")
def detector(bundles: Bundles) -> Iterator[Detector]:
    with Detector.open(bundles("mobilenet_v3_small", crops=6).folder) as opened:
        yield opened


def evidence(verdict: Verdict) -> tuple[object, ...]:
    return verdict.sha256, verdict.probability_fake, verdict.logits, verdict.crops, verdict.draws, verdict.seed


def test_images_submitted_from_many_threads_get_the_verdicts_they_get_alone(
    detector: Detector, pictures: tuple[Path, ...]
) -> None:
    """Each with options of its own, side by side in the same packs."""
    choices = (
        OPTIONS,
        DetectOptions(seed=1, crops=3),
        DetectOptions(seed=2, draws=2),
        DetectOptions(seed=3, crops="auto", margin=1e-6),
        DetectOptions(seed=4, crops="auto", margin=1e9),
    )
    work = [(path, options) for path in pictures for options in choices] * 2
    with detector.pipeline(workers=2) as pipeline, ThreadPoolExecutor(4) as callers:
        together = list(callers.map(lambda item: pipeline.submit(*item).result(60), work))
    alone = {item: evidence(detector.detect(*item)) for item in set(work)}
    assert [evidence(verdict) for verdict in together] == [alone[item] for item in work]


def test_the_views_of_an_image_are_gone_when_its_verdict_is_there(
    detector: Detector, pictures: tuple[Path, ...]
) -> None:
    """Else the next image, for which only the limit on memory leaves no room beside them, would be refused."""
    alive: list[int] = []

    def packs() -> list[Pack]:
        return [each for each in gc.get_objects() if type(each) is Pack]

    def count(_: Future[Verdict]) -> None:
        alive.append(sum(all(each is not other for other in before) for each in packs()))

    gc.collect()
    before = packs()  # of engines that other tests have left hanging
    with detector.pipeline(workers=1) as pipeline:
        for path in pictures[:3]:
            future = pipeline.submit(path, OPTIONS)
            future.add_done_callback(count)
            future.result(60)
    assert alive == [0, 0, 0]


def test_a_submitted_image_that_cannot_be_judged_raises_from_its_future(
    detector: Detector, pictures: tuple[Path, ...]
) -> None:
    with detector.pipeline() as pipeline:
        bad = pipeline.submit(pictures[0].read_bytes()[:200], OPTIONS)
        good = pipeline.submit(pictures[0], OPTIONS)
        with pytest.raises(ImageCorrupt):
            bad.result(60)
        assert good.result(60).path == str(pictures[0])


def test_closing_gives_up_what_was_not_judged_and_leaves_nobody_waiting(
    detector: Detector, pictures: tuple[Path, ...]
) -> None:
    pipeline = detector.pipeline(workers=1)
    futures = [pipeline.submit(pictures[0], OPTIONS) for _ in range(20)]
    pipeline.close()
    assert all(future.done() for future in futures)
    done = [future for future in futures if not future.cancelled()]
    assert len(done) < 20
    assert all(future.result().seed == 5 for future in done)


def test_cancelled_images_leave_their_neighbours_verdicts_as_they_are(
    detector: Detector, pictures: tuple[Path, ...]
) -> None:
    expected = [evidence(detector.detect(path, OPTIONS)) for path in pictures]
    with detector.pipeline(workers=2) as pipeline:
        kept, dropped = [], []
        for _ in range(4):
            for path in pictures:
                kept.append(pipeline.submit(path, OPTIONS))
                dropped.append(pipeline.submit(pictures[0], DetectOptions(crops=9)))
        for future in dropped:
            future.cancel()
        assert [evidence(future.result(60)) for future in kept] == expected * 4


def filled(packer: Packer, crops: int, value: int) -> Future[Judgement]:
    slot = packer.reserve(crops)
    slot.global_view[...] = value
    slot.crops[...] = value
    packer.filled(slot)
    return slot.judgement


def test_a_pack_leaves_out_the_images_that_were_given_up_before_it_was_taken() -> None:
    packer = Packer(crop_size=2, max_crops=12, max_images=4)
    judgements = [filled(packer, crops, value) for value, crops in enumerate((3, 2, 4), start=1)]
    assert judgements[1].cancel()
    pack = packer.take()
    assert isinstance(pack, Pack)
    assert [slot.crop_range for slot in pack.slots] == [range(3), range(3, 7)]
    assert np.array_equal(pack.crops[:, 0, 0, 0], [1, 1, 1, 3, 3, 3, 3])
    assert np.array_equal(pack.global_views[:, 0, 0, 0], [1, 3])
    assert not judgements[0].cancel(), "with the judge, it cannot be given up any more"


class _NoRoom(HostViews):
    """Packs whose views cannot be moved together, as where memory is used up."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        error = self._error

        class Array(np.ndarray[Any, Any]):
            def __getitem__(self, key: Any) -> Any:
                if isinstance(key, list):
                    raise error
                return super().__getitem__(key)

        return super().empty(shape, dtype).view(Array)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError("Unable to allocate 92 MiB"), OutOfMemory),  # NumPy
        (GpuOutOfMemory("cuMemAlloc", "OUT_OF_MEMORY"), GpuOutOfMemory),  # views on a GPU
        (GpuError("cuMemAlloc", "ILLEGAL_ADDRESS", lost=True), GpuError),
    ],
)
def test_a_pack_without_room_to_close_its_gaps_fails_and_the_next_is_judged(
    error: Exception, kind: type[Exception]
) -> None:
    """An error of the thread that judges would leave every later image waiting."""
    packer = Packer(crop_size=2, max_crops=4, max_images=4, views=_NoRoom(error))
    given_up, kept = filled(packer, 2, 1), filled(packer, 2, 2)
    assert given_up.cancel()
    later = filled(packer, 4, 3)
    pack = packer.take()
    assert type(kept.exception(0)) is kind
    assert pack is not None
    assert [slot.judgement for slot in pack.slots] == [later]
    packer.close()


def test_a_pack_whose_images_were_all_given_up_is_not_judged() -> None:
    packer = Packer(crop_size=2, max_crops=4, max_images=4)
    assert filled(packer, 2, 1).cancel()
    taken: list[Pack | None] = []
    waiting = threading.Thread(target=lambda: taken.append(packer.take()))
    waiting.start()
    left = filled(packer, 3, 2)
    waiting.join(10)
    packer.close()
    (pack,) = taken
    assert pack is not None
    assert pack.num_crops == 3
    assert left.running()


def test_closing_a_packer_gives_up_what_nobody_took() -> None:
    packer = Packer(crop_size=2, max_crops=4, max_images=4)
    judgement = filled(packer, 2, 1)
    packer.close()
    assert packer.take() is None
    with pytest.raises(CancelledError):
        judgement.result(0)


def test_views_are_freed_with_their_pack_and_not_when_cycles_are_looked_for(
    detector: Detector, pictures: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    packs: list[weakref.ref[Pack]] = []
    globals_of_packs: list[weakref.ref[object]] = []
    make = Pack.__init__

    def noted(pack: Pack, *arguments: Any) -> None:
        make(pack, *arguments)
        packs.append(weakref.ref(pack))
        globals_of_packs.append(weakref.ref(pack._globals))

    monkeypatch.setattr(Pack, "__init__", noted)
    gc.disable()
    try:
        with detector.pipeline(workers=1) as pipeline:
            verdicts = [pipeline.submit(pictures[2], OPTIONS).result(60) for _ in range(4)]
        assert len(verdicts) == 4
        assert len(packs) >= 2
        assert all(pack() is None for pack in packs)
        assert all(array() is None for array in globals_of_packs)
    finally:
        gc.enable()

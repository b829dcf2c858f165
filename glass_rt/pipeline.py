"""Many images through one judge: decode, lay the views side by side, judge a pack at a time, in input order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from glass_rt.bundle import Bundle
from glass_rt.errors import GlassError, ImageTooLarge
from glass_rt.image.decode import Image, ImageInfo, ImageSource, load
from glass_rt.image.sampling import Sampling, default_seed, stratified, tiles
from glass_rt.image.views import baseline_view, cut_crops, global_view
from glass_rt.judge import Judge, Judgement
from glass_rt.manifest import Model
from glass_rt.pack import Pack, Slot
from glass_rt.verdict import UNTRAINED, CropEvidence, EngineInfo, Failure, Timings, Verdict

if TYPE_CHECKING:
    from glass_rt.detector import DetectOptions

RUNS_PER_PACK = 4  # a pack holds this many runs of the local engine, so that few of them are partly filled


@dataclass(frozen=True, eq=False)
class _Subject:
    """What is kept of an image once its views are in a pack and its pixels are gone."""

    path: str | None
    info: ImageInfo
    sampling: Sampling | None
    decode_ms: float
    views_ms: float


class Pipeline:
    """Judges a stream of images with one set of options."""

    def __init__(self, bundle: Bundle, judge: Judge, batch: int, options: DetectOptions) -> None:
        self._bundle = bundle
        self._model: Model = bundle.manifest.model
        self._judge = judge
        self._batch = batch
        self._options = options

    def run(self, sources: Iterable[ImageSource | Failure]) -> Iterator[Verdict | Failure]:
        """One result per source, in order; a Failure among the sources is passed on in its place.

        At most one pack of views and one decoded image are held at a time.
        """
        pack: Pack | None = None
        waiting: list[_Subject | Failure] = []
        for source in sources:
            if isinstance(source, Failure):
                waiting.append(source)
                continue
            path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
            try:
                start = perf_counter()
                image = load(source, max_pixels=self._options.max_pixels)
                decode_ms = (perf_counter() - start) * 1e3
                start = perf_counter()
                sampling = self._sample(image)
                num_crops = len(sampling.boxes) if sampling else 0
                slot = pack.reserve(num_crops) if pack else None
                if slot is None:
                    yield from self._flush(pack, waiting)
                    waiting = []
                    pack = self._new_pack(num_crops)
                    slot = pack.reserve(num_crops)
                    assert slot is not None, "a new pack has room for the image it was made for"
                self._write_views(image, sampling, slot)
                views_ms = (perf_counter() - start) * 1e3
            except GlassError as error:
                waiting.append(Failure(path, error))
                continue
            waiting.append(_Subject(path, image.info, sampling, decode_ms, views_ms))
        yield from self._flush(pack, waiting)

    def _sample(self, image: Image) -> Sampling | None:
        if self._model.architecture == "resize":
            return None
        if self._options.sampling == "tiles":
            return tiles(image.info.height, image.info.width, self._model.crop_size)
        seed = default_seed(image.info.sha256) if self._options.seed is None else self._options.seed
        crops = self._options.crops or self._model.trained_crops
        return stratified(image.info.height, image.info.width, crops, seed, self._model.crop_size)

    def _new_pack(self, num_crops: int) -> Pack:
        """Room for a few runs of the engine, or for one image of more crops than that."""
        if num_crops == 0:
            return Pack(self._model.crop_size, self._batch, 0)
        max_crops = max(num_crops, RUNS_PER_PACK * self._batch)
        try:
            return Pack(self._model.crop_size, max(1, max_crops // num_crops), max_crops)
        except MemoryError:
            raise ImageTooLarge(f"not enough memory for {num_crops} crops") from None

    def _write_views(self, image: Image, sampling: Sampling | None, slot: Slot) -> None:
        if sampling is None:
            slot.global_view[...] = baseline_view(image.pixels, self._model.crop_size)
            return
        slot.global_view[...] = global_view(image.pixels, self._model.crop_size)
        cut_crops(image.pixels, sampling.boxes, slot.crops)

    def _flush(self, pack: Pack | None, waiting: list[_Subject | Failure]) -> Iterator[Verdict | Failure]:
        """Judges the pack and gives its images' verdicts and the failures between them, in order."""
        try:
            judgements = iter(self._judge.judge(pack)) if pack and pack.slots else iter(())
        except GlassError as error:
            yield from (item if isinstance(item, Failure) else Failure(item.path, error) for item in waiting)
            return
        for item in waiting:
            yield item if isinstance(item, Failure) else self._verdict(item, next(judgements))

    def _verdict(self, subject: _Subject, judgement: Judgement) -> Verdict:
        manifest, model, output = self._bundle.manifest, self._model, judgement.output
        fake = model.fake_index
        probability_fake = float(output.probabilities[fake])
        threshold = manifest.threshold if self._options.threshold is None else self._options.threshold
        sampling = subject.sampling
        timings = (subject.decode_ms, subject.views_ms, judgement.engine_ms, judgement.aggregate_ms)
        return Verdict(
            path=subject.path,
            sha256=subject.info.sha256,
            width=subject.info.width,
            height=subject.info.height,
            format=subject.info.format,
            label="fake" if probability_fake >= threshold else "real",
            probability_fake=probability_fake,
            probabilities={name: float(p) for name, p in zip(model.classes, output.probabilities, strict=True)},
            logits=(float(output.logits[0]), float(output.logits[1])),
            threshold=threshold,
            trained=model.weights.trained,
            seed=sampling.seed if sampling else None,
            sampling=sampling.mode if sampling else None,
            stratified=sampling.stratified if sampling else None,
            grid=sampling.grid if sampling else None,
            trained_crops=model.trained_crops,
            crops=_evidence(sampling, judgement, probability_fake, fake) if sampling else (),
            orientation=subject.info.orientation,
            notices=_notices(subject, model),
            engine=EngineInfo(
                model.name,
                model.architecture,
                model.backbone,
                manifest.engine.backend,
                manifest.engine.precision,
                self._bundle.sha256,
                model.weights.sha256,
            ),
            timings_ms=Timings(*timings, total=sum(timings)),
        )


def _evidence(sampling: Sampling, judgement: Judgement, probability_fake: float, fake: int) -> tuple[CropEvidence, ...]:
    output = judgement.output
    alone = len(sampling.boxes) == 1
    return tuple(
        CropEvidence(
            box.left,
            box.top,
            box.width,
            box.height,
            float(attention),
            None if alone else probability_fake - float(without[fake]),
        )
        for box, attention, without in zip(sampling.boxes, output.attention, output.without, strict=True)
    )


def _notices(subject: _Subject, model: Model) -> tuple[str, ...]:
    """What somebody who relies on the verdict must know, most important first."""
    notices = [] if model.weights.trained else [UNTRAINED]
    sampling = subject.sampling
    if sampling is not None:
        if sampling.mode == "stratified" and not sampling.stratified:
            notices.append(
                f"not stratified: {subject.info.width} x {subject.info.height} has too few cells of "
                f"{model.crop_size} px for {len(sampling.boxes)} crops, so they were drawn anywhere and may overlap"
            )
        if any(min(box.height, box.width) < model.crop_size for box in sampling.boxes):
            notices.append(f"smaller than a crop ({model.crop_size} px): padded with black")
        if len(sampling.boxes) != model.trained_crops:
            notices.append(f"{len(sampling.boxes)} crops; this model is trained with {model.trained_crops}")
    return (*notices, *subject.info.notices)

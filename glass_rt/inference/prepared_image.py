"""An image from its source to its views, and from its judgement to its verdict."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.manifest import BundleManifest, Model
from glass_rt.decision.decide import decide
from glass_rt.errors import GlassError, ImageCorrupt, OutOfMemory, first_line
from glass_rt.image.buffer import PixelBuffer
from glass_rt.image.decode import ImageInfo
from glass_rt.image.encoded import ArrayImage, EncodedImage
from glass_rt.image.sampling import Sampling, default_seed, draws_of, num_tiles, tiles
from glass_rt.image.views import baseline_view
from glass_rt.inference.decision_rule import decision_rule, facts_of
from glass_rt.inference.judgement import Judgement, Stopping
from glass_rt.inference.pack import Packer, Slot
from glass_rt.options import DetectOptions
from glass_rt.results.decision_text import notices_of
from glass_rt.results.verdict import CropEvidence, Draws, EngineInfo, Timings, Verdict

log = logging.getLogger("glass_rt")


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """What is kept of an image once its views are in a pack and its pixels are gone.

    Not its slot: callbacks of `judgement` hold this object, and a slot's arrays would stay with them until Python looks
    for reference cycles.
    """

    path: str | None
    info: ImageInfo
    sampling: Sampling | None
    judgement: Future[Judgement]
    decode_ms: float
    views_ms: float


@dataclass(frozen=True, eq=False)
class DecodedSource:
    """A decoded image on its way to its views: `pixels` uint8 (H, W, 3), RGB, in memory or on the device."""

    path: str | None
    info: ImageInfo
    pixels: Any
    decode_ms: float  # reading it included


def prepare_image(
    source: EncodedImage | ArrayImage,
    manifest: BundleManifest,
    options: DetectOptions,
    packer: Packer,
    buffer: PixelBuffer | None = None,
) -> PreparedImage:
    """Decodes an image (into `buffer`, where one is given), chooses its windows and writes its views into a pack.

    Raises ImageError, OutOfMemory, MissingDependency.
    """
    start = perf_counter()
    with as_image_error():
        image = source.decode(buffer)
    decode_ms = source.read_ms + (perf_counter() - start) * 1e3
    return prepare_decoded(DecodedSource(source.path, image.info, image.pixels, decode_ms), manifest, options, packer)


def prepare_decoded(
    image: DecodedSource, manifest: BundleManifest, options: DetectOptions, packer: Packer
) -> PreparedImage:
    """Chooses a decoded image's windows and writes its views into a pack. Raises OutOfMemory, BackendError."""
    start = perf_counter()
    sampling = _sample(image.info, manifest.model, options)
    slot = _reserve(packer, sampling)
    try:
        if sampling is None:
            slot.global_view[...] = baseline_view(image.pixels, manifest.model.crop_size)
        else:
            slot.draws = options.draws
            slot.stopping = _stopping(manifest, options)
            packer.views.write(image.pixels, sampling.boxes, slot.global_view, slot.crops)
    except BaseException:
        slot.judgement.cancel()
        raise
    finally:
        packer.filled(slot)
    views_ms = (perf_counter() - start) * 1e3
    return PreparedImage(image.path, image.info, sampling, slot.judgement, image.decode_ms, views_ms)


@contextmanager
def as_image_error() -> Iterator[None]:
    """Whatever header parser or decoder raise in the block is this image's error: the other images go on.

    What is not ours becomes ImageCorrupt, with a line in the log, or OutOfMemory.
    """
    try:
        yield
    except GlassError:
        raise
    except MemoryError:
        raise OutOfMemory("decode this image") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        where = traceback.extract_tb(error.__traceback__)[-1]
        log.warning("unexpected error in a decoder: %s (%s, line %d)", reason, where.name, where.lineno or 0)
        raise ImageCorrupt(f"it cannot be decoded: {reason}") from error


def _reserve(packer: Packer, sampling: Sampling | None) -> Slot:
    crops = len(sampling.boxes) if sampling else 0
    try:
        return packer.reserve(crops)
    except MemoryError:
        raise OutOfMemory(f"hold {crops} crops") from None


def _stopping(manifest: BundleManifest, options: DetectOptions) -> Stopping | None:
    if options.crops != "auto":
        return None
    threshold = manifest.threshold if options.threshold is None else options.threshold
    return Stopping(manifest.model.fake_index, threshold, options.margin)


def verdict_of(prepared: PreparedImage, judgement: Judgement, bundle: Bundle, options: DetectOptions) -> Verdict:
    """The verdict with its evidence."""
    manifest, output, info, sampling = bundle.manifest, judgement.output, prepared.info, prepared.sampling
    model = manifest.model
    probability_fake = float(output.probabilities[model.fake_index])
    decision = decide(probability_fake, facts_of(info, sampling), decision_rule(manifest, options))
    timings = (prepared.decode_ms, prepared.views_ms, judgement.engine_ms, judgement.aggregate_ms)
    return Verdict(
        path=prepared.path,
        sha256=info.sha256,
        width=info.width,
        height=info.height,
        format=info.format,
        jpeg_quality=info.jpeg_quality,
        decision=decision,
        probability_fake=probability_fake,
        probabilities={name: float(p) for name, p in zip(model.classes, output.probabilities, strict=True)},
        logits=(float(output.logits[0]), float(output.logits[1])),
        trained=model.weights.trained,
        seed=sampling.seed if sampling else None,
        sampling=sampling.mode if sampling else None,
        stratified=sampling.stratified if sampling else None,
        grid=sampling.grid if sampling else None,
        trained_crops=model.trained_crops,
        crops=_evidence(sampling, judgement, model.fake_index) if sampling else (),
        draws=_draws(judgement, model.fake_index) if options.draws > 1 and sampling else None,
        orientation=info.orientation,
        notices=(*notices_of(decision), *_notices(prepared, judgement, model, options)),
        engine=EngineInfo(
            model.name,
            model.architecture,
            model.backbone,
            manifest.engine.backend,
            manifest.engine.precision,
            bundle.sha256,
            model.weights.sha256,
        ),
        timings_ms=Timings(*timings, total=sum(timings)),
    )


def _sample(info: ImageInfo, model: Model, options: DetectOptions) -> Sampling | None:
    if model.architecture == "resize":
        return None
    if options.sampling == "tiles":
        return tiles(info.height, info.width, model.crop_size)
    seed = default_seed(info.sha256) if options.seed is None else options.seed
    crops = options.crops if isinstance(options.crops, int) else model.trained_crops
    return draws_of(info.height, info.width, crops, seed, model.crop_size, options.draws)


def crops_of(size_hw: tuple[int, int], model: Model, options: DetectOptions) -> int:
    """Crops that are cut of an image of this height and width."""
    if model.architecture == "resize":
        return 0
    if options.sampling == "tiles":
        return num_tiles(*size_hw, model.crop_size)
    return options.draws * (options.crops if isinstance(options.crops, int) else model.trained_crops)


def _evidence(sampling: Sampling, judgement: Judgement, fake: int) -> tuple[CropEvidence, ...]:
    output = judgement.output
    probability_fake = float(output.probabilities[fake])
    alone = judgement.used == len(judgement.draws)  # one crop per draw: nothing is left without it
    return tuple(
        CropEvidence(
            box.left,
            box.top,
            box.width,
            box.height,
            float(attention),
            None if alone else probability_fake - float(without[fake]),
        )
        for box, attention, without in zip(
            sampling.boxes[: judgement.used], output.attention, output.without, strict=True
        )
    )


def _draws(judgement: Judgement, fake: int) -> Draws:
    values = judgement.draws[:, fake].astype(float)
    return Draws(tuple(values.tolist()), float(values.mean()), float(values.std(ddof=1)))


def _notices(prepared: PreparedImage, judgement: Judgement, model: Model, options: DetectOptions) -> tuple[str, ...]:
    """What somebody who relies on the score must know, most important first."""
    notices = []
    sampling = prepared.sampling
    if sampling is not None:
        per_draw = judgement.used // options.draws
        if sampling.mode == "stratified" and not sampling.stratified:
            notices.append(
                f"not stratified: {prepared.info.width} x {prepared.info.height} has too few cells of "
                f"{model.crop_size} px for {len(sampling.boxes) // options.draws} crops, "
                "so they were drawn anywhere and may overlap"
            )
        if any(min(box.height, box.width) < model.crop_size for box in sampling.boxes):
            notices.append(f"smaller than a crop ({model.crop_size} px): padded with black")
        if per_draw != model.trained_crops:
            notices.append(f"{per_draw} crops; this model is trained with {model.trained_crops}")
        if options.draws > 1:
            notices.append(f"mean of {options.draws} draws; the model is trained with one")
    return (*notices, *prepared.info.notices)

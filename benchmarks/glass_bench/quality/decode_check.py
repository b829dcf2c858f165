"""What decoding on the device changes: pixels, embeddings and verdicts of a bundle on the user's own images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glass_bench.errors import BenchError
from glass_bench.report.text import table
from glass_rt.backends.cuda import open_gpu
from glass_rt.backends.cuda.image_codec import Encoded, ImageCodec
from glass_rt.backends.embedding import embed
from glass_rt.bundle.bundle import Bundle
from glass_rt.decision.decide import decide
from glass_rt.errors import ImageError
from glass_rt.image.decode import Image, Pixels
from glass_rt.image.encoded import EncodedImage, read_image
from glass_rt.image.header.jpeg_stream import NotForTheDevice, baseline_stream
from glass_rt.image.sampling import Sampling, default_seed, draws_of
from glass_rt.image.views import baseline_view, cut_crops, global_view
from glass_rt.inference.decision_rule import decision_rule, facts_of
from glass_rt.inference.decode_gate import MOST_LOGITS
from glass_rt.inference.engines import device_of
from glass_rt.inference.opened_bundle import OpenedBundle
from glass_rt.machine.device import device_from_text, is_cpu
from glass_rt.options import DetectOptions, RunOptions
from glass_rt.progress import Stage, silent

LEVELS = 16  # of difference that the histogram tells apart


@dataclass(frozen=True)
class ImageDrift:
    """One image decoded both ways. `levels`: how many samples differ by 0, 1, ... `LEVELS` or more levels.

    `embedding`: the largest relative L2 difference of its embeddings; `logits` and `probability`: absolute differences.
    """

    name: str
    levels: tuple[int, ...]
    embedding: float
    logits: float
    probability: float
    labels: tuple[str, str]  # by the CPU's pixels, and by the device's

    @property
    def flipped(self) -> bool:
        """Whether the verdict changes; untrained weights have none."""
        return self.labels[0] != self.labels[1]


@dataclass(frozen=True)
class DecodeCheck:
    """The outcome for one bundle and one decoder.

    `left`: how many images the CPU decodes all the same, by reason. `decoder`: nvImageCodec's kind of backend.
    """

    bundle_sha256: str
    device: str
    decoder: str
    trained: bool
    left: dict[str, int]
    images: tuple[ImageDrift, ...]

    @property
    def refused(self) -> str | None:
        """Why images of this bundle must not be decoded there, or None where they may."""
        flipped = [image.name for image in self.images if image.flipped]
        if flipped:
            return f"{len(flipped)} of {len(self.images)} verdicts change, that of {flipped[0]} first"
        past = [image for image in self.images if not image.logits <= MOST_LOGITS]  # no number at all is past it too
        if past:
            return f"a logit moves by {past[0].logits:.3g}, that of {past[0].name}; {MOST_LOGITS} is allowed"
        return None

    def to_json(self) -> dict[str, Any]:
        """The record, with what follows from it."""
        return {**asdict(self), "most_logits": MOST_LOGITS, "refused": self.refused}

    def report(self) -> str:
        """A table and the outcome."""
        levels = np.sum([image.levels for image in self.images], axis=0)
        differing = np.flatnonzero(levels)
        rows = [
            ["images decoded both ways", str(len(self.images))],
            ["samples that differ", f"{1 - levels[0] / levels.sum():.3%}"],
            ["largest difference, levels", f"{differing[-1]}{' or more' if differing[-1] == LEVELS else ''}"],
        ]
        for name, values in (
            ("embedding, relative L2", [image.embedding for image in self.images]),
            ("logit", [image.logits for image in self.images]),
            ("P(fake)", [image.probability for image in self.images]),
        ):
            rows.append([f"{name}: median, largest", f"{np.median(values):.2g}, {max(values):.2g}"])
        flips = sum(image.flipped for image in self.images)
        rows.append(["verdicts that change", str(flips) if self.trained else "untrained weights have none"])
        rows += [[f"left to the CPU: {reason}", str(count)] for reason, count in sorted(self.left.items())]
        outcome = "passed" if self.refused is None else f"REFUSED: {self.refused}"
        return "\n".join((*table([f"{self.decoder} on {self.device}", "against the CPU"], rows), "", outcome))


def check_decoding(
    bundle: Bundle, run: RunOptions, paths: Sequence[tuple[str, str]], stage: Stage = silent
) -> DecodeCheck:
    """Decodes images (path and name of each) on the engines' device and on the CPU, and judges both ways.

    On `cpu` the decoder is nvImageCodec's CPU backend. Raises BenchError where the device decodes none of them,
    MissingDependency, BackendError and what opening the bundle raises.
    """
    device = device_of(bundle.manifest, run.device)
    codec = _codec_on(device)
    try:
        opened = OpenedBundle.open(bundle, run)
        try:
            left: Counter[str] = Counter()
            found = []
            with stage(f"decode and judge {len(paths)} images both ways"):
                for path, name in paths:
                    try:
                        found.append(_drift(opened, name, *_both(codec, path)))
                    except (NotForTheDevice, ImageError) as reason:
                        left[str(reason)] += 1
        finally:
            opened.close()
        if not found:
            reasons = "; ".join(f"{count} {reason}" for reason, count in left.most_common())
            raise BenchError(f"none of these images is decoded there: {reasons}")
        trained = bundle.manifest.model.weights.trained
        return DecodeCheck(bundle.sha256, device, codec.kind, trained, dict(left), tuple(found))
    finally:
        codec.close()


def write_check(check: DecodeCheck, path: Path) -> None:
    """The record as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(check.to_json(), indent=2) + "\n", encoding="utf-8")


def _codec_on(device: str) -> ImageCodec:
    if is_cpu(device):
        return ImageCodec(None)
    index = device_from_text(device, ("cuda",), "images are decoded on cpu,").index
    return ImageCodec(open_gpu(index), index)


def _both(codec: ImageCodec, path: str) -> tuple[Image, Pixels]:
    """An image as the CPU decodes it, and its pixels by the codec. Raises NotForTheDevice, ImageError."""
    source = read_image(path)
    assert isinstance(source, EncodedImage), "it was read from a file"
    encoded = Encoded(baseline_stream(source.data, source.header), source.header.height, source.header.width)
    if not codec.fits(encoded.height * encoded.width):
        raise NotForTheDevice("too large for the GPU's memory")
    (decoded,) = codec.decode([encoded])
    if decoded is None:
        raise NotForTheDevice("refused by the decoder")
    pixels = np.array(decoded.pixels)
    codec.release(decoded)
    return source.decode(), pixels


def _drift(opened: OpenedBundle, name: str, by_cpu: Image, there: Pixels) -> ImageDrift:
    manifest, info = opened.manifest, by_cpu.info
    model, options = manifest.model, DetectOptions()
    sampling = None
    if model.architecture == "glass":
        seed = default_seed(info.sha256)
        sampling = draws_of(info.height, info.width, model.trained_crops, seed, model.crop_size, 1)
    embeddings, outputs, labels = [], [], []
    for pixels in (by_cpu.pixels, there):  # each in runs of its own, of one shape
        rows = _embeddings(opened, pixels, sampling)
        output = opened.head.judge(rows[0], rows[1:])
        score = float(output.probabilities[model.fake_index])
        labels.append(decide(score, facts_of(info, sampling), decision_rule(manifest, options)).label)
        embeddings.append(rows)
        outputs.append((output.logits, score))
    distances = np.linalg.norm(embeddings[1] - embeddings[0], axis=1) / np.linalg.norm(embeddings[0], axis=1)
    return ImageDrift(
        name,
        _levels(by_cpu.pixels, there),
        float(distances.max()),
        float(np.abs(outputs[1][0] - outputs[0][0]).max()),
        abs(outputs[1][1] - outputs[0][1]),
        (labels[0], labels[1]),
    )


def _embeddings(opened: OpenedBundle, pixels: Pixels, sampling: Sampling | None) -> NDArray[np.float32]:
    """float32 (1 + K, D): of the global view, then of the crops."""
    size = opened.manifest.model.crop_size
    whole = baseline_view(pixels, size) if sampling is None else global_view(pixels, size)
    rows = [embed(opened.engines["global"], whole[None], opened.batch)]
    if sampling is not None:
        crops = np.empty((len(sampling.boxes), size, size, 3), np.uint8)
        cut_crops(pixels, sampling.boxes, crops)
        rows.append(embed(opened.engines["local"], crops, opened.batch))
    return np.concatenate(rows)


def _levels(first: Pixels, second: Pixels) -> tuple[int, ...]:
    """How many samples differ by 0, 1, ... levels; the last place counts `LEVELS` and more."""
    counts = np.zeros(LEVELS + 1, np.int64)
    for start in range(0, len(first), 256):  # rows; the difference takes twice their memory
        rows = slice(start, start + 256)
        differences = np.abs(first[rows].astype(np.int16) - second[rows])
        counts += np.bincount(np.minimum(differences, LEVELS).reshape(-1), minlength=LEVELS + 1)
    return tuple(counts.tolist())

"""How much of an upscaler's trace survives a delivery: a plain model of residuals on aligned pairs, by delivery policy.

    python benchmarks/pairs_traces.py PAIRS [--json FILE]

No network is trained. The features of a crop are co-occurrences of its quantised second and third differences; a
logistic regression learns them on crops of `train`, delivered by a policy, and is tried on `val`, whose images are
scored by the mean of their crops, clean and after every tier of delivery. `test` is not read. It bounds nothing from
above: a network may find more. But a policy under which this model learns nothing leaves little to be learned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click
import cv2
import numpy as np
from glass_train.data.tiers import TIERS
from glass_train.delivery.delivered import DeliveredImage
from glass_train.delivery.draw import draw_delivery
from glass_train.delivery.policy import UNCHANGED, Policy
from glass_train.figures import auc, by_group
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from glass_rt.image.decode import Pixels
from glass_rt.image.encoded import load
from glass_rt.image.sampling import stratified
from glass_rt.labelled.labels import FOLDER, LabelledImage, labelled_images
from glass_rt.machine.environment import cpu_name

SIZE, CROPS, DELIVERIES = 224, 6, 3
_LEVELS, _RUN = 5, 4  # of a quantised difference; neighbours that occur together

POLICIES: Mapping[str, Policy] = {
    "none": UNCHANGED,
    "flips": replace(UNCHANGED, horizontal_flip=0.5),
    "mild": replace(UNCHANGED, horizontal_flip=0.5, jpeg=0.3, quality=(92, 98), subsamplings=("4:2:0", "4:4:4")),
    "JPEG 85 to 98, half": replace(UNCHANGED, horizontal_flip=0.5, jpeg=0.5, quality=(85, 98)),
    "JPEG 60 to 95": replace(UNCHANGED, horizontal_flip=0.5, jpeg=0.85, quality=(60, 95)),
    "web": Policy(),
}


def crop_features(crop: Pixels) -> NDArray[np.float64]:
    """Shares of the runs of four neighbouring differences, horizontal and vertical together."""
    luma = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.int16)
    return np.concatenate([_runs(luma, order) + _runs(luma.T, order) for order in (2, 3)])


def _runs(luma: NDArray[np.int16], order: int) -> NDArray[np.float64]:
    residual = np.diff(luma, order, axis=1) // (order + 1)
    codes = np.clip(residual, -(_LEVELS // 2), _LEVELS // 2) + _LEVELS // 2
    width = codes.shape[1] - _RUN + 1
    words = sum(codes[:, i : i + width].astype(np.int64) * _LEVELS**i for i in range(_RUN))
    counts = np.bincount(np.asarray(words).ravel(), minlength=_LEVELS**_RUN)
    shares: NDArray[np.float64] = np.sqrt(counts / counts.sum())
    return shares


def image_features(pixels: DeliveredImage, seed: int) -> NDArray[np.float64]:
    """Features of the image's crops, float64 (crops, n); crops that padding fills in part are left out."""
    boxes = [box for box in stratified(*pixels.size, CROPS, seed, SIZE).boxes if (box.height, box.width) == (SIZE,) * 2]
    return np.array([crop_features(pixels.window(box)) for box in boxes]).reshape(len(boxes), 2 * _LEVELS**_RUN)


def train(images: Sequence[LabelledImage], policy: Policy) -> object:
    """A logistic regression on the crops of the delivered images."""
    features, fake = [], []
    for image in images:
        pixels = load(image.path).pixels
        for number in range(1 if policy == UNCHANGED else DELIVERIES):
            steps = draw_delivery(policy, f"{image.pair or image.name}/{number}")
            rows = image_features(DeliveredImage(pixels, steps), number)
            features.append(rows)
            fake += [image.fake] * len(rows)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=300, class_weight="balanced"))
    return model.fit(np.concatenate(features), fake)


def scores(model: object, images: Sequence[LabelledImage], tier: str) -> NDArray[np.float64]:
    """The mean of each image's crops after a tier of delivery."""
    alter, found = TIERS[tier], []
    for image in images:
        pixels = load(image.path).pixels
        rows = image_features(DeliveredImage(pixels if alter is None else alter(pixels)), 0)
        found.append(model.decision_function(rows).mean())  # type: ignore[attr-defined]
    return np.array(found)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures there.")
def main(folder: Path, json_path: Path | None) -> None:
    """Measure with the pairs under FOLDER."""
    images, _ = labelled_images(folder, FOLDER)
    parts = {part: [image for image in images if image.split == part] for part in ("train", "val")}
    fake = np.array([image.fake for image in parts["val"]])
    groups = [image.group or image.pair or image.name for image in parts["val"]]
    rows = []
    for name, policy in POLICIES.items():
        model = train(parts["train"], policy)
        for tier in TIERS:
            found = scores(model, parts["val"], tier)
            area = by_group(lambda at, found=found: auc(fake[at], found[at]), groups, 0)  # type: ignore[misc]
            rows.append({"policy": name, "tier": tier, "auc": area.value, "low": area.low, "high": area.high})
            print(f"{name:22} {tier:8} AUC {area.value:.3f} ({area.low:.3f} to {area.high:.3f})", flush=True)
    if json_path is not None:
        record = {"cpu": cpu_name(), "crops": CROPS, "deliveries": DELIVERIES, "images": len(fake), "rows": rows}
        json_path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""The facts of a run that its card states."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glass_rt.bundle.bundle import Bundle
from glass_train.data.parts import PARTS, Dataset
from glass_train.finish.card import model_facts
from glass_train.loop.state import State
from glass_train.options import TrainOptions
from glass_train.recipe import Recipe


def card_of(
    options: TrainOptions,
    recipe: Recipe,
    dataset: Dataset,
    state: State,
    bundle: Bundle,
    calibration: str,
    tested: Sequence[dict[str, Any]] | None,
) -> dict[str, Any]:
    """The card as JSON values, from the facts of a run alone."""
    return {
        "schema": 1,
        "kind": "card",
        "model": model_facts(bundle),
        "training": {
            "began_with": Path(options.weights).name,
            "quick": options.quick,
            "labels_shuffled": options.shuffle_labels,
            "ended": state.finished,
            "best_epoch": state.best_epoch,
            "steps": state.step,
            "seconds": round(state.seconds, 1),
            "delivery": Path(options.delivery).name,
            "recipe": asdict(recipe),
            "validation": {tier: _finite(scores) for tier, scores in state.best_tiers.items()},
            "unreadable_while_training": state.failed,
        },
        "data": _data(options, dataset),
        "audit": dataset.audit,
        "calibration": calibration,
        "test": None
        if tested is None
        else {"sha256": dataset.part_sha256("test"), "images": len(dataset.parts["test"]), "rows": list(tested)},
    }


def _data(options: TrainOptions, dataset: Dataset) -> dict[str, Any]:
    images = [scanned for part in PARTS for scanned in dataset.parts[part]]
    return {
        "sha256": dataset.sha256,
        "parts": {
            part: {
                "fake": sum(scanned.image.fake for scanned in found),
                "real": sum(not scanned.image.fake for scanned in found),
                "groups": len({scanned.image.group or scanned.pixels_sha256 for scanned in found}),
            }
            for part, found in dataset.parts.items()
        },
        "sources": dict(sorted(Counter(scanned.image.source or "(unnamed)" for scanned in images).items())),
        "kept_aside": list(options.keep_aside),
        "unreadable": len(dataset.unreadable),
        "notes": list(dataset.notes),
    }


def _finite(scores: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}

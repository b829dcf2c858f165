"""The words for labels and splits in folders' names and in tables, and the columns that say more."""

from __future__ import annotations

from collections.abc import Mapping

from glass_rt.bundle.manifest import FAKE, REAL

_LABELS = {FAKE: True, "1_fake": True, "ai": True, REAL: False, "0_real": False, "nature": False}
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "calibration": ("calibration", "calib"),
    "test": ("test", "testing"),
}
_SPLIT_OF = {word: split for split, words in SPLITS.items() for word in words}
# Columns by what they mean; of several that are filled, the first counts.
_COLUMNS = {
    "path": ("path", "file"),
    "group": ("group", "source_path"),
    "pair": ("pair",),
    "source": ("source", "generator", "network", "kind"),
}


def label_word(word: str) -> bool | None:
    """Whether a word means fake (True) or real (False), in any case; None for other words."""
    return _LABELS.get(word.strip().lower())


def split_word(word: str) -> str | None:
    """The split that a word means: train, val, calibration or test; None for other words."""
    return _SPLIT_OF.get(word.strip().lower())


def column(row: Mapping[str, str], meaning: str) -> str | None:
    """What a row says: `path`, `group`, `pair` or `source`; None where it says nothing."""
    return next((row[name] for name in _COLUMNS[meaning] if row.get(name)), None)

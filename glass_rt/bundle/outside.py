"""A bundle's folder holds the files that its manifest lists, and no others: what commands write belongs elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

from glass_rt.bundle.folder import MANIFEST, read_manifest
from glass_rt.errors import BundleError, UsageError

_KINDS = ("bundle", "portable")


def check_outside(place: Path, option: str, *, replaces: bool = False) -> None:
    """Raises UsageError for a place in the folder of a bundle or portable model: with a file more it opens no longer.

    `option` is named in the error. `replaces`: what is at `place` may be a bundle, which is replaced as a whole.
    """
    resolved = Path(os.path.realpath(place))  # which bears loops of links
    for folder in resolved.parents if replaces else (resolved, *resolved.parents):
        if _is_bundle(folder):
            raise UsageError(
                f"{option}: {place} lies in the bundle {folder}, which may hold no other files; choose a place outside"
            )


def _is_bundle(folder: Path) -> bool:
    """Whether a folder's manifest is one of ours, of any schema."""
    try:
        if not (folder / MANIFEST).is_file():
            return False
        values = json.loads(read_manifest(folder))
    except (
        BundleError,
        OSError,
        ValueError,
        RecursionError,
    ):  # a folder that cannot be read: writing to it fails with the reason
        return False
    return isinstance(values, dict) and "schema" in values and values.get("kind") in _KINDS

"""The options of a verdict request, parsed from its query."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import QueryParams

from glass_rt.errors import UsageError
from glass_rt.options import DetectOptions, crops_from_text, seed_from_text

CHOICES = ("crops", "seed", "overlay")


@dataclass(frozen=True)
class VerdictQuery:
    """How to judge, and whether the response includes the overlay."""

    options: DetectOptions
    overlay: bool


def parse_query(query: QueryParams) -> VerdictQuery:
    """`crops` (a number or auto), `seed` (0..2^64-1) and `overlay` (0 or 1), each at most once. Raises UsageError."""
    for name in query:
        if name not in CHOICES:
            raise UsageError(f"query: {name[:40]!r} is unknown; choose from {', '.join(CHOICES)}")
        if len(query.getlist(name)) > 1:
            raise UsageError(f"query: {name} is given more than once")
    overlay = query.get("overlay", "0")
    if overlay not in ("0", "1"):
        raise UsageError(f"overlay: got {overlay[:40]!r}; expected 0 or 1")
    crops, seed = query.get("crops"), query.get("seed")
    options = DetectOptions(
        crops=None if crops is None else crops_from_text(crops), seed=None if seed is None else seed_from_text(seed)
    )
    return VerdictQuery(options, overlay == "1")

"""How a graph of less than 32 bits came about: what the range probe saw, and what narrowing cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class RangeReport:
    """The range probe's findings on one backbone.

    `views` views from `source` were looked at. A unit is a residual block or a layer outside of blocks; those in
    `widened` compute in float32, those in `widened_streams` add in float32, because a value passed `limit` (a quarter
    of the type's largest) or rounding would have lost a weight.
    """

    views: int
    source: str
    limit: float
    largest_weight: float
    largest_weight_at: str
    largest_activation: float
    largest_activation_at: str
    widened: tuple[str, ...]
    widened_streams: tuple[str, ...]
    units: int


@dataclass(frozen=True)
class Drift:
    """Largest relative L2 distance of an embedding from float32's, and largest absolute difference of a logit."""

    embedding: float
    logits: float


@dataclass(frozen=True)
class PrecisionReport:
    """Findings on the graphs of one precision.

    `embedding` (largest relative L2 distance of an embedding) and `logits` (largest absolute difference) compare the
    narrowed model with float32 on the reference views, computed by `computed_by`; `ranges` are by role. `half_sums`:
    the same of FP16 where running sums are rounded to half, as some libraries do, on the reference image of fewest
    crops; null for other precisions, and where such sums leave half's range or change a verdict.
    """

    computed_by: str
    embedding: float
    logits: float
    ranges: Mapping[str, RangeReport]
    half_sums: Drift | None = None

"""The project's own backbones with their untrained weights, in half precision, as modules that run on the card.

The export stage is imported where it is needed: steps without a backbone do without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glass_rt.bundle.manifest import Model
from glass_rt.inference.head import Head
from glass_rt.inference.parity import _logits

if TYPE_CHECKING:
    from glass_export.graphs import FusableAttention, PixelsToEmbedding

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True, eq=False)
class Exact:
    """A GLASS model in float32 on the CPU: its graphs by role, head, and what it computes for the reference views."""

    model: Model
    graphs: Mapping[str, PixelsToEmbedding]
    head: Head
    reference: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Drift:
    """How far a variant is from the CPU's float32: relative L2 of an embedding (worst and median), logits absolute."""

    embedding_worst: float
    embedding_median: float
    logits_worst: float


def exact_model(backbone: str) -> Exact:
    """The model that `glass-rt build --backbone NAME` starts from."""
    from glass_export.half.precision import prepared
    from glass_export.portable import ExportOptions, _split, prepare_export
    from glass_export.reference import reference_values

    export = prepare_export(ExportOptions(backbone=backbone))
    with torch.no_grad():
        reference = reference_values(export.module, export.model.trained_crops)
    embedders, head = _split(export.module)
    graphs = {role: prepared(embedder) for role, embedder in embedders.items()}
    return Exact(export.model, graphs, Head.for_model(export.model, head), reference)


def half_graphs(exact: Exact, precision: str) -> tuple[dict[str, PixelsToEmbedding], dict[str, int]]:
    """The graphs in 16 bits as the project exports them, and how many units of each stay in float32."""
    from glass_export.half.precision import HALF_DTYPES, narrowed
    from glass_export.half.probe_views import seeded_views
    from glass_export.half.range_probe import probe_ranges

    graphs, wide = {}, {}
    for role, graph in exact.graphs.items():
        ranges = probe_ranges(graph, seeded_views(), precision, "seeded views")
        graphs[role] = narrowed(graph, HALF_DTYPES[precision], ranges.widened, ranges.widened_streams)
        wide[role] = len(ranges.widened) + len(ranges.widened_streams)
    return graphs, wide


def local_embedder(backbone: str) -> PixelsToEmbedding:
    """One embedder in FP16 on the card, without the range probe: for times and schedules, not for numbers."""
    from glass_export.backbones import find_backbone
    from glass_export.half.precision import narrowed, prepared
    from glass_export.untrained import fill_untrained

    row = find_backbone(backbone)
    module = row.embedding_only(row.build()).eval()
    fill_untrained(module)
    return narrowed(prepared(module), torch.float16).to(DEVICE)


def embeddings(graph: nn.Module, views: NDArray[Any], batch: int) -> NDArray[np.float32]:
    """(N, D) float32 by runs of `batch` views on the card."""
    with torch.no_grad():
        parts = [graph(torch.from_numpy(views[i : i + batch]).to(DEVICE)) for i in range(0, len(views), batch)]
        return torch.cat(parts).cpu().numpy()


def drift(exact: Exact, graphs: Mapping[str, nn.Module], batch: int) -> Drift:
    """Over the reference views."""
    found = {
        role: embeddings(graph, exact.reference["global_views" if role == "global" else "crops"], batch)
        for role, graph in graphs.items()
    }
    distances = np.concatenate(
        [distances_of(found[role], exact.reference[f"{role}_embeddings"]) for role in exact.model.roles]
    )
    logits = _logits(exact.head, found, exact.reference["offsets"])
    return Drift(
        float(distances.max()), float(np.median(distances)), float(np.abs(logits - exact.reference["logits"]).max())
    )


def distances_of(found: NDArray[Any], expected: NDArray[Any]) -> NDArray[Any]:
    """Relative L2 distance of every row."""
    distances: NDArray[Any] = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    return distances


class FusedAttention(nn.Module):
    """A `FusableAttention` whose scores never leave the chip: torch's flash attention, as a builder fuses."""

    def __init__(self, attention: FusableAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False) -> tuple[Tensor, None]:
        """As `FusableAttention`."""
        inner = self.attention
        queries, keys, values = (
            inner._by_head(projection(tokens))
            for projection, tokens in ((inner.query_proj, query), (inner.key_proj, key), (inner.value_proj, value))
        )
        mixed = nn.functional.scaled_dot_product_attention(queries, keys, values)
        return inner.out_proj(mixed.transpose(1, 2).flatten(2)), None


def with_fused_attention(graph: nn.Module) -> nn.Module:
    """Changes `graph`, and returns it."""
    from glass_export.graphs import FusableAttention

    for name, module in list(graph.named_modules()):
        if isinstance(module, FusableAttention):
            graph.set_submodule(name, FusedAttention(module))
    return graph

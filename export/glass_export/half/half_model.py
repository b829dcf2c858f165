"""A model's backbones in 16 bits: ranges probed, precision set, and the loss measured before anything is traced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glass_export.backbone import Scaling
from glass_export.graphs import PixelsToEmbedding
from glass_export.half.half_sums import summed_in_half
from glass_export.half.precision import HALF_DTYPES, measurable, narrowed, prepared
from glass_export.half.probe_views import seeded_views, views_of_images
from glass_export.half.range_probe import probe_ranges
from glass_rt.backends import TensorSpec
from glass_rt.backends.base import Array
from glass_rt.backends.embedding import INPUT, OUTPUT
from glass_rt.bundle.manifest import Model
from glass_rt.bundle.precision_report import Drift, PrecisionReport
from glass_rt.errors import ExportError, ParityError, first_line
from glass_rt.inference.head import Head
from glass_rt.inference.parity import TOLERANCES, Tolerance, check_parity
from glass_rt.progress import Stage

_ANY = Tolerance(embedding=float("inf"), logits=float("inf"))
_BATCH = 4  # views computed at once: more only cost memory on a CPU


@dataclass(frozen=True, eq=False)
class HalfModel:
    """Graphs by role, ready to be traced, and the report on them."""

    graphs: Mapping[str, PixelsToEmbedding]
    report: PrecisionReport


def half_model(
    embedders: Mapping[str, nn.Module],
    head: Mapping[str, NDArray[np.float32]],
    model: Model,
    reference: Mapping[str, NDArray[np.generic]],
    precision: str,
    calibration: Path | None,
    stage: Stage,
) -> HalfModel:
    """Narrows the embedders to `precision` and checks their parity, computed by PyTorch on the CPU.

    Raises ExportError where the ranges do not allow it, or where narrowing costs more than this precision may.
    """
    with stage(f"probing ranges ({precision})"):
        views, source = _views(calibration, tuple(embedders))
        exact = {role: prepared(embedder, Scaling(model.mean, model.std)) for role, embedder in embedders.items()}
        ranges = {role: probe_ranges(graph, views[role], precision, source) for role, graph in exact.items()}
    graphs = {
        role: narrowed(graph, HALF_DTYPES[precision], ranges[role].widened, ranges[role].widened_streams)
        for role, graph in exact.items()
    }
    with stage(f"parity gate in PyTorch ({precision})"):
        engines = {role: _ModuleBackend(measurable(graph), model.embedding_dim) for role, graph in graphs.items()}
        try:
            parity = check_parity(
                engines, Head.for_model(model, head), model, reference, TOLERANCES[precision], batches=(_BATCH,)
            )  # fmt: skip
        except ParityError as error:
            raise ExportError(
                f"it loses too much in {precision}: {error}. Export it in fp32 or bf16, "
                "or give images of the field with --calibration, so that ranges are seen as they are"
            ) from error
    assert parity.embedding is not None
    assert parity.logits is not None
    half_sums = None
    if precision == "fp16":
        with stage("simulating half sums"):
            half_sums = _drift_of_half_sums(graphs, head, model, reference)
    computed_by = f"PyTorch {torch.__version__} on the CPU, {precision} values, products summed in float32"
    return HalfModel(graphs, PrecisionReport(computed_by, parity.embedding, parity.logits, ranges, half_sums))


def _drift_of_half_sums(
    graphs: Mapping[str, PixelsToEmbedding],
    head: Mapping[str, NDArray[np.float32]],
    model: Model,
    reference: Mapping[str, NDArray[np.generic]],
) -> Drift | None:
    """On the reference image of fewest crops: this takes six times as long as a usual run, and views differ little.

    None where a sum left half's range, or a verdict flipped.
    """
    engines = {role: _ModuleBackend(summed_in_half(graph), model.embedding_dim) for role, graph in graphs.items()}
    try:
        found = check_parity(
            engines, Head.for_model(model, head), model, _image_of_fewest_crops(reference), _ANY, batches=(1,)
        )
    except ParityError:
        return None
    assert found.embedding is not None
    assert found.logits is not None
    return Drift(found.embedding, found.logits)


def _image_of_fewest_crops(reference: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    offsets = reference["offsets"]
    image = int(np.diff(offsets.astype(np.int64)).argmin())
    start, stop = (int(offset) for offset in offsets[image : image + 2])
    one = {name: reference[name][image : image + 1] for name in ("global_views", "global_embeddings", "logits")}
    crops = {name: reference[name][start:stop] for name in ("crops", "local_embeddings") if name in reference}
    return {**one, **crops, "offsets": np.array([0, stop - start])}


def _views(calibration: Path | None, roles: tuple[str, ...]) -> tuple[dict[str, Tensor], str]:
    if calibration is None:
        return dict.fromkeys(roles, seeded_views()), "seeded views"
    wholes, crops, count = views_of_images(calibration)
    return {role: wholes if role == "global" else crops for role in roles}, f"{count} images"


class _ModuleBackend:
    """A module as a Backend, so that the parity check of engines takes it too."""

    def __init__(self, module: nn.Module, dim: int) -> None:
        self._module = module
        self.inputs = (TensorSpec(INPUT, np.dtype(np.float32), (None, None, None, 3)),)
        self.outputs = (TensorSpec(OUTPUT, np.dtype(np.float32), (None, dim)),)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        with torch.no_grad():
            try:
                return {OUTPUT: self._module(torch.from_numpy(feeds[INPUT])).numpy()}
            except (AttributeError, RuntimeError, TypeError, ValueError) as error:  # values of two types, as a rule
                raise ExportError(
                    f"it cannot be computed in 16 bits: {first_line(error)}; export it in fp32"
                ) from error

    def close(self) -> None:
        pass

"""The range probe: would any weight or value of this backbone overflow, or vanish, in 16 bits?

A float16 ends at 65504, and a value past it becomes infinite, then NaN. The probe runs the float32 backbone over real
images, or seeded views where there are none, and names the units that must stay float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from glass_export.graphs import PixelsToEmbedding
from glass_export.half.precision import HALF_DTYPES, ISLANDS, STREAMED, lone_parameters, units
from glass_rt.bundle.precision_report import RangeReport
from glass_rt.errors import ExportError

HEADROOM = 4  # images of the field go past those of the probe: a value may reach a quarter of the type's largest
ROUNDING = 1e-3  # relative L2 change of a tensor by rounding; half's own is under 4.9e-4, more means lost subnormals
_BATCH = 4


@dataclass
class _Peak:
    """The largest magnitude so far, and its layer."""

    value: float = 0.0
    where: str = ""

    def see(self, value: float, where: str) -> None:
        if not value <= self.value:  # NaN counts as largest
            self.value, self.where = value, where


@dataclass
class _Unit:
    """The peaks of one unit: inside its matrices, and on the stream that passes beside them."""

    inside: _Peak = field(default_factory=_Peak)
    stream: _Peak = field(default_factory=_Peak)


def probe_ranges(graph: PixelsToEmbedding, views: Tensor, precision: str, source: str) -> RangeReport:
    """Looks at every weight, and at every layer's input and output over `views` (N, S, S, 3), 0..255.

    `source` names the origin of the views. Raises ExportError where float32 itself is not finite, or where more than
    half of the units would have to stay float32: such an engine would be FP16 in name only.
    """
    limit = torch.finfo(HALF_DTYPES[precision]).max / HEADROOM
    backbone = graph.backbone
    placed = list(units(backbone))
    seen = {name: _Unit() for name, _ in placed}
    weights, wide, streams = _Peak(), dict[str, float](), list[str]()
    for name, tensor in _weights(backbone, placed):
        unit, _, leaf = name.partition(":")
        weights.see(_largest(tensor), leaf or unit)
        if _largest(tensor) > limit or _rounding(tensor, HALF_DTYPES[precision]) > ROUNDING:
            wide[unit] = max(wide.get(unit, 0.0), _largest(tensor))
    with torch.no_grad(), _watched(placed, seen):
        for batch in torch.split(views, _BATCH):
            graph(batch)
    activations = _Peak()
    for name, unit_seen in seen.items():
        for peak in (unit_seen.inside, unit_seen.stream):
            activations.see(peak.value, peak.where)
        if unit_seen.inside.value > limit:
            wide[name] = max(wide.get(name, 0.0), unit_seen.inside.value)
        elif unit_seen.stream.value > limit and name not in wide:
            streams.append(name)
    _refuse(activations, weights, wide, len(placed), precision, limit)
    return RangeReport(
        views=len(views), source=source, limit=limit, largest_weight=weights.value, largest_weight_at=weights.where,
        largest_activation=activations.value, largest_activation_at=activations.where, widened=tuple(wide),
        widened_streams=tuple(streams), units=len(placed),
    )  # fmt: skip


def _refuse(
    activations: _Peak, weights: _Peak, wide: dict[str, float], count: int, precision: str, limit: float
) -> None:
    for peak, what in ((weights, "weight"), (activations, "value")):
        if not peak.value < float("inf"):
            raise ExportError(f"{peak.where}: a {what} is {peak.value} in float32 already; this model is broken")
    if 2 * len(wide) > count:
        worst = max(wide, key=lambda name: wide[name])
        raise ExportError(
            f"{len(wide)} of {count} units hold values that {precision} cannot (over {limit:.0f}, or lost to rounding; "
            f"largest {wide[worst]:.3g} at {worst}): export this model in fp32, or in bf16, which has float32's range"
        )


def _weights(backbone: nn.Module, placed: list[tuple[str, nn.Module]]) -> Iterator[tuple[str, Tensor]]:
    """Tensors that would be rounded, named `unit:tensor`, or by their own name where they belong to no unit."""
    for name, module in placed:
        for path, layer in module.named_modules():
            if not isinstance(layer, ISLANDS):
                for leaf, parameter in layer.named_parameters(recurse=False):
                    yield f"{name}:{'.'.join(part for part in (name, path, leaf) if part)}", parameter.detach()
    yield from ((name, parameter.detach()) for name, parameter in lone_parameters(backbone, placed))


@contextmanager
def _watched(placed: list[tuple[str, nn.Module]], seen: dict[str, _Unit]) -> Iterator[None]:
    """Records what flows through every layer of every unit while the block runs."""
    handles = []
    for unit, module in placed:
        for path, layer in module.named_modules():
            if path and any(True for _ in layer.children()):
                continue
            name = f"{unit}.{path}" if path else unit
            before, after = _places(module, layer, bool(path), seen[unit])
            handles.append(layer.register_forward_pre_hook(_recorder(before, name)))
            handles.append(layer.register_forward_hook(_recorder(after, name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _places(module: nn.Module, layer: nn.Module, inner: bool, unit: _Unit) -> tuple[_Peak | None, _Peak | None]:
    """The peaks that record a layer's input and output; None where it is float32 in any case."""
    if not inner and isinstance(module, ISLANDS):
        return None, None
    if isinstance(module, STREAMED):
        normalises = isinstance(layer, nn.LayerNorm)
        return (unit.stream if normalises or not inner else unit.inside, unit.stream if not inner else unit.inside)
    return unit.inside, unit.inside


def _recorder(peak: _Peak | None, name: str):  # type: ignore[no-untyped-def]  # torch's hooks come in two shapes
    def record(_layer: nn.Module, inputs: tuple[object, ...], output: object = None) -> None:
        value = (inputs or (None,))[0] if output is None else output
        if isinstance(value, tuple):  # attention gives its values and no weights
            value = value[0]
        if peak is not None and isinstance(value, Tensor):
            peak.see(_largest(value), name)

    return record


def _largest(tensor: Tensor) -> float:
    low, high = tensor.aminmax()  # one pass and no copy; NaN comes through
    return float(torch.maximum(-low, high))


def _rounding(tensor: Tensor, dtype: torch.dtype) -> float:
    """Relative L2 change of a tensor by rounding to `dtype`, compared with what normal numbers lose (bf16: 8 x)."""
    norm = tensor.norm()
    scale = torch.finfo(dtype).eps / torch.finfo(torch.float16).eps
    return float((tensor.to(dtype).to(torch.float32) - tensor).norm() / norm) / scale if norm > 0 else 0.0

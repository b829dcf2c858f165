"""Which kernels a card runs for an engine, and whether those of half products sum in float32 or in half.

The names are NVIDIA's, and undocumented. Its own kernels name the types of operands, product, sum and result
(`gemm_f16f16_f16f32_f32`); those made of CUTLASS begin the shape of the instruction with `s` for sums in single
precision and with `h` for sums in half (`s16816`, `h16816`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, Protocol, runtime_checkable

_IN_HALF = re.compile(r"f16f16_f16f16|(?<![a-z0-9])h(16816|1688|884)")
_IN_FLOAT32 = re.compile(r"f16f16_f16f32|(?<![a-z0-9])s(16816|1688|884)")
_MOST = 60  # names that are kept


@runtime_checkable
class TellsLayers(Protocol):
    """An engine of a library that tells what it consists of."""

    def layers(self) -> str:
        """The vendor's JSON."""


def kernels_of(layers: str) -> dict[str, Any]:
    """Kernels by name with their number, and how many of those of half products sum in half, and in float32."""
    names = Counter(_names(layers))
    return {
        "sum in half": sum(count for name, count in names.items() if _IN_HALF.search(name)),
        "sum in float32": sum(count for name, count in names.items() if _IN_FLOAT32.search(name)),
        "names": dict(names.most_common(_MOST)),
    }


def _names(layers: str) -> list[str]:
    try:
        told = json.loads(layers)["Layers"]
    except (ValueError, KeyError, TypeError):  # another version's: its text says as much as it can
        return re.findall(r"\w*(?:gemm|fprop|mha)\w*", layers)
    return [
        str(layer.get("TacticName") or layer.get("Name")) if isinstance(layer, dict) else str(layer) for layer in told
    ]

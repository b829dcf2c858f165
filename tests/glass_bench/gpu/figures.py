"""Right figures for every step of the kit: those that an H100 gave, and for engines, which have run on none, made ones."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

from glass_bench.gpu.checks import Check, figures_at
from glass_bench.gpu.status import RESULTS
from glass_bench.gpu.steps import STEPS, Step, steps_of_engines

ENGINES = steps_of_engines("tensorrt", ("vit_b16",), "gpu-check", 10)
_TIME = {"median": 1.5, "least": 1.4, "most": 1.9}
_PARITY = {
    "status": "passed", "embedding": 1e-3, "embedding_tolerance": 2e-3, "logits": 3e-3, "logits_tolerance": 1e-2,
}  # fmt: skip
_OF_ENGINES: dict[str, Any] = {
    "build": {"parity": _PARITY, "tools": {}},
    "parity": _PARITY,
    "ragged packs": {"worst relative distance by pack": {"1": 0.0, "65": 1e-3}},
    "ragged verdicts": {"largest difference": 1e-3, "allowed": 5e-3},
    "views on the GPU": {"largest difference": 1e-3, "allowed": 5e-3},
    "latency": {"by crops": {"1": {"image_ms": _TIME, "local_ms": _TIME}}, "crops per second, full packs": 4000.0},
    "parts": {"by crops": {"1": {"global": {"stage": 0.1, "compute": 1.0}, "pool": _TIME}}},
    "soak": {"runs": 10, "bytes not given back": 0},
}


def right_figures(step: Step) -> dict[str, Any]:
    """As the step leaves them in its file."""
    if step in ENGINES:
        what = step.arguments[0]
        return {what: {"seconds": 1.0, "found": copy.deepcopy(_OF_ENGINES[what])}}
    report = json.loads((RESULTS / "gpu_hour" / "report.json").read_text())
    figures: dict[str, Any] = next(row["figures"] for row in report["steps"] if row["name"] == step.name)
    if step is STEPS[-1]:  # a later addition to it
        figures["same verdicts"] = {"found": {"largest difference of P(fake)": 1e-5}}
    return figures


def with_wrong(figures: Mapping[str, Any], check: Check) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every figure of the check made wrong in turn, with its name."""
    for place, _ in figures_at(figures, check.path):
        changed = copy.deepcopy(dict(figures))
        part = changed[place[0]]
        holder, key = (part, "found") if len(place) == 1 else (part["found"], place[-1])
        for name in place[1:-1]:
            holder = holder[name]
        holder[key] = check.rule.wrong
        yield " > ".join(place), changed

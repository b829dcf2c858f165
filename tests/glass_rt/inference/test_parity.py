"""What the parity gate allows, and what it refuses, over engines that are a little wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from glass_rt.backends.base import Array, TensorSpec
from glass_rt.backends.embedding import INPUT, OUTPUT
from glass_rt.bundle.manifest import Model, Weights
from glass_rt.bundle.precision_report import Drift, PrecisionReport
from glass_rt.errors import ParityError
from glass_rt.inference.head import Head, head_shapes
from glass_rt.inference.parity import TOLERANCES, check_parity, tolerance_of

DIM = 64


def report_of(half_sums: float | None) -> PrecisionReport:
    return PrecisionReport("PyTorch", 1e-3, 1e-3, {}, None if half_sums is None else Drift(half_sums, 5e-3))


@pytest.mark.parametrize(
    ("precision", "half_sums", "embedding"),
    [
        ("fp16", None, 2e-3),
        ("fp16", 6e-4, 2e-3),  # half sums that the usual tolerance covers
        ("fp16", 3.4e-3, 5.1e-3),  # ViT-B/16
        ("fp16", 0.5, 1.6e-2),  # no engine may drift as far
        ("fp16", 1e300, 1.6e-2),
        ("bf16", 3.4e-3, 1.6e-2),
        ("fp32", 3.4e-3, 1e-5),
        ("int8", 3.4e-3, 0.4),
    ],
)
def test_the_bound_of_fp16_follows_from_what_half_sums_cost(
    precision: str, half_sums: float | None, embedding: float
) -> None:
    found = tolerance_of(precision, report_of(half_sums))
    assert found.embedding == pytest.approx(embedding)
    assert found.logits == TOLERANCES[precision].logits, "verdicts decide as before"
    assert tolerance_of(precision, None) == TOLERANCES[precision]


class Off:
    """An engine whose embeddings are those of the reference, and a relative distance away from them."""

    inputs = (TensorSpec(INPUT, np.dtype(np.float32), (None, 1)),)
    outputs = (TensorSpec(OUTPUT, np.dtype(np.float32), (None, DIM)),)

    def __init__(self, exact: Array, off: float) -> None:
        self._exact, self._off = exact, off

    def run(self, feeds: Any) -> dict[str, Array]:
        rows = self._exact[feeds[INPUT].astype(int)[:, 0]]
        away = np.roll(rows, DIM // 2, axis=1) * np.where(np.arange(DIM) < DIM // 2, 1, -1)  # at a right angle
        return {OUTPUT: (rows + self._off * away).astype(np.float32)}

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("off", "half_sums", "gain", "refusal"),
    [
        (1e-3, None, 0.01, None),
        (3e-3, None, 0.01, "embeddings differ .* more than the 2.0e-03"),
        (3e-3, 2.5e-3, 0.01, None),  # the sums of that library were foreseen
        (5e-3, 3e-3, 0.01, "embeddings differ .* more than the 4.5e-03"),
        (3e-3, 2.5e-3, 30.0, "logits differ .* more than the 1e-02"),  # and verdicts decide
    ],
)
def test_an_engine_that_sums_in_half_passes_where_its_verdicts_stay(
    off: float, half_sums: float | None, gain: float, refusal: str | None
) -> None:
    generator = np.random.default_rng(0)
    exact = generator.normal(size=(5, DIM)).astype(np.float32)
    shapes = head_shapes("resize", DIM)
    parameters = {name: generator.normal(0, gain, shape).astype(np.float32) for name, shape in shapes.items()}
    weights = Weights("none", "0" * 64, trained=False)
    model = Model("tiny", "resize", "resnet18", DIM, ("fake", "real"), 1, 0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), weights)
    head = Head.for_model(model, parameters)
    reference: dict[str, Array] = {
        "global_views": np.arange(5, dtype=np.float32)[:, None], "global_embeddings": exact,
        "offsets": np.zeros(6, np.int64), "logits": np.stack([head.judge(row, row[None]).logits for row in exact]),
    }  # fmt: skip
    engines = {"global": Off(exact, off)}
    allowed = tolerance_of("fp16", report_of(half_sums))
    if refusal is None:
        parity = check_parity(engines, head, model, reference, allowed, 4)
        assert parity.embedding == pytest.approx(off, rel=0.01)
    else:
        with pytest.raises(ParityError, match=refusal):
            check_parity(engines, head, model, reference, allowed, 4)

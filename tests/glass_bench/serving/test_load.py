"""The load on a server: what is counted, and a small one against a server that judges nothing."""

import json
from pathlib import Path

import pytest
from glass_bench.serving.figures import ResponseChecker, figures_of, no_op_check
from glass_bench.serving.load import LOST, Exchange, LoadPlan, run_load
from glass_bench.serving.no_op import NoOpDetector

from tests.serving import serving
from tests.support import Bundles

VERDICT = {"label": "fake", "logits": [1.0, 2.0], "path": "a.jpg", "timings_ms": {"total": 3.0}}


def exchange(status: int, took_s: float, body: object, image: int = 0) -> Exchange:
    return Exchange(image, 0.0, took_s, status, json.dumps(body))


def test_figures_count_the_accepted_the_refused_the_wrong_and_the_lost() -> None:
    exchanges = [
        exchange(200, 0.010, {**VERDICT, "path": None, "timings_ms": {}}),
        exchange(200, 0.030, {**VERDICT, "logits": [1.0, 2.000001]}),
        exchange(200, 0.020, {**VERDICT, "logits": [1.0, 2.1]}),  # wrong
        exchange(200, 0.020, {**VERDICT, "label": "real"}),  # wrong
        exchange(429, 0.001, {}),
        exchange(500, 0.001, {}),  # wrong
        exchange(LOST, 9.0, ""),
    ]
    figures = figures_of(exchanges, 2.0, ResponseChecker([VERDICT]))
    assert (figures.requests, figures.accepted, figures.refused, figures.wrong, figures.lost) == (7, 4, 1, 3, 1)
    assert figures.per_second == pytest.approx(2.0)
    assert figures.p50_ms == pytest.approx(20.0)
    assert figures.max_ms == pytest.approx(30.0)
    assert figures.statuses == {"0": 1, "200": 4, "429": 1, "500": 1}


def test_answers_after_the_end_count_at_the_time_they_took() -> None:
    late = Exchange(0, 1.5, 2.5, 200, json.dumps(VERDICT))
    assert figures_of([late, late], 2.0, ResponseChecker([VERDICT])).per_second == pytest.approx(0.5)


@pytest.mark.parametrize("how", [{"clients": 3}, {"rate": 200.0}])
def test_every_answer_of_a_load_is_the_one_to_its_body(bundles: Bundles, tmp_path: Path, how: dict[str, float]) -> None:
    bodies = [tmp_path / f"{number}.bin" for number in range(4)]
    for number, path in enumerate(bodies):
        path.write_bytes(bytes([number]) * (1000 + number))
    engine = bundles("mobilenet_v3_small").folder
    with serving(lambda: NoOpDetector.open(engine)) as here:
        exchanges = run_load(LoadPlan("127.0.0.1", here.port, tuple(map(str, bodies)), 0.5, **how))  # type: ignore[arg-type]
        figures = figures_of(exchanges, 0.5, no_op_check(bodies))
        assert figures.requests == figures.accepted > 20
        assert figures.wrong == 0
        swapped = figures_of(exchanges, 0.5, no_op_check(bodies[::-1]))
        assert swapped.wrong == swapped.accepted, "the check can fail"


def test_a_server_that_is_not_there_loses_every_request(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"x")
    exchanges = run_load(LoadPlan("127.0.0.1", 1, (str(body),), 0.1, rate=200.0))
    assert exchanges
    assert {exchange.status for exchange in exchanges} == {LOST}

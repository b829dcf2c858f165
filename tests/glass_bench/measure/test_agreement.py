"""An engine that says something else than the PyTorch pipeline of its weights is wrong, by name."""

from dataclasses import replace
from typing import Any

import pytest
from glass_bench.measure.agreement import disagreement
from glass_bench.measure.contenders import Contender
from glass_bench.measure.participants import Participant
from glass_bench.measure.session import ContenderSession
from glass_bench.measure.systems import Description


class Opened:
    """A process of which only the description is asked."""

    def __init__(self, description: Description) -> None:
        self.description = description


def session(
    name: str, description: Description, kind: str = "engine", precision: str = "fp32", **changes: Any
) -> ContenderSession:
    contender = Contender(name, kind, "bundle", precision=precision)  # type: ignore[arg-type]
    return ContenderSession(Participant(contender, "engine"), Opened(replace(description, **changes)))  # type: ignore[arg-type]


def test_the_pytorch_pipeline_is_the_reference(description: Description) -> None:
    engine, torch = session("ours", description), session("torch", description, "pytorch", backend="pytorch")
    said = {"ours": [0.30, 0.71], "torch": [0.30, 0.70]}
    found = disagreement(engine, [torch], said)
    assert found is not None
    assert found.startswith("ours: probabilities differ by up to 0.010 from those of torch")
    assert disagreement(engine, [torch], {"ours": [0.3005, 0.7], "torch": [0.3, 0.7]}) is None
    assert disagreement(torch, [engine], said) is None  # an fp32 engine judges no PyTorch pipeline


@pytest.mark.parametrize("changes", [{"weights_sha256": "others"}, {"crops": 5}])
def test_contenders_of_other_work_are_not_compared(changes: dict[str, Any], description: Description) -> None:
    engine, torch = session("ours", description), session("torch", description, "pytorch", **changes)
    assert disagreement(engine, [torch], {"ours": [0.1], "torch": [0.9]}) is None


def test_a_lower_precision_is_compared_with_an_fp32_engine_and_may_differ_more(description: Description) -> None:
    fast, exact = session("fast", description, precision="fp16"), session("exact", description)
    fast.process.description = replace(description, precision="fp16")  # type: ignore[union-attr]
    assert disagreement(fast, [exact], {"fast": [0.51], "exact": [0.5]}) is None
    assert disagreement(fast, [exact], {"fast": [0.55], "exact": [0.5]}) is not None


def test_engines_that_do_nothing_are_not_asked(description: Description) -> None:
    noop, torch = session("noop", description, "no-op"), session("torch", description, "pytorch")
    assert disagreement(noop, [torch], {"noop": [0.5], "torch": [0.9]}) is None

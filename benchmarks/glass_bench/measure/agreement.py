"""Do contenders that run the same model on the same windows say the same?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from glass_bench.measure.session import Stand

# Largest difference of a probability that a precision explains, from views to head; a wrong engine is far beyond it.
TOLERANCES = {"fp32": 2e-3, "fp16": 2e-2, "bf16": 5e-2, "int8": 0.1}


def disagreement(stand: Stand, others: Sequence[Stand], probabilities: Mapping[str, Sequence[float]]) -> str | None:
    """What is wrong with the answers of `stand`, by its name, or None.

    The reference is the fp32 PyTorch pipeline of the same weights, crops and sampling, else an fp32 engine of them
    for an engine of another precision. Without a reference nothing is wrong.
    """
    reference = next((other for other in others if _is_reference(stand, other)), None)
    if reference is None or stand.name not in probabilities:
        return None
    pairs = zip(probabilities[stand.name], probabilities[reference.name], strict=False)
    worst = max((abs(ours - theirs) for ours, theirs in pairs), default=0.0)
    allowed = TOLERANCES[stand.place.contender.precision if stand.place.contender.kind == "pytorch" else _built(stand)]
    if worst <= allowed:
        return None
    return (
        f"{stand.name}: probabilities differ by up to {worst:.3f} from those of {reference.name}, "
        f"which has the same weights and windows; {allowed:g} is allowed"
    )


def _is_reference(stand: Stand, other: Stand) -> bool:
    if stand.place.contender.kind == "no-op" or stand.process is None or other.process is None:
        return False
    ours, theirs = stand.process.description, other.process.description
    same = (ours.weights_sha256, ours.crops, stand.place.contender.sampling) == (
        theirs.weights_sha256,
        theirs.crops,
        other.place.contender.sampling,
    )
    if not same or other.place.contender.kind == "no-op":
        return False
    if other.place.contender.kind == "pytorch":
        return other.place.contender.precision == "fp32"
    return _built(other) == "fp32" and _built(stand) != "fp32"


def _built(stand: Stand) -> str:
    assert stand.process is not None, "asked of open contenders"
    return stand.process.description.precision

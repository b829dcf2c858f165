"""Whether contenders that run the same model on the same windows give the same probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from glass_bench.measure.session import ContenderSession

# Largest difference of a probability that a precision explains, from views to head; a wrong engine is far beyond it.
TOLERANCES = {"fp32": 2e-3, "fp16": 2e-2, "bf16": 5e-2, "int8": 0.1}


def disagreement(
    session: ContenderSession, others: Sequence[ContenderSession], probabilities: Mapping[str, Sequence[float]]
) -> str | None:
    """What is wrong with the probabilities of `session`, beginning with its name, or None.

    The reference is the fp32 PyTorch pipeline of the same weights, crops and sampling, else an fp32 engine of them
    for an engine of another precision. Without a reference nothing is wrong.
    """
    reference = next((other for other in others if _is_reference(session, other)), None)
    if reference is None or session.name not in probabilities:
        return None
    pairs = zip(probabilities[session.name], probabilities[reference.name], strict=False)
    worst = max((abs(ours - theirs) for ours, theirs in pairs), default=0.0)
    allowed = TOLERANCES[session.contender.precision if session.contender.kind == "pytorch" else _built(session)]
    if worst <= allowed:
        return None
    return (
        f"{session.name}: probabilities differ by up to {worst:.3f} from those of {reference.name}, "
        f"which has the same weights and windows; {allowed:g} is allowed"
    )


def _is_reference(session: ContenderSession, other: ContenderSession) -> bool:
    if session.contender.kind == "no-op" or session.process is None or other.process is None:
        return False
    ours, theirs = session.process.description, other.process.description
    same = (ours.weights_sha256, ours.crops, session.contender.sampling) == (
        theirs.weights_sha256,
        theirs.crops,
        other.contender.sampling,
    )
    if not same or other.contender.kind == "no-op":
        return False
    if other.contender.kind == "pytorch":
        return other.contender.precision == "fp32"
    return _built(other) == "fp32" and _built(session) != "fp32"


def _built(session: ContenderSession) -> str:
    assert session.process is not None, "asked of open contenders"
    return session.process.description.precision

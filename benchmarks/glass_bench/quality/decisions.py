"""What an engine's labels are worth: how many images it decides, how often that is wrong, and for whom it is worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glass_calibrate.answers import Answer, Answers, GroupTable, count_answers, group_tables
from glass_calibrate.samples import check_column, column_of

from glass_rt.labelled.labels import LabelledImage
from glass_rt.results.verdict import Failure, Verdict


@dataclass(frozen=True)
class DecisionResult:
    """How the labels of one engine come out. `basis` and `id`: as in verdicts.

    `unsure`: images that got neither label. `tables`: both errors by tier, and by each column, the worst first.
    """

    basis: str
    id: str | None
    answers: Answers
    unsure: int
    tables: tuple[GroupTable, ...]


def decision_result(
    images: Sequence[LabelledImage], results: Sequence[Verdict | Failure], columns: Sequence[str]
) -> DecisionResult:
    """The result of at least one verdict; failures count in no figure."""
    judged = [(image, one) for image, one in zip(images, results, strict=True) if isinstance(one, Verdict)]
    answers = [Answer(image.fake, verdict.label) for image, verdict in judged]
    tables = list(group_tables("tier", [verdict.decision.tier for _, verdict in judged], answers, single=True))
    for column in columns:
        tables += group_tables(column, [column_of(image, column) for image, _ in judged], answers)
    decision = judged[0][1].decision
    unsure = sum(answer.label not in ("fake", "real") for answer in answers)
    return DecisionResult(decision.basis, decision.id, count_answers(answers), unsure, tuple(tables))


def columns_of(images: Sequence[LabelledImage], by: Sequence[str]) -> tuple[str, ...]:
    """The columns of `by`, or the source where none was named and one is known. Raises UsageError for unknown ones."""
    for column in by:
        check_column(images, column)
    return tuple(by) or (("source",) if any(image.source for image in images) else ())

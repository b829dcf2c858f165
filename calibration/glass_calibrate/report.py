"""A calibration as Markdown: what it promises, what it counted, and for whom it is worst."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from glass_calibrate.answers import GroupTable
from glass_calibrate.fitting import TierFinding
from glass_calibrate.intervals import Rate
from glass_calibrate.record import Record
from glass_calibrate.scoring import Figure, Scoring
from glass_calibrate.thresholds import percent
from glass_rt.results.decision_text import at_least, at_most, score_text
from glass_rt.results.file_names import text_from_name

REPORT = "calibration.md"
_MOST_ROWS, _MOST_NAMED = 30, 20
_ERRORS = {"fpr": "real images labelled fake", "fnr": "fakes labelled real"}


def calibration_markdown(record: Record, plots: Sequence[str] = ()) -> str:
    """The whole report."""
    parts = [
        [f"# Calibration of `{record.bundle}`", "", *promise(record)],
        [f"- **{text_from_name(line)}**" for line in record.warnings],
        ["## Tiers", "", *tier_table(record), "", *_tier_rules(record)],
        ["## The images", "", *_counts(record)],
        *([*_group_table(table)] for table in record.finding.groups),
        _mixture(record),
        _probabilities(record),
        [f"![{name.removesuffix('.png')}]({name})" for name in plots],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def promise(record: Record) -> list[str]:
    """What is promised, in full sentences, and what is not."""
    targets = record.settings.targets
    joint = " jointly over all tiers" if targets.joint else " in each tier"
    confidence, fpr = percent(at_least(targets.confidence)), percent(at_most(targets.fpr))
    lines = [
        f"With {confidence} confidence{joint}, at most {fpr} of all real images are labelled `fake`, of images like "
        "these."
    ]
    if targets.fnr is not None:
        lines.append(
            f"With the same confidence, at most {percent(at_most(targets.fnr))} of all fakes are labelled `real`."
        )
    else:
        lines.append("No image is labelled `real`: --fnr asks for that.")
    lines.append(
        "Everything else is `unsure`. This says nothing of how often a `fake` is right: that depends on how many fakes "
        "there are."
    )
    state = "in the bundle" if record.installed else "not in the bundle"
    return [*lines, "", f"Decision `{record.finding.calibration.id}`, {state}."]


def tier_table(record: Record) -> list[str]:
    """The tiers with their thresholds and how their images come out."""
    rows = [_tier_row(found) for found in record.finding.tiers]
    header = ["tier", "real", "fake", "`fake` above", "`real` below", "real above", "fakes below", "decided"]
    return table(header, rows)


def _tier_row(found: TierFinding) -> list[str]:
    thresholds, guarantee = found.tier.thresholds, found.tier.guarantee
    above = None if thresholds is None else thresholds.fake_above
    below = None if thresholds is None else thresholds.real_below
    return [
        found.tier.name,
        str(found.real),
        str(found.fake),
        "never" if above is None else score_text(above),
        "never" if below is None else score_text(below),
        "-" if guarantee is None or guarantee.above is None else str(guarantee.above),
        "-" if guarantee is None or guarantee.below is None else str(guarantee.below),
        _rate(found.answers.decided),
    ]


def _tier_rules(record: Record) -> Iterator[str]:
    yield "The first tier that takes an image counts:"
    yield ""
    for number, found in enumerate(record.finding.tiers, start=1):
        yield f"{number}. {found.tier.name}: {found.tier.rule.in_words()}"


def _counts(record: Record) -> Iterator[str]:
    counts, answers = record.counts, record.finding.answers
    split = f" of the split `{record.settings.split}`" if record.settings.split else ""
    yield (
        f"{counts.labelled} labelled images{split}; {len(counts.unjudged)} could not be judged, "
        f"{len(counts.duplicates)} are copies of others, {counts.same_source} share a source with one that counts. "
        f"{counts.counted} count."
    )
    yield ""
    yield (
        f"Of these, {_rate(answers.decided)} are decided, and {_rate(answers.wrong)} of the decided are wrong. They "
        "chose the thresholds: `glass-rt eval` on other images shows what the decision is worth."
    )
    yield ""
    yield f"Conditions: {record.finding.calibration.conditions.in_words()}. AUC {record.finding.auc:.4f}."
    for guess in record.guesses:
        yield (f"Guessing by {guess.by} alone is right for {guess.accuracy:.0%}; by chance {guess.base_rate:.0%}.")
    if counts.unjudged:
        yield ""
        yield "Not judged:"
        yield ""
        names = list(counts.unjudged.items())
        yield from (f"- {text_from_name(name)}: {text_from_name(reason)}" for name, reason in names[:_MOST_NAMED])
        if len(names) > _MOST_NAMED:
            yield f"- and {len(names) - _MOST_NAMED} more, in calibration.json"


def _group_table(found: GroupTable) -> Iterator[str]:
    yield f"## {_ERRORS[found.error].capitalize()}, by {text_from_name(found.by)}"
    yield ""
    rows = [[text_from_name(row.group), str(row.rate.images), _rate(row.rate)] for row in found.rows[:_MOST_ROWS]]
    yield from table([found.by, "images", "rate"], rows)
    if len(found.rows) > _MOST_ROWS:
        yield ""
        yield f"And {len(found.rows) - _MOST_ROWS} more groups with lower rates, in calibration.json."


def _mixture(record: Record) -> list[str]:
    if not record.finding.groups:
        return []
    return [
        "The intervals of a table hold together with 95 % confidence (Bonferroni's correction); images of one group "
        "count as independent. The promise above is about the mixture of these groups, and none for the worst of them."
    ]


def _probabilities(record: Record) -> list[str]:
    found = record.finding.probabilities
    curve = record.finding.calibration.probability
    if found is None or curve is None:
        return ["## Probability", "", "Too few images for a calibrated probability."]
    rows = [[name, *_scoring(scoring)] for name, scoring in (("raw", found.raw), ("calibrated", found.calibrated))]
    return [
        "## Probability",
        "",
        f"A {curve.kind} curve, for a share of {curve.prior:g} fakes. The calibrated figures are out of fold. In "
        "brackets: 95 % bootstrap intervals.",
        "",
        *table(["", "Brier score", "Cllr, bits", "ECE"], rows),
    ]


def _scoring(scoring: Scoring) -> list[str]:
    ece = "too few images" if scoring.ece is None else f"{scoring.ece:.4f}"
    return [_figure(scoring.brier), _figure(scoring.cllr), ece]


def _figure(figure: Figure) -> str:
    return f"{figure.value:.4f} ({figure.low:.4f} to {figure.high:.4f})"


def _rate(rate: Rate) -> str:
    if rate.value is None:
        return "-"
    return f"{rate.value:.2%} ({rate.low:.2%} to {rate.high:.2%})"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A Markdown table; the first column is aligned to the left, the others to the right."""
    head = list(header)
    marks = [":--", *["--:"] * (len(head) - 1)]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (head, marks, *rows)]

"""What an audit says to a person, and what of it stands in the run's files and in the card."""

from __future__ import annotations

from typing import Any

from glass_train.audit.shortcut import LIMIT, Audit, Finding

_SEEN = "format, size, bytes per pixel, quantisation tables, subsampling, EXIF, ICC profile, progressive coding"
_ALIGN = (
    "--align cuts both classes to common sizes and codes them alike, while training, without changing a file; "
    "--allow-shortcuts trains all the same, which then stands in the checkpoint and in every card"
)
_STILL = "it gives the label away after --align too; even the classes out, or give --allow-shortcuts"


def refusal(found: Audit, *, aligned: bool = False) -> str:
    """Why a run does not begin, and what can be done; `aligned`: the audit is that of aligned pictures."""
    first, *others = found.telling
    also = f"; so do: {', '.join(finding.fact for finding in others)}" if others else ""
    return (
        f"the label hides in the files: without a look at any pixel, fake and real are told apart with AUC "
        f"{found.auc:.2f} (at least {found.low:.2f}; the limit is {LIMIT:.2f}). What gives it away: "
        f"{shown(first)}{also}. {_STILL if aligned else _ALIGN}"
    )


def passed(found: Audit) -> str:
    """One line on an audit that found nothing above the limit."""
    return (
        f"shortcut audit: {found.images} files, AUC of what they say of themselves {found.auc:.2f} "
        f"(at least {found.low:.2f}; the limit is {LIMIT:.2f})"
    )


def shown(finding: Finding) -> str:
    """A fact, and what it is in either class."""
    return f"{finding.fact} (fake {finding.fake}, real {finding.real})"


def as_json(found: Audit) -> dict[str, Any]:
    """The audit as JSON values."""
    return {
        "saw": _SEEN,
        "images": found.images,
        "auc": round(found.auc, 4),
        "low": round(found.low, 4),
        "limit": LIMIT,
        "passes": found.passes,
        "facts": [
            {"fact": one.fact, "auc": round(one.auc, 4), "low": round(one.low, 4), "fake": one.fake, "real": one.real}
            for one in found.findings
        ],
    }

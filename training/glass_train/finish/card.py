"""The card of a trained model: what it was trained on, what it was seen to do, and what nobody measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from glass_rt.bundle.bundle import Bundle
from glass_rt.decision.calibration import Calibration, Tier
from glass_rt.errors import TrainingError, first_line
from glass_rt.results.decision_text import guarantee_in_words, thresholds_in_words

CARD = "card.json"
_TOLD_APART = "told apart from chance"


def card_beside(bundle: Bundle) -> dict[str, Any] | None:
    """The card that lies beside a bundle's folder, or None; with the decision that the bundle has now.

    Raises TrainingError where it is of other weights.
    """
    path = bundle.folder.resolve().parent / CARD
    if not path.is_file():
        return None
    card = read_card(path, bundle)
    return card if card["model"].get("bundle_sha256") == bundle.sha256 else _as_the_bundle_is(card, bundle)


def read_card(path: Path, bundle: Bundle | None = None) -> dict[str, Any]:
    """The card in a file, as JSON values that can be shown.

    Raises TrainingError for anything else, and for the card of other weights than those of `bundle`.
    """
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        if bundle is not None and card["model"]["weights_sha256"] != bundle.manifest.model.weights.sha256:
            raise TrainingError(f"{path} is the card of other weights than those of {bundle.folder}")
        _shown = card_markdown(card), test_in_words(card)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise TrainingError(f"{path} cannot be read as a card: {first_line(error)}") from None
    assert isinstance(card, dict), "it has been shown"
    return card


def _as_the_bundle_is(card: dict[str, Any], bundle: Bundle) -> dict[str, Any]:
    """The card of a bundle whose decision `glass-rt calibrate` has changed, or that was built anew."""
    return {**card, "model": model_facts(bundle), "calibration": _calibration_in_words(bundle, " after the training")}


def _calibration_in_words(bundle: Bundle, when: str = "") -> str:
    manifest = bundle.manifest
    if not manifest.model.weights.trained:
        return "none: the weights are untrained"
    if manifest.decision is None:
        return f"not calibrated: the threshold of {manifest.threshold:g} promises nothing"
    return f"calibrated{when} (calibration {manifest.decision.id}): {tiers_in_words(manifest.decision)}"


def tiers_in_words(decision: Calibration) -> str:
    """The thresholds of every tier with their guarantee, or why it has none, in one line."""
    by_words: dict[str, list[str]] = {}  # most tiers without images say the same
    for tier in decision.tiers:
        by_words.setdefault(_tier_in_words(tier), []).append(tier.name)
    return "; ".join(f"{', '.join(names)}: {words}" for words, names in by_words.items())


def _tier_in_words(tier: Tier) -> str:
    if tier.thresholds is None or tier.guarantee is None:
        return str(tier.reason)
    return f"{thresholds_in_words(tier.thresholds)}, {guarantee_in_words(tier.guarantee)}"


def card_of_manifest(bundle: Bundle) -> dict[str, Any]:
    """The card of a bundle of which nothing else is known."""
    return {"schema": 1, "kind": "card", "model": model_facts(bundle), "training": None, "data": None,
            "calibration": _calibration_in_words(bundle), "test": None}  # fmt: skip


def model_facts(bundle: Bundle) -> dict[str, Any]:
    """What a bundle's manifest says of its model."""
    model = bundle.manifest.model
    return {
        "name": model.name,
        "architecture": model.architecture,
        "backbone": model.backbone,
        "crops": model.trained_crops,
        "trained": model.weights.trained,
        "weights_sha256": model.weights.sha256,
        "bundle_sha256": bundle.sha256,
        "threshold": bundle.manifest.threshold,
    }


def card_markdown(card: dict[str, Any]) -> str:
    """The card as a page."""
    return (
        "\n".join(
            [*_model_lines(card), *_training_lines(card), *_data_lines(card), *_audit_lines(card), *_test_lines(card)]
        )
        + "\n"
    )


def _model_lines(card: dict[str, Any]) -> Iterator[str]:
    model = card["model"]
    crops = f", {model['crops']} crops" if model["crops"] else ""
    yield f"# {model['name']}"
    yield ""
    yield f"- architecture: {model['architecture']} on {model['backbone']}{crops}"
    yield f"- weights: {'trained' if model['trained'] else 'UNTRAINED'}, SHA-256 {model['weights_sha256']}"
    yield f"- bundle: SHA-256 {model['bundle_sha256']}"
    yield f"- decision: {card['calibration']}"
    yield ""


def _training_lines(card: dict[str, Any]) -> Iterator[str]:
    training = card["training"]
    yield "## Training"
    yield ""
    if training is None:
        yield "No card lies beside the bundle: nothing is known of the training."
        yield ""
        return
    if training["labels_shuffled"]:
        yield "**The labels were shuffled: this is a control, which can have learned nothing.**"
        yield ""
    how = ", backbones frozen" if training["quick"] else ""
    yield f"- began with: {training['began_with']}{how}; delivery: {training['delivery']}"
    yield f"- ended after: {training['ended']} ({training['steps']} steps, {training['seconds']:.0f} s)"
    yield f"- best epoch: {training['best_epoch']}, by the worst tier of validation"
    for tier, scores in training["validation"].items():
        yield f"- validation, {tier}: AUC {_number(scores['auc'])}, accuracy {_number(scores['accuracy'])}"
    if failed := training["unreadable_while_training"]:
        yield f"- {len(failed)} images could not be read while training: {', '.join(sorted(failed)[:5])}"
    yield ""


def _data_lines(card: dict[str, Any]) -> Iterator[str]:
    data = card["data"]
    if data is None:
        return
    yield "## Data"
    yield ""
    yield f"SHA-256 {data['sha256']}"
    yield ""
    yield "| part | fake | real | groups |"
    yield "|---|---|---|---|"
    for part, counts in data["parts"].items():
        yield f"| {part} | {counts['fake']} | {counts['real']} | {counts['groups']} |"
    yield ""
    yield f"Sources: {', '.join(f'{name} ({count})' for name, count in data['sources'].items())}"
    if data["kept_aside"]:
        yield f"Kept out of training: {', '.join(data['kept_aside'])}"
    for note in data["notes"]:
        yield f"- {note}"
    yield ""


def _audit_lines(card: dict[str, Any]) -> Iterator[str]:
    """Whether the label hid in the files, and what was done about it; the test has the question again."""
    audit = card.get("audit")
    if audit is None:
        return
    yield "## Shortcuts"
    yield ""
    yield _audited("the files", audit["containers"])
    if audit["aligned"] is not None:
        what = " and ".join(word for word, done in audit["alignment"].items() if done)
        yield _audited(f"the same pictures aligned while training ({what})", audit["aligned"])
    if audit["allowed"] and not (audit["aligned"] or audit["containers"])["passes"]:
        yield "- **Trained all the same (--allow-shortcuts): what it learned may be no more than the files' make.**"
    yield ""


def _audited(what: str, found: dict[str, Any]) -> str:
    telling = [one for one in found["facts"] if one["low"] > found["limit"]]
    named = "; ".join(f"{one['fact']} (fake {one['fake']}, real {one['real']})" for one in telling)
    also = f"; it is given away by {named}" if named else ""
    return (
        f"- the label told from what {what} say of themselves ({found['images']} were looked at): "
        f"AUC {found['auc']:.2f} (at least {found['low']:.2f}; the limit is {found['limit']:.2f}){also}"
    )


def _test_lines(card: dict[str, Any]) -> Iterator[str]:
    yield "## Test"
    yield ""
    test = card["test"]
    if test is None:
        yield "No test split was judged. Nothing is known of images that were not trained on."
        return
    yield f"{test['images']} images, judged once by this bundle; SHA-256 of the split {test['sha256']}."
    yield f"Intervals: 95 %, resampled by group. Called fake: from {card['model']['threshold']:g} on."
    yield ""
    yield "| images | delivery | fake | real | AUC | fakes called fake | reals called fake |"
    yield "|---|---|---|---|---|---|---|"
    for row in test["rows"]:
        cells = (row["what"], row["tier"], row["fake"], row["real"], _area(row["auc"]),
                 _share(row["called_fake_of_fake"]), _share(row["called_fake_of_real"]))  # fmt: skip
        yield f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""
    yield from _verdict_lines(test["rows"])


def _verdict_lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What it detects and what it does not: the rows whose interval lies above chance, and the others."""
    above = [row for row in rows if _above_chance(row)]
    rest = [row for row in rows if row not in above]
    yield f"- {_TOLD_APART}: {_named(above)}"
    yield f"- not {_TOLD_APART}, or too few images to say: {_named(rest)}"
    yield "- of generators, deliveries and cameras that stand in no row, nothing was measured"


def test_in_words(card: dict[str, Any]) -> str:
    """What the test came to, in one line, such as `AUC 0.951 (0.902 to 0.985) on 40 images, as they are`."""
    test = card["test"]
    if test is None:
        return "no test split was judged: nothing is known of images that were not trained on"
    row = test["rows"][0]
    apart = "" if _above_chance(row) else f"; not {_TOLD_APART}, or too few images to say"
    return f"AUC {_area(row['auc'])} on {test['images']} images as they are{apart}"


def _above_chance(row: dict[str, Any]) -> bool:
    return bool(row["auc"]) and row["auc"]["low"] is not None and row["auc"]["low"] > 0.5


def _named(rows: Sequence[dict[str, Any]]) -> str:
    return "; ".join(f"{row['what']} ({row['tier']})" for row in rows) or "none"


def _area(area: dict[str, float | None] | None) -> str:
    if area is None:
        return "-"
    if area["low"] is None:
        return _number(area["value"])
    return f"{_number(area['value'])} ({_number(area['low'])} to {_number(area['high'])})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"

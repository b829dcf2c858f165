"""`glass-rt inspect`: what a bundle is."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.manifest import BundleManifest, to_json
from glass_rt.bundle.precision_report import PrecisionReport
from glass_rt.bundle.requirements import Shapes
from glass_rt.cli.chosen_bundle import chosen_bundle, named_once
from glass_rt.cli.options import device_option, engine_option, json_option
from glass_rt.decision.calibration import Tier
from glass_rt.inference.engines import device_of
from glass_rt.inference.pending_parity import known_parity
from glass_rt.results.decision_text import guarantee_in_words, thresholds_in_words
from glass_rt.results.file_names import text_from_name
from glass_rt.results.verdict import UNTRAINED_BUNDLE


@click.command(short_help="Show what a bundle is.")
@click.argument("bundle", type=click.Path(path_type=Path), required=False, metavar="[DIR]")
@engine_option
@device_option
@json_option
def inspect(bundle: Path | None, engine: Path | None, device: str | None, as_json: bool) -> int:
    """Show what a bundle is: model, weights, engine, parity, files.

    DIR, or --engine DIR, defaults to the bundle that infer would use. The files that inference reads are checked,
    nothing is run. With --device, the parity is what is known of it there.
    """
    opened = Bundle.open(chosen_bundle(named_once(bundle, engine)))
    where = device and device_of(opened.manifest, device)
    if as_json:
        there = {"parity": asdict(known_parity(opened, where))}
        click.echo(json.dumps({**to_json(opened.manifest), **there, **hashes_of(opened)}, indent=2))
        return 0
    for name, value in _rows(opened, where):
        click.echo(f"{name:<14}{text_from_name(value)}")  # a manifest's texts must not command the terminal
    return 0


def hashes_of(bundle: Bundle) -> dict[str, str]:
    """The hash that pins the bundle, and the one of its content, which calibrating leaves as it is."""
    return {"bundle_sha256": bundle.sha256, "content_sha256": bundle.content_sha256}


def _rows(bundle: Bundle, device: str | None) -> list[tuple[str, str]]:
    manifest = bundle.manifest
    model, engine, parity = manifest.model, manifest.engine, known_parity(bundle, device)
    crops = f", {model.trained_crops} crops of {model.crop_size} px" if model.trained_crops else ""
    rows = [
        ("bundle", f"{bundle.folder}"),
        ("sha256", f"{bundle.sha256}   (pin it with --expect-bundle)"),
        ("model", f"{model.name}: {model.architecture} on {model.backbone}, D = {model.embedding_dim}{crops}"),
        ("classes", f"{', '.join(model.classes)} (order of the logits)"),
        ("weights", f"{model.weights.source}, sha256 {model.weights.sha256[:16]}..."),
        ("engine", f"{engine.backend} {engine.precision} for {engine.device}, batches up to {engine.max_batch}"),
        *_decision(manifest),
        ("parity", (f"on {device}: " if device else "") + _parity(parity.status, parity.embedding, parity.logits)),
        ("built with", ", ".join(f"{name} {version}" for name, version in manifest.tools.items())),
    ]
    if engine.requirements is not None:
        needs = engine.requirements
        later = " and later" if needs.and_later else ""
        driver = f", NVIDIA driver {needs.driver} or newer" if needs.driver else ""
        card = f"{needs.gpu}, " if needs.gpu else ""
        capabilities = f"{card}SM {', '.join(needs.compute_capabilities)}{later}"
        rows.append(("runs on", f"{capabilities}, with {needs.library} {needs.version}{driver}"))
    if engine.profile is not None:
        shapes = (f"{role} {_buckets(buckets)}" for role, buckets in engine.profile.shapes.items())
        rows.append(("profile", f"{engine.profile.name}: {'; '.join(shapes)}"))
    if manifest.precision_report is not None:
        rows.append(("precision", _precision(manifest.precision_report)))
    rows += [("file", f"{entry.size / 1e6:9.1f} MB  {name}") for name, entry in manifest.files.items()]
    return rows if model.weights.trained else [*rows, ("warning", UNTRAINED_BUNDLE)]


def _decision(manifest: BundleManifest) -> list[tuple[str, str]]:
    """Five lines of a calibration, or one that says what there is instead."""
    if not manifest.model.weights.trained:
        return [("decision", "none: the weights are untrained, so no image gets a label")]
    decision = manifest.decision
    if decision is None:
        return [("decision", f"fake from {manifest.threshold:g} on; not calibrated: glass-rt calibrate")]
    undecided = sum(tier.thresholds is None for tier in decision.tiers)
    first = next((tier for tier in reversed(decision.tiers) if tier.guarantee is not None), None)
    curve = decision.probability
    return [
        ("decision", f"calibration {decision.id}, for the content {decision.content_sha256}"),
        ("", f"measured with {decision.conditions.in_words()}"),
        ("", f"tiers: {', '.join(tier.name for tier in decision.tiers)} ({undecided} without thresholds)"),
        ("", _tier(first)),
        ("", "no calibrated probability" if curve is None else f"probability: {curve.kind}, at prior {curve.prior:g}"),
    ]


def _tier(tier: Tier | None) -> str:
    if tier is None or tier.thresholds is None or tier.guarantee is None:
        return "no tier has thresholds: every image is `unsure`"
    return f"{tier.name}: {thresholds_in_words(tier.thresholds)}; {guarantee_in_words(tier.guarantee)}"


def _buckets(buckets: tuple[Shapes, ...]) -> str:
    return ", ".join(f"{shape.low}..{shape.high} (best {shape.best})" for shape in buckets)


def _precision(report: PrecisionReport) -> str:
    cost = (
        f"costs {report.embedding:.1e} (relative L2) of embeddings, {report.logits:.1e} of logits, "
        f"by {report.computed_by}"
    )
    ranges = report.ranges.values()
    if not ranges:  # INT8: no ranges are probed
        return cost
    widened = sum(len(found.widened) + len(found.widened_streams) for found in ranges)
    largest = max(found.largest_activation for found in ranges)
    sums = f"; {report.half_sums.embedding:.1e} if summed in half" if report.half_sums else ""
    return f"{cost}{sums}; largest value {largest:.3g}, {widened} units kept in float32"


def _parity(status: str, embedding: float | None, logits: float | None) -> str:
    if embedding is None or logits is None:
        return f"{status}: settled at the first opening on a machine that can run the engines"
    return f"{status}: embeddings within {embedding:.1e} (relative L2) of PyTorch's, logits within {logits:.1e}"

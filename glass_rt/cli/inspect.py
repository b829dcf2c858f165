"""`glass-rt inspect`: what a bundle is."""

from __future__ import annotations

import json
from pathlib import Path

import click

from glass_rt.bundle import Bundle, find_bundle
from glass_rt.cli.options import json_option
from glass_rt.manifest import to_json
from glass_rt.verdict import UNTRAINED


@click.command(short_help="What a bundle is.")
@click.argument("bundle", type=click.Path(path_type=Path), required=False, metavar="[DIR]")
@json_option
def inspect(bundle: Path | None, as_json: bool) -> int:
    """Show what a bundle is: model, weights, engine, parity, files.

    DIR defaults to the bundle that infer would use. The files that inference reads are checked, nothing is run.
    """
    opened = Bundle.open(find_bundle(bundle))
    if as_json:
        click.echo(json.dumps({**to_json(opened.manifest), "bundle_sha256": opened.sha256}, indent=2))
        return 0
    for name, value in _rows(opened):
        click.echo(f"{name:<14}{value}")
    return 0


def _rows(bundle: Bundle) -> list[tuple[str, str]]:
    manifest = bundle.manifest
    model, engine, parity = manifest.model, manifest.engine, manifest.parity
    crops = f", {model.trained_crops} crops of {model.crop_size} px" if model.trained_crops else ""
    rows = [
        ("bundle", f"{bundle.folder}"),
        ("sha256", f"{bundle.sha256}   (pin it with --expect-bundle)"),
        ("model", f"{model.name}: {model.architecture} on {model.backbone}, D = {model.embedding_dim}{crops}"),
        ("classes", f"{', '.join(model.classes)} (order of the logits)"),
        ("weights", f"{model.weights.source}, sha256 {model.weights.sha256[:16]}..."),
        ("engine", f"{engine.backend} {engine.precision} for {engine.device}, batches up to {engine.max_batch}"),
        ("threshold", f"{manifest.threshold:g}"),
        ("parity", _parity(parity.status, parity.embedding, parity.logits)),
        ("built with", ", ".join(f"{name} {version}" for name, version in manifest.tools.items())),
    ]
    rows += [("file", f"{entry.size / 1e6:9.1f} MB  {name}") for name, entry in manifest.files.items()]
    return rows if model.weights.trained else [*rows, ("warning", UNTRAINED)]


def _parity(status: str, embedding: float | None, logits: float | None) -> str:
    if embedding is None or logits is None:
        return status
    return f"{status}: embeddings within {embedding:.1e} (relative L2) of PyTorch's, logits within {logits:.1e}"

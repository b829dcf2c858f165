"""`glass-rt verify`: is this bundle what it says, and does it still compute what PyTorch computed?"""

from __future__ import annotations

import json
from pathlib import Path

import click

from glass_rt.bundle.bundle import Bundle
from glass_rt.cli.chosen_bundle import chosen_bundle, named_once
from glass_rt.cli.options import device_option, engine_option, expect_bundle_option, json_option
from glass_rt.inference.engines import open_engines
from glass_rt.inference.parity import verify_parity
from glass_rt.options import RunOptions


@click.command(short_help="Check a bundle: every file, and parity with PyTorch.")
@click.argument("bundle", type=click.Path(path_type=Path), required=False, metavar="[DIR]")
@engine_option
@device_option
@expect_bundle_option
@json_option
def verify(
    bundle: Path | None, engine: Path | None, device: str | None, expect_bundle: str | None, as_json: bool
) -> int:
    """Check every file of a bundle and pass its engines through the parity gate, without PyTorch.

    DIR, or --engine DIR, defaults to the bundle that infer would use.
    """
    opened = Bundle.open(chosen_bundle(named_once(bundle, engine)), expect_sha256=expect_bundle, every_file=True)
    engines = open_engines(opened, RunOptions(device))
    try:
        parity = verify_parity(opened, engines)
    finally:
        for opened_engine in engines.values():
            opened_engine.close()
    if as_json:
        click.echo(json.dumps({"bundle_sha256": opened.sha256, "files": len(opened.manifest.files), **vars(parity)}))
        return 0
    click.echo(f"{len(opened.manifest.files)} files as listed")
    click.echo(f"parity {parity.status}, compared with PyTorch:")
    click.echo(f"  embeddings within {parity.embedding:.1e} (relative L2), {parity.embedding_tolerance:.1e} allowed")
    click.echo(f"  logits within {parity.logits:.1e}, {parity.logits_tolerance:.0e} allowed")
    return 0

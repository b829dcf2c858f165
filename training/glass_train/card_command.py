"""`glass-rt card`: what is known of a bundle's weights."""

from __future__ import annotations

import json
from pathlib import Path

import click

from glass_rt.cli.chosen_bundle import chosen_bundle
from glass_rt.cli.options import engine_option, json_option


@click.command(short_help="Print what training and test found of a model.")
@engine_option
@json_option
def card(engine: Path | None, as_json: bool) -> int:
    """Print the card of a bundle that `glass-rt train` made: data, training, test, from measured facts alone.

    The card lies beside the bundle's folder and names its weights. Without one, what the manifest says is printed.
    """
    from glass_rt.bundle.bundle import Bundle
    from glass_train.finish.card import card_beside, card_markdown, card_of_manifest

    bundle = Bundle.open(chosen_bundle(engine))
    found = card_beside(bundle) or card_of_manifest(bundle)
    click.echo(json.dumps(found, indent=1) if as_json else card_markdown(found).rstrip())
    return 0

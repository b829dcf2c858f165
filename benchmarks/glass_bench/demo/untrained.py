"""`glass-rt infer` on one image, told as a number: untrained weights give no label.

python -m glass_bench.demo.untrained --engine bundles/vit_b16 --output demo demo/sample.jpg
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click


def in_words(verdict: Mapping[str, Any]) -> str:
    """The lines for one verdict, the JSON object of `glass-rt infer --json`; no label at any probability."""
    engine, spent = verdict["engine"], verdict["timings_ms"]
    lines = [
        f"  P(AI-generated) = {verdict['probability_fake']:.4f}",
        f"  {verdict['path']}: {verdict['width']} x {verdict['height']} {verdict['format']}, "
        f"{len(verdict['crops'])} crops, {engine['name']} ({engine['backend']} {engine['precision']})",
        f"  judged in {spent['total']:.0f} ms: decode {spent['decode']:.0f}, views {spent['views']:.0f}, "
        f"engine {spent['engine']:.0f}",
    ]
    if not verdict["trained"]:
        lines[0] += ", from UNTRAINED weights: it says nothing about the image"
    return "\n".join(lines)


@click.command()
@click.argument("image", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--engine", required=True, help="The bundle.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("demo"), help="For the evidence picture.")
def main(image: Path, engine: str, output: Path) -> None:
    """Judge IMAGE and print the probability, the time it took, and where the evidence picture is."""
    infer = [sys.executable, "-m", "glass_rt", "infer", "--quiet", "--json"]
    command = [*infer, "--engine", engine, "--overlay", str(output), str(image)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:  # it said why on stderr, or in its JSON
        click.echo(done.stdout, nl=False)
        sys.exit(done.returncode)
    verdict = json.loads(done.stdout)
    click.echo(in_words(verdict))
    click.echo(f"  what it looked at: {output / image.stem}.{verdict['sha256'][:8]}.jpg")


if __name__ == "__main__":
    main()

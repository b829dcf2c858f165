"""How much memory engines take on a CPU, opened and run: what `glass_rt.inference.engine_memory` estimates.

    python benchmarks/engine_memory.py --engine DIR... [--batch N]... [--json FILE]

One fresh process for each bundle and batch, in which the engines are opened, judge a pack of one image and a full pack,
and then run every batch size once; a thread reads every few milliseconds what the process holds (anonymous and shared
memory: pages of files go when memory is short). The record is the most that it held beyond what it held before. Rows
of bundles that were measured again replace those that the file has. Linux only. (Rows `counted_by` a control group were
recorded with the same steps in a group of their own, by its `memory.max_usage_in_bytes` less the cache of files.)
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from glass_rt.bundle.bundle import Bundle
from glass_rt.inference.engine_memory import engine_bytes, engines_take
from glass_rt.machine.environment import backend_versions, cpu_name, usable_cores
from glass_rt.machine.limits.memory import MB

# Prints the bytes that the process held at most, beyond those before the engines were opened.
MEASURE = """
import sys, threading, time
from glass_rt.machine.malloc import give_back_large_arrays
from glass_rt.machine.telemetry import keep_silent
give_back_large_arrays()
keep_silent()
import glass_rt.cli.infer
import numpy as np
from glass_rt.backends.embedding import embed
from glass_rt.bundle.bundle import Bundle
from glass_rt.inference.engines import open_engines
from glass_rt.inference.opened_bundle import RUNS_PER_PACK
from glass_rt.machine.limits.memory import held_bytes
from glass_rt.options import RunOptions
engine, batch = sys.argv[1], int(sys.argv[2])
bundle = Bundle.open(engine)
model = bundle.manifest.model
size, images = model.crop_size, batch
globals_ = np.full((images, size, size, 3), 127, np.float32)
crops = np.full((RUNS_PER_PACK * batch, size, size, 3), 127, np.uint8)
before = most = held_bytes()
done = threading.Event()
def watch():
    global most
    while not done.wait(0.004):
        most = max(most, held_bytes())
watcher = threading.Thread(target=watch)
watcher.start()
engines = open_engines(bundle, RunOptions(batch=batch))
for number in (1, images, *range(1, batch + 1)):
    embed(engines["global"], globals_[:number], batch)
for number in (max(1, model.trained_crops), len(crops), *range(1, batch + 1)):
    if "local" in engines:
        embed(engines["local"], crops[:number], batch)
done.set()
watcher.join()
print(max(most, held_bytes()) - before)
"""


def measured(engine: Path, batch: int) -> dict[str, Any]:
    """A row: what tells engines apart, and the bytes that they took."""
    bundle = Bundle.open(engine)
    manifest = bundle.manifest
    command = [sys.executable, "-c", MEASURE, str(engine), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {
        "backbone": manifest.model.backbone,
        "backend": manifest.engine.backend,
        "precision": manifest.engine.precision,
        "batch": batch,
        "file_bytes": sum(engine_bytes(manifest, role) for role in manifest.model.roles),
        "taken_bytes": int(done.stdout),
        "counted_by": "process",
    }


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["backend"], row["backbone"], row["precision"], row["batch"]


@click.command()
@click.option("--engine", "engines", multiple=True, type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--batch", "batches", multiple=True, type=click.IntRange(1), default=(4,), show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures there.")
def main(engines: tuple[Path, ...], batches: tuple[int, ...], json_path: Path | None) -> None:
    """Measures every bundle at every batch."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    if json_path is not None and json_path.exists():
        rows = {_key(row): row for row in json.loads(json_path.read_text(encoding="utf-8"))["rows"]}
    for engine in engines:
        for batch in batches:
            row = measured(engine, batch)
            rows[_key(row)] = row
            names = " ".join(str(value) for value in _key(row))
            estimate = engines_take(Bundle.open(engine).manifest, batch, "cpu")
            click.echo(f"{names}: {row['taken_bytes'] / MB:.0f} MB, estimated {estimate / MB:.0f} MB")
            if json_path is not None:
                versions = {name: number for name, number in backend_versions().items() if number}
                machine = {"cpu": cpu_name(), "cores": usable_cores(), "versions": versions}
                record = {"machine": machine, "rows": [rows[key] for key in sorted(rows)]}
                json_path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""One benchmark run as data: what was measured, raw, and nothing that can be computed from it.

The JSON form is documented in `docs/reference/bench-records.md`; `SCHEMA` changes with its meaning. Records hold no
path of the machine: bundles and folders are named by their last part, images by their path below the folder.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from glass_bench.errors import BenchError
from glass_bench.measure.machine import Machine
from glass_bench.measure.systems import Description
from glass_rt.bundle.from_json import record_from_json
from glass_rt.machine.named_file import read_named_text

SCHEMA = 1


@dataclass(frozen=True)
class ImageEntry:
    """One image that took part."""

    name: str
    width: int
    height: int
    format: str
    bytes: int


@dataclass(frozen=True)
class RunEntry:
    """One LoadGen run of one contender: LoadGen's figures, and per query the image, and the time inside the contender.

    `void`: queries failed, the figures mean nothing. `stages_ms`: per query, for SingleStream.
    """

    scenario: str
    repeat: int
    void: bool
    failures: int
    reasons: tuple[str, ...]
    loadgen: dict[str, float]
    early_stopping: bool
    images: tuple[int, ...]
    inside_ms: tuple[float, ...]
    stages_ms: tuple[dict[str, float], ...] = ()


@dataclass(frozen=True)
class SweepPoint:
    """One setting of a sweep: `x` is the crops or the megapixels; one time per repeat; memory where it was taken."""

    x: float
    ms: tuple[float, ...]
    peak_mb: float | None = None


@dataclass(frozen=True)
class ProbeEntry:
    """One arrival rate that was tried, and the latency at the percentile that is bounded."""

    rate: float
    latency_ms: float
    held: bool
    early_stopping: bool
    failures: int


@dataclass(frozen=True)
class ServerEntry:
    """The search for the arrival rate that a contender holds; `rate` None where none of the tried ones held."""

    bound_ms: float
    percentile: float
    queries: int
    rate: float | None
    probes: tuple[ProbeEntry, ...]


@dataclass(frozen=True)
class ContenderEntry:
    """One contender and everything measured of it.

    `role`: engine, baseline, or other (PyTorch, all tiles, no-op). `status`: measured; failed (it could not be opened
    or died); wrong (it does not compute what its bundle's reference says). `complaint` says why. `variant_of` names
    the contender that this one repeats with another batch or number of workers.
    """

    name: str
    role: str
    kind: str
    bundle: str
    sampling: str
    crops: int
    threads: int | None
    workers: int
    batch: int | None
    variant_of: str | None
    status: str
    complaint: str | None = None
    description: Description | None = None
    open_s: float | None = None
    opened_mb: float | None = None
    peak_mb: float | None = None
    runs: tuple[RunEntry, ...] = ()
    server: ServerEntry | None = None
    crop_sweep: tuple[SweepPoint, ...] = ()
    size_sweep: tuple[SweepPoint, ...] = ()


@dataclass(frozen=True)
class MachineLoad:
    """What else the machine did: the load average before, and the share of busy time that was not the harness's."""

    average_before: float | None
    foreign_share: float | None


@dataclass(frozen=True)
class Record:
    """One run of the benchmark."""

    started: str
    duration_s: float
    command: str
    machine: Machine
    load: MachineLoad
    settings: dict[str, Any]
    folder: str
    images: tuple[ImageEntry, ...]
    tile_images: tuple[int, ...]
    refused: tuple[str, ...]
    skipped: tuple[str, ...]
    contenders: tuple[ContenderEntry, ...]
    findings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values, schema and kind in front."""
        return {"schema": SCHEMA, "kind": "bench", **asdict(self)}

    def write(self, path: Path) -> None:
        """Writes the record as JSON."""
        path.write_text(json.dumps(six_digits(self.to_json()), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_record(path: Path) -> Record:
    """Reads a record; raises BenchError by the field that is wrong."""
    try:
        values = json.loads(read_named_text(path))
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} cannot be read as a record: {error}") from None
    if not isinstance(values, dict) or values.get("kind") != "bench":
        raise BenchError(f"{path} is not a record of `glass-rt bench`")
    if values.get("schema") != SCHEMA:
        raise BenchError(
            f"{path} has schema {values.get('schema')}; this version reads schema {SCHEMA}. Run the benchmark again"
        )
    content = {name: value for name, value in values.items() if name not in ("schema", "kind")}
    return record_from_json(Record, content, path.name, error=BenchError, strict=True)


def six_digits(value: Any) -> Any:
    """Floats to six significant digits: a nanosecond of a second is enough."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: six_digits(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [six_digits(item) for item in value]
    return value

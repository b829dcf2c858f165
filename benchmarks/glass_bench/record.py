"""One benchmark run as data: what was measured, raw, and nothing that can be computed from it.

The JSON form is documented in `benchmarks/README.md`; `SCHEMA` changes with its meaning. Records hold no path of the
machine: bundles and folders are named by their last part, images by their path below the folder.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from glass_bench.errors import BenchError
from glass_bench.machine import Machine
from glass_bench.systems import Description

SCHEMA = 1
T = TypeVar("T")


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
class Load:
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
    load: Load
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
        path.write_text(json.dumps(_rounded(self.to_json()), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_record(path: Path) -> Record:
    """Reads a record; raises BenchError by the field that is wrong."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} cannot be read as a record: {error}") from None
    if not isinstance(values, dict) or values.get("kind") != "bench":
        raise BenchError(f"{path} is not a record of `glass-rt bench`")
    if values.get("schema") != SCHEMA:
        raise BenchError(
            f"{path} has schema {values.get('schema')}; this version reads schema {SCHEMA}. Run the benchmark again"
        )
    return from_values(Record, {k: v for k, v in values.items() if k not in ("schema", "kind")}, path.name)


def from_values(kind: type[T], values: Any, where: str) -> T:
    """JSON values as the dataclass `kind`, checked by its annotations; raises BenchError by the field."""
    if not isinstance(values, Mapping):
        raise BenchError(f"{where}: expected an object")
    hints = get_type_hints(kind)
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type] # T is a dataclass
    if unknown := sorted(set(values) - set(known)):
        raise BenchError(f"{where}: unknown field {unknown[0]!r}")
    arguments = {}
    for name, item in known.items():
        if name in values:
            arguments[name] = _value(hints[name], values[name], f"{where}.{name}")
        elif item.default is MISSING and item.default_factory is MISSING:
            raise BenchError(f"{where}: {name} is missing")
    return kind(**arguments)


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        options = [option for option in inner if option is not type(None)]
        return None if value is None and len(options) < len(inner) else _value(options[0], value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise BenchError(f"{where}: expected a list")
        return tuple(_value(inner[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise BenchError(f"{where}: expected an object")
        return {str(key): _value(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if is_dataclass(hint) and isinstance(hint, type):
        return from_values(hint, value, where)
    if hint is Any:
        return value
    accepted = (int, float) if hint is float else (hint,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise BenchError(f"{where}: got {value!r:.60}; expected {hint.__name__}")
    return float(value) if hint is float else value


def _rounded(value: Any) -> Any:
    """Floats to six significant digits: a nanosecond of a second is enough."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value

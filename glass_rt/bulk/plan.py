"""The plan of a job, made once and written beside the output: its parts, each a handful of images and one output file.

A part is done when its file exists, and a file appears only when it is whole. So the job has no other state. Two
workers may judge the same part, since Ray may take a live worker for dead: they write the same rows under the same
name. A job that was killed goes on with the parts whose files are missing. Images that came to a folder later are no
part of the job.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from glass_rt.bulk.arrow import pa, pc, pq
from glass_rt.bulk.sources import RowGroup
from glass_rt.bulk.stores import Location, Stores
from glass_rt.errors import GlassError, UsageError, first_line
from glass_rt.options import DetectOptions

SCHEMA_VERSION = 2
FORMER_VERSION = 1  # of jobs whose rows have no decision
FOLDER = "_glass_rt"  # readers of Parquet folders pass over names that begin so
SUCCESS = "_SUCCESS"  # written when every part is there, as Hadoop and Spark do
PART_SCHEMA = pa.schema(
    [
        pa.field("part", pa.int64(), nullable=False),
        pa.field("images", pa.int64(), nullable=False),
        pa.field("paths", pa.list_(pa.string())),  # null for a part of a row group
        pa.field("file", pa.string()),
        pa.field("row_group", pa.int64()),
        pa.field("first", pa.int64()),  # the row group's first row in its file
        pa.field("rows", pa.int64()),  # of the row group
        pa.field("start", pa.int64()),  # the part's first row in the row group
    ]
)
_PARTS_WANTED, _FEWEST, _MOST = 2000, 16, 1024


@dataclass(frozen=True)
class BulkSettings:
    """The arguments that a job's rows depend on; a job is resumed with the same."""

    bundle_sha256: str
    options: dict[str, Any]
    sources: list[str]
    column: str | None

    @classmethod
    def of(cls, bundle_sha256: str, options: DetectOptions, sources: Iterable[str], column: str | None) -> BulkSettings:
        """`sources` must be without options of stores, and so without credentials."""
        return cls(bundle_sha256, asdict(options), list(sources), column)


@dataclass(frozen=True)
class BulkPlan:
    """All parts of a job, PART_SCHEMA, in order. `version`: of the rows that its parts hold."""

    settings: BulkSettings
    parts: pa.Table
    version: int = SCHEMA_VERSION

    @property
    def images(self) -> int:
        """The number of rows of the finished job."""
        return int(pc.sum(self.parts["images"]).as_py() or 0)


def part_name(part: int) -> str:
    """The name of a part's file."""
    return f"part-{part:06}.parquet"


def make_plan(settings: BulkSettings, found: Iterable[str | RowGroup], images_per_part: int | None = None) -> BulkPlan:
    """Cuts the images into parts; a path that occurs twice is judged once.

    Parts hold `images_per_part` images; None: about two thousand parts, of 16 to 1024 images each.
    """
    names: dict[str, None] = {}
    groups: list[RowGroup] = []
    for item in found:
        if isinstance(item, RowGroup):
            groups.append(item)
        else:
            names[item] = None
    total = len(names) + sum(group.rows for group in groups)
    if total == 0:
        raise GlassError("nothing to judge is found")
    size = images_per_part or min(max(_FEWEST, -(-total // _PARTS_WANTED)), _MOST)
    parts = [*_of_paths(list(names), size), *_of_groups(dict.fromkeys(groups), size)]
    rows = [{"part": number, **part} for number, part in enumerate(parts)]
    return BulkPlan(settings, pa.Table.from_pylist(rows, PART_SCHEMA))


def write_plan(plan: BulkPlan, target: Location, stores: Stores) -> None:
    """Writes the plan into the target; `plan.json`, by which `has_plan` finds it, comes last."""
    out = pa.BufferOutputStream()
    pq.write_table(plan.parts, out, compression="zstd")
    stores.write(target / FOLDER / "plan.parquet", out.getvalue())
    record = {"schema": plan.version, "images": plan.images, **asdict(plan.settings)}
    stores.write(target / FOLDER / "plan.json", json.dumps(record, indent=2).encode())


def has_plan(target: Location, stores: Stores) -> bool:
    """Whether the target holds a plan."""
    return stores.kind(target / FOLDER / "plan.json") == "file"


def read_plan(target: Location, stores: Stores) -> BulkPlan:
    """The target's plan. Raises GlassError where it is damaged."""
    where = target / FOLDER / "plan.json"
    try:
        record = json.loads(stores.read(where))
        version = record.pop("schema")
        if version not in (SCHEMA_VERSION, FORMER_VERSION):
            raise GlassError(f"{target}: the job was begun by another version of glass-rt")
        record.pop("images")
        where = target / FOLDER / "plan.parquet"
        parts = pq.read_table(pa.BufferReader(stores.read(where)))
        return BulkPlan(BulkSettings(**record), parts.cast(PART_SCHEMA), version)
    except (ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise GlassError(f"{where}: the plan cannot be read: {first_line(error)}") from error


def check_same(plan: BulkPlan, settings: BulkSettings) -> None:
    """Raises UsageError where the plan is of a job with other settings, and names the difference."""
    for name, value in asdict(settings).items():
        before = getattr(plan.settings, name)
        if before == value:
            continue
        raise UsageError(
            f"--resume: the job was begun with {name} {before!r:.300}, not {value!r:.300}; "
            "repeat its arguments, or write to another folder"
        )


def done_parts(target: Location, stores: Stores) -> set[int]:
    """Numbers of the parts whose files exist."""
    names = (location.path.rpartition("/")[2] for location in stores.list(target, recursive=False))
    return {int(match[1]) for name in names if (match := re.fullmatch(r"part-(\d{6,})\.parquet", name))}


def units(parts: pa.Table, most: int = _PARTS_WANTED) -> Iterator[pa.Table]:
    """Parts in about `most` tables, the units of work; parts of one row group stay together."""
    size = max(1, -(-len(parts) // most))
    keys = list(zip(parts["file"].to_pylist(), parts["row_group"].to_pylist(), strict=True))
    start = 0
    for end in range(1, len(keys) + 1):
        last = end == len(keys)
        if last or (end - start >= size and (keys[end][0] is None or keys[end] != keys[end - 1])):
            yield parts.slice(start, end - start)
            start = end


def _of_paths(names: list[str], size: int) -> Iterator[dict[str, Any]]:
    for start in range(0, len(names), size):
        paths = names[start : start + size]
        yield {"images": len(paths), "paths": paths}


def _of_groups(groups: Iterable[RowGroup], size: int) -> Iterator[dict[str, Any]]:
    for group in groups:
        for start in range(0, group.rows, size):
            yield {
                "images": min(size, group.rows - start),
                "file": group.file,
                "row_group": group.number,
                "first": group.first,
                "rows": group.rows,
                "start": start,
            }

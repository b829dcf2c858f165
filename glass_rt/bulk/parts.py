"""Parts of a plan to files of the output, on any cluster."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from glass_rt.bulk.arrow import ds, pa, pc, pq
from glass_rt.bulk.plan import part_name
from glass_rt.bulk.rows import FORMER_SCHEMA, SCHEMA, table_of
from glass_rt.bulk.sources import RowGroup, read_images
from glass_rt.bulk.stores import LOCAL, Location, Stores
from glass_rt.bulk.worker import BulkWorker, ImageSource
from glass_rt.errors import GlassError, first_line
from glass_rt.machine.environment import usable_cores
from glass_rt.machine.limits.memory import LEAST_MEMORY, smallest_limit
from glass_rt.options import DetectOptions, RunOptions

# A part that is done, or (with `failure`) why the worker cannot go on: a cluster would wrap the exception.
DONE_SCHEMA = pa.schema(
    [
        ("part", pa.int64()),
        ("images", pa.int64()),
        ("errors", pa.int64()),
        ("failure", pa.string()),
        ("failure_kind", pa.string()),
    ]
)


@dataclass(frozen=True)
class PartSettings:
    """How parts are judged, and where their files go. It can be pickled.

    `former_rows`: the job was begun by a version whose rows have no decision; all of its files have the same columns.
    """

    engine: str
    options: DetectOptions
    run: RunOptions
    target: Location
    column: str | None = None
    roots: Mapping[str, str] = field(default_factory=dict)
    former_rows: bool = False
    drop_environment: tuple[str, ...] = ()  # variables that a cluster sets and an engine should not see
    sharing: int = 1  # workers on one machine, at most


class PartWorker:
    """Judges parts and writes their files; gives each part's numbers of images and errors."""

    def __init__(self, settings: PartSettings) -> None:
        for name in settings.drop_environment:
            os.environ.pop(name, None)
        self._settings = settings
        self._stores = Stores(settings.roots)
        run = share_of(settings.run, settings.sharing)  # of the worker's own machine
        self._worker = BulkWorker(settings.engine, settings.options, run, roots=settings.roots)

    def __call__(self, parts: pa.Table) -> pa.Table:
        """Parts (`plan.PART_SCHEMA`) to DONE_SCHEMA. A part whose file exists already is not judged again."""
        done: list[dict[str, Any]] = []
        try:
            for counts in self.judge(parts):
                done.append(counts)
        except GlassError as error:
            done.append({"failure": str(error), "failure_kind": error.kind})
        return pa.Table.from_pylist(done, DONE_SCHEMA)

    def close(self) -> None:
        """Ends the detector's process."""
        self._worker.close()

    def judge(self, parts: pa.Table) -> Iterator[dict[str, int]]:
        """The same, one part after the other: its counts once its file is written. Raises GlassError."""
        open_parts = []
        for part in parts.to_pylist():
            if self._stores.kind(self._file(part)) == "file":
                yield self._counted(part)
            else:
                open_parts.append(part)
        rows = self._worker.rows(self._images(open_parts))
        for part in open_parts:
            schema = FORMER_SCHEMA if self._settings.former_rows else SCHEMA
            table = table_of(list(islice(rows, part["images"])), schema)
            out = pa.BufferOutputStream()
            pq.write_table(table, out, compression="zstd")
            self._stores.write(self._file(part), out.getvalue())
            errors = len(table) - table["error_kind"].null_count
            yield {"part": part["part"], "images": len(table), "errors": errors}

    def _images(self, parts: list[dict[str, Any]]) -> Iterator[tuple[str, ImageSource]]:
        """The images of the parts in order; a row group is read once for parts that follow each other in it."""
        reading: Iterator[tuple[str, ImageSource]] = iter(())
        position: tuple[str, int, int] | None = None
        for part in parts:
            if part["paths"] is not None:
                yield from ((path, None) for path in part["paths"])
                continue
            if position != (part["file"], part["row_group"], part["start"]):
                group = RowGroup(part["file"], part["row_group"], part["first"], part["rows"])
                reading = read_images(group, self._stores, self._settings.column, part["start"])
            read = 0
            for image in islice(reading, part["images"]):
                yield image
                read += 1
            if read < part["images"]:  # else the next part's images would become rows of this one
                raise GlassError(f"{part['file']}: it has fewer rows than when the job was planned; it was replaced")
            position = (part["file"], part["row_group"], part["start"] + part["images"])

    def _file(self, part: Mapping[str, Any]) -> Location:
        return self._settings.target / part_name(part["part"])

    def _counted(self, part: Mapping[str, Any]) -> dict[str, int]:
        errors = count_errors([part["part"]], self._settings.target, self._stores)
        return {"part": part["part"], "images": part["images"], "errors": errors}


def count_errors(parts: Collection[int], target: Location, stores: Stores) -> int:
    """The number of images of these parts, whose files exist, that could not be judged."""
    if not parts:
        return 0
    files, _ = stores.open(target)
    paths = [stores.open(target / part_name(part))[1] for part in parts]
    try:
        rows = ds.dataset(paths, filesystem=files, format="parquet")
        return int(rows.count_rows(filter=pc.field("error_kind").is_valid()))
    except (pa.ArrowException, OSError) as error:
        raise GlassError(f"{first_line(error)}; delete that part, and --resume judges it again") from error


def check_rows(parts: pa.Table, target: Location, stores: Stores) -> None:
    """Raises GlassError where a part's file, on disk, has not a row per image: another program changed it."""
    if target.store != LOCAL:
        return
    for part in parts.select(["part", "images"]).to_pylist():
        where = target / part_name(part["part"])
        try:
            files, path = stores.open(where)
            rows = pq.read_metadata(path, filesystem=files).num_rows
        except (pa.ArrowException, OSError) as error:
            raise GlassError(f"{where}: {first_line(error)}; delete that part, and --resume judges it again") from error
        if rows != part["images"]:
            raise GlassError(
                f"{where} has {rows} rows for {part['images']} images: another program changed it; delete it, and "
                "--resume judges it again"
            )


def share_of(run: RunOptions, workers: int) -> RunOptions:
    """What each of several workers on one machine may use: its part of the cores, and of the memory that is given.

    Each would else take what it finds free at the same moment as the others. Threads that the user asked for are kept,
    and so is less memory than that part.
    """
    if workers <= 1:
        return run
    threads = run.threads or max(1, usable_cores() // workers)
    limit = smallest_limit()
    memory = run.memory if limit is None else min(run.memory or limit, max(LEAST_MEMORY, limit // workers))
    return replace(run, threads=threads, memory=memory)

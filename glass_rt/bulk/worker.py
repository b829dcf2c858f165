"""The worker of a bulk job: Arrow in, Arrow out, on any cluster."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeAlias

from glass_rt.bulk.arrow import pa
from glass_rt.bulk.columns import is_bytes, is_text
from glass_rt.bulk.messages import Opening, Unreadable
from glass_rt.bulk.rows import SCHEMA, row_of, table_of
from glass_rt.bulk.stores import LOCAL, Location, Stores, locate
from glass_rt.bulk.supervisor import STALL_S, JudgeRequest, Source, Supervisor
from glass_rt.errors import ImageNotReadable, UsageError, first_line
from glass_rt.options import DetectOptions, RunOptions
from glass_rt.results.file_names import name_from_text
from glass_rt.results.rows import Row

__all__ = ["BulkWorker"]

ImageSource: TypeAlias = bytes | str | Unreadable | None
FETCHERS = 16  # threads that read from object stores
BATCH_ROWS = 64  # of an output batch


class BulkWorker:
    """A detector for Arrow data; open one per device and process. Each image becomes a row of `SCHEMA`.

    An image that cannot be judged gives a row with `error_kind` and `error`, as does one that kills the process that
    judges it (see `glass_rt.bulk.supervisor`). A row does not depend on the other rows. For one thread at a time.

    `engine`, `run` and `changes` (fields of RunOptions) are those of `Detector.open`, `roots` those of
    `glass_rt.bulk.stores.Stores`; a process that judges nothing for `stall_s` seconds is ended.

    >>> with BulkWorker("bundles/vit_b16") as worker:  # doctest: +SKIP
    ...     table = worker.judge_table(pa.table({"path": ["a.jpg", "s3://bucket/b.png"]}))
    """

    def __init__(
        self,
        engine: str | os.PathLike[str],
        options: DetectOptions | None = None,
        run: RunOptions | None = None,
        *,
        roots: Mapping[str, str] | None = None,
        stall_s: float = STALL_S,
        **changes: Any,
    ) -> None:
        run = replace(run or RunOptions(), **changes)
        opening = Opening(os.fspath(engine), options or DetectOptions(), run)
        self._supervisor = Supervisor(opening, stall_s=stall_s)
        self._stores = Stores(roots)
        self._fetching = ThreadPoolExecutor(FETCHERS, thread_name_prefix="glass-rt bulk fetch")

    def rows(self, images: Iterable[tuple[str, ImageSource]]) -> Iterator[Row]:
        """One row per image, in order, taken a little ahead. An image is its name and its bytes.

        In place of the bytes may stand a path on this machine (see `glass_rt.results.file_names`) or a URI, which is
        read; None where that is the name itself; or why there are none. Raises GlassError where the detector cannot be
        opened.
        """
        names: deque[str] = deque()  # of the images under way

        def requests() -> Iterator[JudgeRequest]:
            for name, data in images:
                names.append(name)
                yield self._request(name, data)

        for result in self._supervisor.judge(requests()):
            yield row_of(names.popleft(), result, self._supervisor.engine)

    def judge(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Batches of images to batches of rows, in order: the form of Spark's `mapInArrow`.

        Columns of a batch: `path` (strings), `bytes` (binary, the encoded images), or both. Without `bytes`, or where
        it is null, the path is read. Other columns are ignored. Output batches hold up to 64 rows each.
        """
        waiting: list[Row] = []
        for row in self.rows(image for batch in batches for image in images_of(batch)):
            waiting.append(row)
            if len(waiting) == BATCH_ROWS:
                yield from table_of(waiting).to_batches()
                waiting = []
        if waiting:
            yield from table_of(waiting).to_batches()

    def judge_table(self, table: pa.Table) -> pa.Table:
        """A table of images to a table of rows, in order; columns as for `judge`."""
        return pa.Table.from_batches(self.judge(table.to_batches()), SCHEMA)

    @property
    def pid(self) -> int | None:
        """The process that judges, or None where none runs at the moment."""
        return self._supervisor.pid

    def close(self) -> None:
        """Ends the detector's process."""
        self._supervisor.close()
        self._fetching.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> BulkWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _request(self, name: str, source: ImageSource) -> JudgeRequest:
        if isinstance(source, bytes | Unreadable):
            return JudgeRequest(source)
        where = locate(name if source is None else source)
        return JudgeRequest(name_from_text(where.path)) if where.store == LOCAL else JudgeRequest(self._fetch(where))

    def _fetch(self, where: Location) -> Future[Source]:
        def fetch() -> Source:
            try:
                return self._stores.read(where)
            except ImageNotReadable as error:
                return Unreadable(str(error))
            except Exception as error:  # a future that raises would end the thread that waits for it
                return Unreadable(f"{type(error).__name__}: {first_line(error)}")

        return self._fetching.submit(fetch)


def images_of(batch: pa.RecordBatch) -> Iterator[tuple[str, bytes | None]]:
    """Names and bytes of a batch's images.

    Raises UsageError where the column `path` is missing or holds a null, and where a column is of another type.
    """
    columns = set(batch.schema.names)
    if "path" not in columns:
        raise UsageError(f"a batch has the columns {', '.join(sorted(columns)) or 'none'}; expected path, and bytes")
    for column, fits, expected in (("path", is_text, "strings"), ("bytes", is_bytes, "binaries")):
        kind = batch.schema.field(column).type if column in columns else pa.null()
        if not fits(kind) and not pa.types.is_null(kind):
            raise UsageError(f"{column} holds {kind}; expected {expected}")
    data = batch.column("bytes") if "bytes" in columns else None
    for index, name in enumerate(batch.column("path")):
        if not name.is_valid:
            raise UsageError(f"path: row {index} of a batch is null; every image needs a name")
        yield name.as_py(), None if data is None else data[index].as_py()

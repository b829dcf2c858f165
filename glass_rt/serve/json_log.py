"""Logs as JSON lines. A thread writes them, so a slow reader of the log delays no request."""

from __future__ import annotations

import json
import logging
import threading
from datetime import datetime, timezone
from queue import SimpleQueue
from typing import TextIO

MOST_WAITING = 10_000  # lines; further ones are dropped and counted


class JsonLog(logging.Handler):
    """One JSON object per record: time (UTC), level, logger, message, and the fields of `extra={"fields": {...}}`."""

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._out = out
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._dropped = 0
        self._writer = threading.Thread(target=self._write, name="glass-rt log", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Hands the record to the thread that writes."""
        if self._lines.qsize() >= MOST_WAITING:
            self._dropped += 1
            return
        fields = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["traceback"] = logging.Formatter().formatException(record.exc_info)
        if self._dropped:
            fields["lines_dropped"], self._dropped = self._dropped, 0
        self._lines.put(json.dumps(fields, default=str) + "\n")

    def close(self) -> None:
        """Waits for the lines in the queue to be written, a second at most."""
        self._lines.put(None)
        self._writer.join(1)
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._out.write(line)
                if self._lines.empty():
                    self._out.flush()
            except (OSError, ValueError):  # the reader has closed its end
                return


def log_json(out: TextIO, level: int) -> JsonLog:
    """Sends all records of this process from `level` up to `out` as JSON lines."""
    handler = JsonLog(out)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("uvicorn").setLevel(
        max(level, logging.WARNING)
    )  # the server itself logs what uvicorn would say below that
    logging.captureWarnings(True)
    return handler

"""Logs whose writing delays no request."""

import io
import json
import logging
import threading

import pytest

from glass_rt.serve import json_log
from glass_rt.serve.json_log import JsonLog
from tests.serving import PATIENCE_S


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("glass_rt.serve", logging.WARNING, "file", 1, message, (), None)
    made.fields = fields
    return made


def test_a_record_is_one_line_of_json_whatever_it_says() -> None:
    out = io.StringIO()
    log = JsonLog(out)
    log.handle(record('two\nlines "quoted"', path="/a\r\nb", number=3))
    log.close()
    (line,) = out.getvalue().splitlines()
    told = json.loads(line)
    assert told["message"] == 'two\nlines "quoted"'
    assert (told["path"], told["number"], told["level"]) == ("/a\r\nb", 3, "warning")
    assert told["time"].endswith("+00:00")


def test_an_exception_comes_with_its_traceback() -> None:
    out = io.StringIO()
    log = JsonLog(out)
    try:
        raise ValueError("planted")
    except ValueError as error:
        made = record("it failed")
        made.exc_info = (type(error), error, error.__traceback__)
    log.handle(made)
    log.close()
    assert "ValueError: planted" in json.loads(out.getvalue())["traceback"]


class SlowReader(io.StringIO):
    """Blocks at the first line until the test releases it."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = threading.Event()
        self.go_on = threading.Event()

    def write(self, text: str) -> int:
        self.taken.set()
        assert self.go_on.wait(PATIENCE_S)
        return super().write(text)


def test_a_reader_who_is_slow_costs_lines_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_log, "MOST_WAITING", 2)
    out = SlowReader()
    log = JsonLog(out)
    log.handle(record("0"))
    assert out.taken.wait(PATIENCE_S)
    for number in range(1, 6):
        log.handle(record(str(number)))
    out.go_on.set()
    log._lines.put("{}\n")  # the queue has room again once this is reached
    while not log._lines.empty():
        pass
    log.handle(record("last"))
    log.close()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line.get("message") for line in lines] == ["0", "1", "2", None, "last"]
    assert lines[-1]["lines_dropped"] == 3

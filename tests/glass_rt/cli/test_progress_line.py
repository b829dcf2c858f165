"""The line that says how far a run is: on a terminal, and in a log."""

import io

import pytest

from glass_rt.cli import progress_line
from glass_rt.cli.progress_line import ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress_line, "perf_counter", lambda: now[0])
    return now


def test_a_terminal_s_line_is_redrawn_ten_times_a_second_and_removed(clock: list[float]) -> None:
    out = Terminal()
    line = ProgressLine(out)
    clock[0] += 0.05
    line.show(1, 10, 0)
    clock[0] += 1.95
    line.show(4, 10, 1)
    line.show(5, 10, 1)
    line.clear()
    assert out.getvalue() == "\r\x1b[K4/10  2.0 images/s  0:03 left  1 failed\r\x1b[K"


def test_a_log_gets_a_line_every_half_minute_where_it_is_wanted(clock: list[float]) -> None:
    wanted, unwanted = io.StringIO(), io.StringIO()
    lines = ProgressLine(wanted, logged=True), ProgressLine(unwanted)
    for _ in range(3):
        clock[0] += 20
        for line in lines:
            line.show(8, 1000, 0, before=90)
    for line in lines:
        line.clear()
    assert (wanted.getvalue(), unwanted.getvalue()) == ("98/1000  0.2 images/s  75:10 left\n", "")


def test_a_run_of_unknown_length_shows_no_end(clock: list[float]) -> None:
    out = Terminal()
    line = ProgressLine(out)
    clock[0] += 1
    line.show(0, None, 0)
    clock[0] += 1
    line.show(3, None, 0)
    assert out.getvalue() == "\r\x1b[K0  0.0 images/s\r\x1b[K3  1.5 images/s"

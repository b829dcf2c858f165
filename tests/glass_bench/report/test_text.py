"""Figures, ratios and tables as text."""

import pytest
from glass_bench.report.statistics import Repeated, ratio, repeated
from glass_bench.report.text import figure, rounded, table, times


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([612.0, 615.0, 609.0], "612 ± 3 ms"),
        ([612.0, 700.0], "~660 ms (spread 13%)"),
        ([612.3], "~610 ms (1 run)"),
    ],
)
def test_a_figure_is_as_precise_as_its_repeats(values: list[float], text: str) -> None:
    assert figure(repeated(values), "ms") == text


def test_ratios_and_numbers_in_words() -> None:
    quiet, noisy = Repeated(10, 9.95, 10.05, 3, 0.01), Repeated(10, 8, 12, 3, 0.4)
    assert times(ratio(quiet, quiet)) == "1x"
    assert times(ratio(noisy, quiet)) == "~1x (0.8 to 1.2)"
    assert times(ratio(repeated([20.04]), repeated([10]))) == "~2x"
    assert [rounded(value, 3) for value in (0, 0.0012345, 1234.5, 1e9, 1e13)] == [
        "0",
        "0.00123",
        "1230",
        "1000000000",
        "10000000000000",
    ]
    assert rounded(9.1e-5, 1) == "0.00009"


def test_a_table_keeps_its_bars() -> None:
    assert table(["a", "b"], [["x|y", "1"]]) == ["| a | b |", "| :-- | --: |", "| x\\|y | 1 |"]

"""Numbers and tables as Markdown; a figure whose repeats differ too much is not printed as if it were exact."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from glass_bench.report.statistics import Ratio, Repeated


def figure(value: Repeated | None, unit: str = "") -> str:
    """`612 ± 4 ms`; `~610 ms (spread 23 %)` where the spread is wide; `~612 ms (1 run)` for a single repeat."""
    if value is None:
        return "-"
    tail = f" {unit}" if unit else ""
    if value.spread is None:
        return f"~{rounded(value.median, 2)}{tail} (1 run)"
    if value.wide:
        return f"~{rounded(value.median, 2)}{tail} (spread {value.spread:.0%})"
    half = (value.high - value.low) / 2
    return f"{rounded(value.median, 3)} ± {rounded(half, 1)}{tail}"


def times(value: Ratio | None) -> str:
    """`7.1x`, with its bounds where they are more than 5 per cent apart; `~7.1x` where a side has a single run."""
    if value is None:
        return "-"
    if value.high - value.low > 0.05 * value.value:
        return f"~{rounded(value.value, 2)}x ({rounded(value.low, 2)} to {rounded(value.high, 2)})"
    return f"{rounded(value.value, 3)}x" if value.known else f"~{rounded(value.value, 2)}x"


def rounded(value: float, digits: int) -> str:
    """`value` to so many significant digits, never in exponent form."""
    return format(Decimal(f"{value:.{digits}g}"), "f")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """A Markdown table; the first `left` columns are aligned to the left, the others to the right."""
    marks = [":--" if column < left else "--:" for column in range(len(header))]
    return [_row(header), _row(marks), *(_row(row) for row in rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

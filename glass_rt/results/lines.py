"""Results as lines of text: JSON lines and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from glass_rt.results.rows import decision_columns
from glass_rt.results.verdict import Failure, Verdict

CSV_COLUMNS = (
    "path", "sha256", "label", "probability_fake", "basis", "decision_id", "tier", "reason", "threshold", "fake_above",
    "real_below", "calibrated_probability_fake", "trained", "width", "height", "format", "jpeg_quality", "crops",
    "stratified", "grid", "seed", "notices", "error_kind", "error",
)  # fmt: skip
# Those of schema 1: a file that begins with them is continued with them.
FORMER_CSV_COLUMNS = (
    "path", "sha256", "label", "probability_fake", "threshold", "trained", "width", "height", "format",
    "crops", "stratified", "grid", "seed", "notices", "error_kind", "error",
)  # fmt: skip


def csv_header(columns: Sequence[str] = CSV_COLUMNS) -> str:
    """The first line of a CSV file of these columns."""
    return ",".join(columns) + "\n"


CSV_HEADER = csv_header()


def json_line(result: Verdict | Failure) -> str:
    """One result of JSON lines."""
    return json.dumps(result.to_json(), allow_nan=False) + "\n"


def csv_line(result: Verdict | Failure, columns: Sequence[str] = CSV_COLUMNS) -> str:
    """One result of CSV."""
    line = io.StringIO()
    csv.DictWriter(line, columns, extrasaction="ignore", lineterminator="\n").writerow(_csv_row(result))
    return line.getvalue()


def _csv_row(result: Verdict | Failure) -> dict[str, object]:
    values = result.to_json()
    if isinstance(result, Failure):
        named = {name: values.get(name) for name in ("path", "sha256")}
        return {**named, "error_kind": result.error.kind, "error": values["error"]["message"]}
    decided = decision_columns(values)
    return {**values, **decided, "crops": len(result.crops), "notices": "; ".join(result.notices)}

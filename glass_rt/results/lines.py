"""Results as lines of text: JSON lines and CSV."""

from __future__ import annotations

import csv
import io
import json

from glass_rt.results.verdict import Failure, Verdict

CSV_COLUMNS = (
    "path", "sha256", "label", "probability_fake", "threshold", "trained", "width", "height", "format",
    "crops", "stratified", "grid", "seed", "notices", "error_kind", "error",
)  # fmt: skip


CSV_HEADER = ",".join(CSV_COLUMNS) + "\n"


def json_line(result: Verdict | Failure) -> str:
    """One result of JSON lines."""
    return json.dumps(result.to_json(), allow_nan=False) + "\n"


def csv_line(result: Verdict | Failure) -> str:
    """One result of CSV, by CSV_COLUMNS."""
    line = io.StringIO()
    csv.DictWriter(line, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n").writerow(_csv_row(result))
    return line.getvalue()


def _csv_row(result: Verdict | Failure) -> dict[str, object]:
    values = result.to_json()
    if isinstance(result, Failure):
        named = {name: values.get(name) for name in ("path", "sha256")}
        return {**named, "error_kind": result.error.kind, "error": values["error"]["message"]}
    return {**values, "crops": len(result.crops), "notices": "; ".join(result.notices)}

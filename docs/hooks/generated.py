"""Parts of the manual that are made from the source when the site is built, so that they cannot disagree with it.

A line `<!-- generated: NAME -->` of a page is replaced by the Markdown of the function of that name in `PARTS`.
"""

from __future__ import annotations

import builtins
import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
_PLACE = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
# A doctest in a docstring, which Markdown takes for quotations three deep.
_DOCTEST = re.compile(r"(?:<blockquote>\s*){3}<p>(.*?)</p>\s*(?:</blockquote>\s*){3}", re.DOTALL)


def on_page_markdown(markdown: str, **_: object) -> str:
    """MkDocs calls this for every page. Raises KeyError for a part that does not exist."""
    return _PLACE.sub(lambda found: PARTS[found[1]](), markdown)


def on_page_content(html: str, **_: object) -> str:
    """MkDocs calls this for every page's HTML: examples of docstrings become blocks of code."""
    return _DOCTEST.sub(lambda found: f"<pre><code>{_without_prompts(found[1])}</code></pre>", html)


def _without_prompts(code: str) -> str:
    return re.sub(r"  # doctest: \+SKIP|^\.\.\. ", "", code, flags=re.MULTILINE)


def errors_tree() -> str:
    """The tree at the head of `glass_rt/errors.py`."""
    from glass_rt import errors

    assert errors.__doc__
    tree = [line[4:] for line in errors.__doc__.splitlines() if line.startswith("    ")]
    return "\n".join(["```text", *tree, "```"])


def errors_table() -> str:
    """Every error with its kind, the built-in type that it also is, and its first sentence."""
    from glass_rt import errors
    from glass_rt.serve import refusals

    found = [*_errors_of(errors), *_errors_of(refusals)]
    return _table(("`kind`", "class", "also a", "meaning"), (_error_row(error) for error in found))


def _errors_of(module: Any) -> Iterator[type[Exception]]:
    for value in vars(module).values():
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == module.__name__:
            yield value


def _error_row(error: Any) -> tuple[str, ...]:
    built_in = next((base.__name__ for base in error.__bases__ if hasattr(builtins, base.__name__)), "")
    return f"`{error.kind}`", f"`{error.__name__}`", built_in and f"`{built_in}`", _first_line(error)


def http_statuses() -> str:
    """Errors by HTTP status, as `glass_rt/serve/http/status.py` has them."""
    from glass_rt.serve.http.status import STATUSES

    by_status: dict[int, list[str]] = {}
    for error in _with_children(STATUSES):
        nearest = next(kind for kind in error.__mro__ if kind in STATUSES)
        by_status.setdefault(int(STATUSES[nearest]), []).append(f"`{error.kind}`")
    return _table(("status", "`kind` of the error"), ((str(s), ", ".join(by_status[s])) for s in sorted(by_status)))


def _with_children(errors: Iterable[Any]) -> list[Any]:
    """The errors, each followed by those that inherit from it, none twice."""
    return list(dict.fromkeys(child for error in errors for child in (error, *error.__subclasses__())))


def http_routes() -> str:
    """Every route of the OpenAPI document: what it does, its parameters and its responses."""
    document = _openapi()
    parts = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts += [f"### `{method.upper()} {path}`", *_operation(operation, document)]
    return "\n\n".join(parts)


def health_fields() -> str:
    """The fields of the health routes' responses, as the OpenAPI document describes them."""
    fields = _openapi()["components"]["schemas"]["Health"]["properties"]
    return _table(("field", "meaning"), ((f"`{name}`", field["description"]) for name, field in fields.items()))


def _openapi() -> dict[str, Any]:
    from glass_rt.serve.http import openapi

    document: dict[str, Any] = json.loads(Path(openapi.__file__).with_name("openapi.json").read_text("utf-8"))
    return document


def _operation(operation: dict[str, Any], document: dict[str, Any]) -> Iterator[str]:
    yield operation["summary"]
    if "description" in operation:
        yield operation["description"]
    key = "Open to all." if operation["security"] == [] else "Needs a key where the server has keys."
    yield key
    parameters = [_resolved(parameter, document) for parameter in operation.get("parameters", ())]
    if parameters:
        rows = ((f"`{p['name']}`", p["in"], p.get("description", "")) for p in parameters)
        yield _table(("parameter", "in", "meaning"), rows)
    responses = ((status, _resolved(r, document)) for status, r in operation["responses"].items())
    yield _table(("status", "response"), ((status, response["description"]) for status, response in responses))


def _resolved(value: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in value:
        return value
    found: Any = document
    for part in value["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    resolved: dict[str, Any] = found
    return resolved


def metrics() -> str:
    """The metrics of a server by name."""
    from glass_rt.serve.metrics import Metrics

    families = [family for family in Metrics().registry.collect() if family.name.startswith("glass_rt_")]
    rows = ((f"`{family.name}`", family.type, family.documentation) for family in families)
    return _table(("name", "type", "meaning"), rows)


def row_columns() -> str:
    """The columns of Parquet rows."""
    from glass_rt.results.rows import row_schema

    of_job = row_schema(of_job=True)
    rows = []
    for field in row_schema(of_job=False):
        in_job = of_job.field(field.name) if field.name in of_job.names else None
        null = "absent" if in_job is None else "yes" if in_job.nullable else "no"
        rows.append((f"`{field.name}`", f"`{_arrow_type(field.type)}`", null))
    return _table(("column", "type", "may be null in `bulk`"), rows)


def _arrow_type(kind: Any) -> str:
    return re.sub(r" not null|(?<=list<)\w+: ", "", str(kind))


def csv_columns() -> str:
    """The columns of CSV files."""
    from glass_rt.results.lines import CSV_COLUMNS

    return ", ".join(f"`{name}`" for name in CSV_COLUMNS)


def tensors() -> str:
    """Inputs and outputs of the Open Inference Protocol."""
    from glass_rt.serve.oip.protocol import INPUTS, OUTPUTS

    sides = (("input", tensor) for tensor in INPUTS), (("output", tensor) for tensor in OUTPUTS)
    rows = ((way, f"`{t.name}`", t.datatype, str(list(t.shape))) for side in sides for way, t in side)
    return _table(("", "tensor", "datatype", "shape (-1: the request decides)"), rows)


def tolerances() -> str:
    """What the parity gate allows."""
    from glass_rt.inference.parity import TOLERANCES

    rows = ((name, f"{t.embedding:g}", f"{t.logits:g}") for name, t in TOLERANCES.items())
    return _table(("precision", "embeddings, relative L2", "logits, absolute"), rows)


def manifest_fields() -> str:
    """The records of a manifest, field by field."""
    from glass_rt.bundle import manifest, precision_report, requirements
    from glass_rt.decision import calibration, probability, tiers

    records = (
        manifest.BundleManifest, manifest.PortableManifest, manifest.Model, manifest.Weights, manifest.Engine,
        manifest.Parity, manifest.FileEntry, requirements.Requirements, requirements.Profile, requirements.Shapes,
        precision_report.PrecisionReport, precision_report.Drift, precision_report.RangeReport,
        calibration.Calibration, calibration.Conditions, calibration.Tier, tiers.TierRule, calibration.Thresholds,
        calibration.Guarantee, probability.ProbabilityCurve,
    )  # fmt: skip
    return "\n\n".join(map(_record, records))


def _record(record: Any) -> str:
    kinds = get_type_hints(record)
    rows = ((f"`{field.name}`", f"`{_python_type(kinds[field.name])}`") for field in dataclasses.fields(record))
    return f"### {record.__name__}\n\n{inspect.getdoc(record)}\n\n{_table(('field', 'type'), rows)}"


def _python_type(kind: Any) -> str:
    text = kind.__name__ if inspect.isclass(kind) and not hasattr(kind, "__args__") else str(kind)
    return re.sub(r"[\w.]+\.(?=\w)", "", text).replace("|", "or")


def calibration_tiers() -> str:
    """The tiers that `glass-rt calibrate` has thresholds for."""
    from glass_calibrate.tiers import DEFAULT_TIERS

    return _table(("tier", "takes"), ((tier.name, tier.rule.in_words()) for tier in DEFAULT_TIERS))


def extras() -> str:
    """The optional packages of `pyproject.toml`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    known = project["optional-dependencies"]
    rows = ((f"`{name}`", ", ".join(f"`{_distribution(item)}`" for item in items)) for name, items in known.items())
    return _table(("extra", "packages"), rows)


def _distribution(requirement: str) -> str:
    return re.split(r"[>=<; ]", requirement, maxsplit=1)[0]


def _first_line(value: Any) -> str:
    return (inspect.getdoc(value) or "").splitlines()[0]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple(":--" for _ in head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )


PARTS: dict[str, Callable[[], str]] = {
    "errors_tree": errors_tree,
    "errors_table": errors_table,
    "http_statuses": http_statuses,
    "http_routes": http_routes,
    "health_fields": health_fields,
    "metrics": metrics,
    "row_columns": row_columns,
    "csv_columns": csv_columns,
    "tensors": tensors,
    "tolerances": tolerances,
    "manifest_fields": manifest_fields,
    "calibration_tiers": calibration_tiers,
    "extras": extras,
}

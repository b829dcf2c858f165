"""What a portable model or a bundle says of itself: `manifest.json` as frozen dataclasses.

Manifests come from disk and are not trusted: every field is checked for its type and range on reading (see
`glass_rt.bundle.from_json`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal

from glass_rt.bundle.calibration_json import calibration_from_json
from glass_rt.bundle.from_json import AtLeast, AtMost, OneOf, record_from_json, values_from_text
from glass_rt.bundle.precision_report import PrecisionReport
from glass_rt.bundle.requirements import Profile, Requirements
from glass_rt.decision.calibration import Calibration
from glass_rt.errors import BundleInvalid, UsageError
from glass_rt.machine.environment import BACKEND_PACKAGES

SCHEMA = 1
SCHEMA_WITH_DECISION = 2  # which runtimes that know of no decisions refuse
DECISION = "decision"  # the field's name
HEAD = "head.safetensors"
ARCHITECTURES = ("glass", "resize")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
FAKE, REAL = "fake", "real"
Kind = Literal["portable", "bundle"]


@dataclass(frozen=True)
class Weights:
    """Where the weights came from. `sha256` is of the tensors, not of the file, so it survives a change of format."""

    source: str
    sha256: str
    trained: bool


@dataclass(frozen=True)
class Model:
    """The model itself, the same in a portable model and in every bundle built from it.

    `classes` are in the order of the checkpoint's logits. `mean` and `std` are those of images scaled to 0..1; the
    graphs apply them. `trained_crops` is the number of crops the authors trained this backbone with, 0 for the
    resize-only architecture.
    """

    name: str
    architecture: str
    backbone: str
    embedding_dim: Annotated[int, AtLeast(1), AtMost(1 << 20)]
    classes: tuple[str, str]
    crop_size: Annotated[int, AtLeast(1), AtMost(1 << 14)]
    trained_crops: Annotated[int, AtLeast(0), AtMost(1 << 14)]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights: Weights

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise BundleInvalid(f"architecture: got {self.architecture!r}; expected one of {', '.join(ARCHITECTURES)}")
        if sorted(self.classes) != [FAKE, REAL]:
            raise BundleInvalid(f"classes: got {self.classes}; expected fake and real in the checkpoint's order")

    @property
    def roles(self) -> tuple[str, ...]:
        """The engines this model needs, by the view that they see."""
        return ("global", "local") if self.architecture == "glass" else ("global",)

    @property
    def fake_index(self) -> int:
        """Index of the AI-generated class among the logits."""
        return self.classes.index(FAKE)


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256 of one file of the folder."""

    size: Annotated[int, AtLeast(0)]
    sha256: str


@dataclass(frozen=True)
class Engine:
    """How a bundle's engines were compiled. `files` maps a role (`global`, `local`) to its engine file.

    `requirements` and `profile` are None for backends whose engines run wherever the backend does.
    """

    backend: Annotated[str, OneOf(tuple(BACKEND_PACKAGES))]
    precision: Annotated[str, OneOf(PRECISIONS)]
    device: Annotated[str, OneOf(("cpu", "cuda"))]
    max_batch: Annotated[int, AtLeast(1), AtMost(1 << 24)]
    files: Mapping[str, str]
    requirements: Requirements | None = None
    profile: Profile | None = None

    def __post_init__(self) -> None:
        _check_names(self.files.values())


@dataclass(frozen=True)
class Parity:
    """The parity gate's finding: `passed` with the worst figures, or `pending` where the engine could not run.

    `embedding` is the largest relative L2 distance of an embedding, `logits` the largest absolute difference.
    """

    status: Annotated[str, OneOf(("passed", "pending"))]
    embedding: float | None = None
    logits: float | None = None
    embedding_tolerance: float | None = None
    logits_tolerance: float | None = None


@dataclass(frozen=True)
class PortableManifest:
    """Manifest of a portable model. `graphs` maps a precision to its ONNX file per role.

    `precisions` says of precisions that are decided in the graph how they were arrived at.
    """

    model: Model
    graphs: Mapping[str, Mapping[str, str]]
    tools: Mapping[str, str]
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    precisions: Mapping[str, PrecisionReport] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_names(self.files)
        for graphs in self.graphs.values():
            _check_names(graphs.values())


@dataclass(frozen=True)
class BundleManifest:
    """Manifest of a bundle. `decision`: what its scores mean, where it was calibrated."""

    model: Model
    engine: Engine
    parity: Parity
    threshold: float
    tools: Mapping[str, str]
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    precision_report: PrecisionReport | None = None
    decision: Calibration | None = None

    def __post_init__(self) -> None:
        _check_names(self.files)
        check_threshold(self.threshold)


def to_json(manifest: PortableManifest | BundleManifest) -> dict[str, Any]:
    """The manifest as JSON values, schema and kind in front; a decision stands last, and has a schema of its own."""
    if isinstance(manifest, PortableManifest):
        return {"schema": SCHEMA, "kind": "portable", **asdict(manifest)}
    values = {"schema": SCHEMA, "kind": "bundle", **asdict(manifest)}
    del values[DECISION]
    return values if manifest.decision is None else with_decision(values, manifest.decision)


def with_decision(values: Mapping[str, Any], decision: Calibration) -> dict[str, Any]:
    """The JSON values of a manifest with this decision in place of the one that it had, if any."""
    return {**without_decision(values), "schema": SCHEMA_WITH_DECISION, DECISION: decision.to_json()}


def without_decision(values: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON values of a manifest as they were before it had a decision."""
    return {**{name: value for name, value in values.items() if name != DECISION}, "schema": SCHEMA}


def manifest_text(values: Mapping[str, Any]) -> str:
    """The JSON values of a manifest as they are written."""
    return json.dumps(values, indent=2) + "\n"


def content_sha256(manifest: str) -> str:
    """SHA-256 of what a bundle is without its decision, from the text of its manifest, which must be JSON.

    For a manifest without a decision it is that of `manifest.json` as glass-rt writes it.
    """
    return hashlib.sha256(manifest_text(without_decision(values_from_text(manifest))).encode()).hexdigest()


def portable_from_json(text: str, where: str = "manifest.json") -> PortableManifest:
    """Parses a portable model's manifest; raises BundleInvalid by `where` and the name of the field that is wrong."""
    return record_from_json(PortableManifest, _load(text, "portable", where), f"{where}: ")


def bundle_from_json(text: str, where: str = "manifest.json") -> BundleManifest:
    """Parses a bundle's manifest; raises BundleInvalid by `where` and the name of the field that is wrong."""
    values = _load(text, "bundle", where)
    decision = values.pop(DECISION, None)
    manifest = record_from_json(BundleManifest, values, f"{where}: ")
    if decision is None:
        return manifest
    return replace(manifest, decision=calibration_from_json(decision, f"{where}: {DECISION}", error=BundleInvalid))


def check_threshold(value: float) -> float:
    """A probability, 0..1."""
    if not 0 <= value <= 1:
        raise UsageError(f"threshold: got {value}; expected a probability, 0..1")
    return value


def manifest_values(text: str, where: str) -> dict[str, Any]:
    """The JSON values of a manifest of a schema that is read; no other field is looked at. Raises BundleInvalid."""
    try:
        values = values_from_text(text)
    except ValueError as error:
        raise BundleInvalid(f"{where} is not JSON: {error}") from None
    if not isinstance(values, dict) or "schema" not in values:
        raise BundleInvalid(f"{where} is not a glass-rt manifest: it has no schema")
    schema = values["schema"]
    if isinstance(schema, bool) or schema not in (SCHEMA, SCHEMA_WITH_DECISION):
        raise BundleInvalid(
            f"{where} has schema {schema!r:.60}; this glass-rt reads schemas {SCHEMA} and {SCHEMA_WITH_DECISION}. "
            "Rebuild the bundle with this version: glass-rt build"
        )
    return values


def _load(text: str, kind: Kind, where: str) -> dict[str, Any]:
    values = manifest_values(text, where)
    if values.get("kind") != kind:
        raise BundleInvalid(f"{where} describes a {values.get('kind')!r:.60}; expected a {kind!r}")
    expected = SCHEMA_WITH_DECISION if values.get(DECISION) is not None else SCHEMA
    if values["schema"] != expected or (kind == "portable" and DECISION in values):
        raise BundleInvalid(
            f"{where} has schema {values['schema']}: a bundle with a decision has schema {SCHEMA_WITH_DECISION}, "
            f"everything else {SCHEMA}"
        )
    if "files" not in values:
        raise BundleInvalid(f"{where}: files is missing")
    return values


def _check_names(names: Iterable[str]) -> None:
    """Raises BundleInvalid for a name that is not a relative path inside the folder."""
    for name in names:
        parts = name.split("/")
        if name.startswith("/") or "\\" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
            raise BundleInvalid(f"it names a file outside its folder: {name!r:.100}")

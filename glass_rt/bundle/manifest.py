"""What a portable model or a bundle says of itself: `manifest.json` as frozen dataclasses.

Manifests come from disk and are not trusted: every field is checked for its type and range on reading.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

from glass_rt.bundle.from_json import record_from_json
from glass_rt.bundle.precision_report import PrecisionReport
from glass_rt.bundle.requirements import Profile, Requirements
from glass_rt.errors import BundleInvalid, UsageError

SCHEMA = 1
ARCHITECTURES = ("glass", "resize")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
FAKE, REAL = "fake", "real"
Kind = Literal["portable", "bundle"]
RecordT = TypeVar("RecordT")


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
    embedding_dim: int
    classes: tuple[str, str]
    crop_size: int
    trained_crops: int
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

    size: int
    sha256: str


@dataclass(frozen=True)
class Engine:
    """How a bundle's engines were compiled. `files` maps a role (`global`, `local`) to its engine file.

    `requirements` and `profile` are None for backends whose engines run wherever the backend does.
    """

    backend: str
    precision: str
    device: str
    max_batch: int
    files: Mapping[str, str]
    requirements: Requirements | None = None
    profile: Profile | None = None


@dataclass(frozen=True)
class Parity:
    """The parity gate's finding: `passed` with the worst figures, or `pending` where the engine could not run.

    `embedding` is the largest relative L2 distance of an embedding, `logits` the largest absolute difference.
    """

    status: str
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


@dataclass(frozen=True)
class BundleManifest:
    """Manifest of a bundle."""

    model: Model
    engine: Engine
    parity: Parity
    threshold: float
    tools: Mapping[str, str]
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    precision_report: PrecisionReport | None = None


def to_json(manifest: PortableManifest | BundleManifest) -> dict[str, Any]:
    """The manifest as JSON values, with schema and kind in front."""
    kind = "bundle" if isinstance(manifest, BundleManifest) else "portable"
    return {"schema": SCHEMA, "kind": kind, **asdict(manifest)}


def portable_from_json(text: str) -> PortableManifest:
    """Parses a portable model's manifest; raises BundleInvalid by the name of the field that is wrong."""
    fields = _Fields(_load(text, "portable"), "")
    return PortableManifest(
        model=_model(fields.child("model")),
        graphs={
            precision: {role: _file_name(name) for role, name in fields.child("graphs").strings(precision).items()}
            for precision in fields.child("graphs").values
        },
        tools=fields.strings("tools"),
        files=_files(fields),
        precisions={
            precision: record_from_json(PrecisionReport, report, f"manifest.json: precisions.{precision}")
            for precision, report in fields.optional_child("precisions").items()
        },
    )


def bundle_from_json(text: str) -> BundleManifest:
    """Parses a bundle's manifest; raises BundleInvalid by the name of the field that is wrong."""
    fields = _Fields(_load(text, "bundle"), "")
    engine, parity = fields.child("engine"), fields.child("parity")
    return BundleManifest(
        model=_model(fields.child("model")),
        engine=Engine(
            backend=engine.text("backend"),
            precision=engine.choice("precision", PRECISIONS),
            device=engine.text("device"),
            max_batch=engine.integer("max_batch", low=1),
            files={role: _file_name(name) for role, name in engine.strings("files").items()},
            requirements=engine.optional_record("requirements", Requirements),
            profile=engine.optional_record("profile", Profile),
        ),
        parity=Parity(
            status=parity.choice("status", ("passed", "pending")),
            embedding=parity.optional_number("embedding"),
            logits=parity.optional_number("logits"),
            embedding_tolerance=parity.optional_number("embedding_tolerance"),
            logits_tolerance=parity.optional_number("logits_tolerance"),
        ),
        threshold=check_threshold(fields.number("threshold")),
        tools=fields.strings("tools"),
        files=_files(fields),
        precision_report=fields.optional_record("precision_report", PrecisionReport),
    )


def check_threshold(value: float) -> float:
    """A probability, 0..1."""
    if not 0 <= value <= 1:
        raise UsageError(f"threshold: got {value}; expected a probability, 0..1")
    return value


def _load(text: str, kind: Kind) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise BundleInvalid(f"manifest.json is not JSON: {error}") from None
    if not isinstance(values, dict) or "schema" not in values:
        raise BundleInvalid("manifest.json is not a glass-rt manifest: it has no schema")
    if values["schema"] != SCHEMA:
        raise BundleInvalid(
            f"manifest.json has schema {values['schema']}; this glass-rt reads schema {SCHEMA}. "
            "Rebuild the bundle with this version: glass-rt build"
        )
    if values.get("kind") != kind:
        raise BundleInvalid(f"manifest.json describes a {values.get('kind')!r}; expected a {kind!r}")
    return values


def _model(fields: _Fields) -> Model:
    weights = fields.child("weights")
    return Model(
        name=fields.text("name"),
        architecture=fields.text("architecture"),
        backbone=fields.text("backbone"),
        embedding_dim=fields.integer("embedding_dim", low=1),
        classes=fields.pair_of_text("classes"),
        crop_size=fields.integer("crop_size", low=1),
        trained_crops=fields.integer("trained_crops", low=0),
        mean=fields.triple("mean"),
        std=fields.triple("std"),
        weights=Weights(weights.text("source"), weights.text("sha256"), weights.boolean("trained")),
    )


def _files(fields: _Fields) -> dict[str, FileEntry]:
    files = fields.child("files")
    entries = {}
    for name in files.values:
        entry = files.child(name)
        entries[_file_name(name)] = FileEntry(entry.integer("size", low=0), entry.text("sha256"))
    return entries


def _file_name(name: str) -> str:
    """A relative path that stays inside the folder."""
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
        raise BundleInvalid(f"manifest.json names a file outside its folder: {name!r}")
    return name


@dataclass(frozen=True)
class _Fields:
    """Typed access to JSON values that names the field it trips over."""

    values: dict[str, Any]
    path: str

    def _get(self, key: str, expected: type | tuple[type, ...], what: str) -> Any:
        value = self.values.get(key)
        if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
            raise BundleInvalid(f"manifest.json: {self.path}{key} is {value!r:.60}; expected {what}")
        return value

    def child(self, key: str) -> _Fields:
        return _Fields(self._get(key, dict, "an object"), f"{self.path}{key}.")

    def text(self, key: str) -> str:
        return str(self._get(key, str, "a string"))

    def boolean(self, key: str) -> bool:
        return bool(self._get(key, bool, "true or false"))

    def integer(self, key: str, low: int) -> int:
        value = int(self._get(key, int, "an integer"))
        if value < low:
            raise BundleInvalid(f"manifest.json: {self.path}{key} is {value}; expected at least {low}")
        return value

    def number(self, key: str) -> float:
        return self._float(key, self._get(key, (int, float), "a number"))

    def _float(self, key: str, value: Any) -> float:
        try:
            return float(value)
        except OverflowError:  # JSON's integers have any length
            raise BundleInvalid(f"manifest.json: {self.path}{key} is {value!r:.60}; expected a number") from None

    def optional_child(self, key: str) -> dict[str, Any]:
        return {} if self.values.get(key) is None else self.child(key).values

    def optional_record(self, key: str, kind: type[RecordT]) -> RecordT | None:
        values = self.values.get(key)
        return None if values is None else record_from_json(kind, values, f"manifest.json: {self.path}{key}")

    def optional_number(self, key: str) -> float | None:
        return None if self.values.get(key) is None else self.number(key)

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.text(key)
        if value not in choices:
            raise BundleInvalid(f"manifest.json: {self.path}{key} is {value!r}; expected one of {', '.join(choices)}")
        return value

    def strings(self, key: str) -> dict[str, str]:
        child = self.child(key)
        return {name: child.text(name) for name in child.values}

    def pair_of_text(self, key: str) -> tuple[str, str]:
        values = self._get(key, list, "a list of two names")
        if len(values) != 2 or not all(isinstance(value, str) for value in values):
            raise BundleInvalid(f"manifest.json: {self.path}{key} is {values!r:.60}; expected two names")
        return values[0], values[1]

    def triple(self, key: str) -> tuple[float, float, float]:
        values = self._get(key, list, "a list of three numbers")
        if len(values) != 3 or not all(isinstance(value, (int, float)) for value in values):
            raise BundleInvalid(f"manifest.json: {self.path}{key} is {values!r:.60}; expected three numbers")
        first, second, third = (self._float(key, value) for value in values)
        return first, second, third

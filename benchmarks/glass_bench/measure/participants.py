"""The contenders of a benchmark: from bundles to a list of participants, each under a name of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from glass_bench.measure.contenders import AUTOCASTS, Contender
from glass_bench.measure.options import BenchOptions
from glass_rt.bundle.folder import read_manifest
from glass_rt.bundle.manifest import BundleManifest, Model, bundle_from_json
from glass_rt.errors import GlassError
from glass_rt.inference.engines import device_of


@dataclass(frozen=True)
class Participant:
    """A contender and its role in a benchmark. `variant_of`: the contender it repeats with another batch or workers."""

    contender: Contender
    role: str
    variant_of: str | None = None


def list_participants(options: BenchOptions) -> list[Participant]:
    """Engines and baselines first, then the PyTorch pipelines, the no-op engine, all tiles, and the variants."""
    names = unique_names([*options.engines, *options.baselines])
    sides = [(path, "engine") for path in options.engines] + [(path, "baseline") for path in options.baselines]
    bundles = [
        Participant(
            Contender(
                name,
                "engine",
                str(path),
                crops=options.crops,
                device=options.device,
                batch=options.batch,
                threads=options.threads,
                memory=options.memory,
            ),
            role,
        )
        for (path, role), name in zip(sides, names, strict=True)
    ]
    participants = list(bundles)
    if options.pytorch:
        participants += _pytorch(bundles, options)
    if options.noop:
        participants.append(_other(bundles[0], "no-op engine", kind="no-op"))
    if options.tiles:
        participants += [
            _other(bundle, "all tiles", sampling="tiles", crops=None) for bundle in bundles if _is_glass(bundle)
        ][:1]
    return participants + list(_variants(bundles, options))


def check_device(options: BenchOptions) -> None:
    """Raises UsageError where one of the bundles does not run on the device asked for; nothing is opened."""
    if options.device is None:
        return
    for path in (*options.engines, *options.baselines):
        manifest = _manifest(path)
        if manifest is not None:
            device_of(manifest, options.device)


def unique_names(paths: Sequence[Path]) -> list[str]:
    """The folders' last parts; where two are alike, as many parts as tell them apart."""
    depth = 1
    resolved = [path.resolve() for path in paths]
    while True:
        names = ["/".join(path.parts[-depth:]) for path in resolved]
        if len(set(names)) == len(names) or depth > max(len(path.parts) for path in resolved):
            break
        depth += 1
    return [name if names.count(name) == 1 else f"{name} #{index + 1}" for index, name in enumerate(names)]


def _pytorch(bundles: list[Participant], options: BenchOptions) -> list[Participant]:
    """One per model and autocast: two engines of the same weights have the same PyTorch pipeline."""
    participants, seen = [], set()
    for bundle in bundles:
        model = _model(bundle)
        if model is None or model.weights.sha256 in seen:
            continue
        seen.add(model.weights.sha256)
        checkpoint = _checkpoint_for(model, options.checkpoints)
        for precision in AUTOCASTS:
            label = "PyTorch fp32" if precision == "fp32" else "PyTorch bf16 autocast"
            participants.append(_other(bundle, label, kind="pytorch", precision=precision, checkpoint=checkpoint))
    return participants


def _variants(bundles: list[Participant], options: BenchOptions) -> Iterator[Participant]:
    for bundle in bundles:
        for batch in _batches(bundle, options.batches) if "batch" in options.sweeps else ():
            yield _variant(bundle, f"batch {batch}", batch=batch)
        for workers in options.workers if "workers" in options.sweeps else ():
            yield _variant(bundle, f"{workers} worker{'s' if workers > 1 else ''}", workers=workers)


def _other(bundle: Participant, label: str, **changes: object) -> Participant:
    name = f"{bundle.contender.name} [{label}]"
    return Participant(replace(bundle.contender, name=name, **changes), "other")  # type: ignore[arg-type]


def _variant(bundle: Participant, label: str, **changes: object) -> Participant:
    return replace(_other(bundle, label, **changes), role=bundle.role, variant_of=bundle.contender.name)


def _batches(bundle: Participant, batches: Sequence[int]) -> list[int]:
    """Those that the bundle takes."""
    manifest = _manifest(Path(bundle.contender.bundle))
    return [batch for batch in batches if manifest is None or batch <= manifest.engine.max_batch]


def _manifest(bundle: Path) -> BundleManifest | None:
    try:
        return bundle_from_json(read_manifest(bundle))
    except (GlassError, OSError):
        return None  # its own process will say what is wrong, by name


def _model(bundle: Participant) -> Model | None:
    manifest = _manifest(Path(bundle.contender.bundle))
    return None if manifest is None else manifest.model


def _is_glass(bundle: Participant) -> bool:
    model = _model(bundle)
    return model is not None and model.architecture == "glass"


def _checkpoint_for(model: Model, checkpoints: Sequence[Path]) -> str | None:
    """The checkpoint of that name, else the only one that was given; weights are compared when it is opened."""
    if not model.weights.trained:
        return None
    source = model.weights.source  # the name, and in brackets which of several models in the file was taken
    named = [path for path in checkpoints if source == path.name or source.startswith(f"{path.name} (")]
    if not named and len(checkpoints) == 1:
        named = list(checkpoints)
    return str(named[0]) if named else None

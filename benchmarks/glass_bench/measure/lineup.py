"""Which contenders a benchmark has: from bundles to a list of them, each under a name of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from glass_bench.measure.contenders import AUTOCASTS, Contender
from glass_bench.measure.options import BenchOptions
from glass_rt.bundle.folder import read_manifest
from glass_rt.bundle.manifest import BundleManifest, Model, bundle_from_json
from glass_rt.errors import GlassError


@dataclass(frozen=True)
class Place:
    """A contender's place in the line-up. `variant_of`: the contender it repeats with another batch or workers."""

    contender: Contender
    role: str
    variant_of: str | None = None


def line_up(options: BenchOptions) -> list[Place]:
    """Engines and baselines first, then the PyTorch pipelines, the no-op engine, all tiles, and the variants."""
    names = unique_names([*options.engines, *options.baselines])
    sides = [(path, "engine") for path in options.engines] + [(path, "baseline") for path in options.baselines]
    mains = [
        Place(
            Contender(name, "engine", str(path), crops=options.crops, batch=options.batch, threads=options.threads),
            role,
        )
        for (path, role), name in zip(sides, names, strict=True)
    ]
    places = list(mains)
    if options.pytorch:
        places += _pytorch(mains, options)
    if options.noop:
        places.append(_other(mains[0], "no-op engine", kind="no-op"))
    if options.tiles:
        places += [_other(main, "all tiles", sampling="tiles", crops=None) for main in mains if _is_glass(main)][:1]
    return places + list(_variants(mains, options))


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


def _pytorch(mains: list[Place], options: BenchOptions) -> list[Place]:
    """One per model and autocast: two engines of the same weights have the same PyTorch pipeline."""
    places, seen = [], set()
    for main in mains:
        model = _model(main)
        if model is None or model.weights.sha256 in seen:
            continue
        seen.add(model.weights.sha256)
        checkpoint = _checkpoint_for(model, options.checkpoints)
        for precision in AUTOCASTS:
            label = "PyTorch fp32" if precision == "fp32" else "PyTorch bf16 autocast"
            places.append(_other(main, label, kind="pytorch", precision=precision, checkpoint=checkpoint))
    return places


def _variants(mains: list[Place], options: BenchOptions) -> Iterator[Place]:
    for main in mains:
        for batch in _batches(main, options.batches) if "batch" in options.sweeps else ():
            yield _variant(main, f"batch {batch}", batch=batch)
        for workers in options.workers if "workers" in options.sweeps else ():
            yield _variant(main, f"{workers} worker{'s' if workers > 1 else ''}", workers=workers)


def _other(main: Place, label: str, **changes: object) -> Place:
    name = f"{main.contender.name} [{label}]"
    return Place(replace(main.contender, name=name, **changes), "other")  # type: ignore[arg-type]


def _variant(main: Place, label: str, **changes: object) -> Place:
    return replace(_other(main, label, **changes), role=main.role, variant_of=main.contender.name)


def _batches(main: Place, batches: Sequence[int]) -> list[int]:
    """Those that the bundle takes."""
    manifest = _manifest(main)
    return [batch for batch in batches if manifest is None or batch <= manifest.engine.max_batch]


def _manifest(main: Place) -> BundleManifest | None:
    try:
        return bundle_from_json(read_manifest(Path(main.contender.bundle)))
    except (GlassError, OSError):
        return None  # its own process will say what is wrong, by name


def _model(main: Place) -> Model | None:
    manifest = _manifest(main)
    return None if manifest is None else manifest.model


def _is_glass(main: Place) -> bool:
    model = _model(main)
    return model is not None and model.architecture == "glass"


def _checkpoint_for(model: Model, checkpoints: Sequence[Path]) -> str | None:
    """The checkpoint of that name, else the only one that was given; weights are compared when it is opened."""
    if not model.weights.trained:
        return None
    named = [path for path in checkpoints if path.name == model.weights.source]
    if not named and len(checkpoints) == 1:
        named = list(checkpoints)
    return str(named[0]) if named else None

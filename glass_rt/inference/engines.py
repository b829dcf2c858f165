"""A bundle's engines, opened on this machine."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import perf_counter

from glass_rt.backends import Backend, open_backend
from glass_rt.backends.base import Warms
from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.checked_files import EngineFile
from glass_rt.bundle.compatibility import check_machine
from glass_rt.bundle.manifest import BundleManifest
from glass_rt.errors import UsageError
from glass_rt.inference.engine_memory import engines_take
from glass_rt.inference.pending_parity import resolve_parity
from glass_rt.inference.room import check_engines_fit, check_next_engine_fits, most_views
from glass_rt.machine.device import device_for, is_cpu, kind_of, on_processor
from glass_rt.machine.environment import usable_cores
from glass_rt.machine.limits.memory import held_bytes
from glass_rt.options import RunOptions

log = logging.getLogger("glass_rt")


def open_engines(bundle: Bundle, run: RunOptions | None = None) -> dict[str, Backend]:
    """The bundle's engines by role, opened.

    Before a vendor's library reads them this machine is compared with what they require, and where parity is pending
    they pass the gate first. Raises BundleUnfit, BundleInvalid, ParityError, BackendError,
    MissingDependency, OutOfMemory, UsageError.
    """
    run = run or RunOptions()
    check_machine(bundle, run.device)
    engine, device = bundle.manifest.engine, device_of(bundle.manifest, run.device)
    batch = batch_for(bundle.manifest, run.batch, run.memory, run.device)
    check_engines_fit(bundle, batch, device, run.memory)
    expected = engines_take(bundle.manifest, batch, device, pinned=bundle.pinned)
    engines: dict[str, Backend] = {}
    before = held_bytes()
    try:
        for role in bundle.manifest.model.roles:
            for opened in engines:  # the one before, if any
                check_next_engine_fits(bundle, role, opened, held_bytes() - before, expected, run.memory)
            engines[role] = open_backend(
                engine.backend,
                engine_for(bundle, role, device),
                precision=engine.precision,
                device=device,
                threads=run.threads,
                cache=run.cache,
                batch=_fixed_batch(bundle.manifest, role, run.batch),
            )
        resolve_parity(bundle, engines, device)
    except BaseException:
        for engine_at_work in engines.values():
            engine_at_work.close()
        raise
    return engines


def device_of(manifest: BundleManifest, asked: str | None) -> str:
    """Where the engines run: the device asked for, else the one that they were built for.

    Raises UsageError where this backend's engines do not run there.
    """
    if asked is None:
        return manifest.engine.device
    return str(device_for(manifest.engine.backend, asked))


def _fixed_batch(manifest: BundleManifest, role: str, asked: int | None) -> int:
    """Views in each run of an engine whose device wants their number fixed: an image's, unless one is asked for."""
    if role == "global":
        return 1
    return asked or min(manifest.model.trained_crops or 1, manifest.engine.max_batch)


def engine_for(bundle: Bundle, role: str, device: str) -> EngineFile:
    """The engine that is opened for `role`: the compiled one, or for ONNX Runtime's other providers the graph before.

    What ONNX Runtime compiles for CPUs holds operators fused for them, which other providers do not all have; the
    portable graph is optimised for the provider when it is opened. Raises UsageError where the bundle has none:
    INT8 graphs are for CPUs alone.
    """
    engine = bundle.manifest.engine
    if engine.backend != "onnxruntime" or is_cpu(device) or not is_cpu(engine.device):
        return bundle.engine(role)
    if engine.precision == "int8":
        raise UsageError(
            "device: ONNX Runtime's INT8 engines run on CPUs; other providers lack their operators, and would copy "
            f"each of them to the CPU and back. Build one for {kind_of(device)}: --precision fp16, or fp32"
        )
    return bundle.portable_engine(engine.precision, role)


def warm_up(engines: Mapping[str, Backend]) -> None:
    """Has engines that compile for a batch size at its first run do so now, and logs how long it took.

    Raises BackendError.
    """
    for role, engine in engines.items():
        if not isinstance(engine, Warms):
            continue
        start = perf_counter()
        left = engine.warm()
        log.info(
            "the %s engine is warm after %.1f s; %d batch sizes are left to their first use",
            role, perf_counter() - start, left,
        )  # fmt: skip


def batch_for(manifest: BundleManifest, asked: int | None, memory: int | None = None, device: str | None = None) -> int:
    """Most views in one run of an engine.

    Raises UsageError for a device that the engines do not run on, or where the bundle does not take as many as were
    asked for. Unless one is asked for, a CPU gets as many as it has cores, 4 to 16: on two cores a view took as long in
    a batch of 4 as in one of 8 or 16, and every view in a batch costs memory, so that where that is short (`memory`:
    bytes that the user lets this process hold) it gets fewer, and has room for images. Other devices get all that their
    bundle allows.
    """
    most, where = manifest.engine.max_batch, device_of(manifest, device)
    if asked is not None:
        if not 1 <= asked <= most:
            raise UsageError(
                f"batch: got {asked}; this bundle takes 1..{most}. Rebuild with --max-batch, or lower --batch"
            )
        return asked
    if not on_processor(where):
        return most
    return most_views(manifest, min(most, max(4, min(usable_cores(), 16))), where, memory)

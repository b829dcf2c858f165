"""Bundles that this machine cannot run are refused before a vendor's library sees them; pending parity is settled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glass_rt.bundle import compatibility
from glass_rt.bundle.bundle import HEAD, REFERENCE, Bundle
from glass_rt.bundle.compatibility import misfit
from glass_rt.bundle.decision import remove_calibration
from glass_rt.bundle.folder import write_manifest
from glass_rt.bundle.manifest import BundleManifest, Engine, Model, Parity, Weights
from glass_rt.bundle.requirements import Profile, Requirements, Shapes
from glass_rt.errors import BundleUnfit, ParityError
from glass_rt.inference import pending_parity
from glass_rt.machine import device, environment
from glass_rt.machine.environment import Gpu
from tests.calibrations import calibrate

ADA = Gpu("NVIDIA L4", "580.65", "23034 MiB", "8.9")
NEEDS = Requirements("tensorrt_rtx", "1.7.1.116", "8.9", ("8.9",), False, "580")
ANYWHERE = replace(NEEDS, target="default", compute_capabilities=("8.0", "8.6", "8.9", "12.0", "12.1"), and_later=True)
TUNED = Requirements("tensorrt", "11.4.0", "default", ("8.9",), False, "580", "NVIDIA L4")


@pytest.mark.parametrize(
    ("requirements", "version", "gpu", "problem"),
    [
        (NEEDS, "1.7.1.116", ADA, None),
        (NEEDS, None, ADA, "which is not installed"),
        (NEEDS, "1.8.0.1", ADA, "tensorrt_rtx 1.8.0.1 is installed, and reads only its own"),
        (NEEDS, "1.7.1.116", None, "run on an NVIDIA GPU"),
        (NEEDS, "1.7.1.116", replace(ADA, compute_capability="8.6"), "for GPUs of SM 8.9; this NVIDIA L4 has SM 8.6"),
        (NEEDS, "1.7.1.116", replace(ADA, driver="535.104"), "needs the NVIDIA driver 580 or newer"),
        (NEEDS, "1.7.1.116", replace(ADA, compute_capability="[N/A]"), None),  # some Jetsons do not tell
        (ANYWHERE, "1.7.1.116", replace(ADA, compute_capability="9.0"), "for GPUs of SM 8.0, 8.6, 8.9, 12.0, 12.1 and"),
        (TUNED, "11.4.0", ADA, None),
        (TUNED, "11.4.0", replace(ADA, name="NVIDIA L40S"), "tuned on NVIDIA L4 and are bound to it; this machine has"),
        (ANYWHERE, "1.7.1.116", replace(ADA, compute_capability="12.1"), None),
        (
            ANYWHERE,
            "1.7.1.116",
            replace(ADA, compute_capability="7.5"),
            "for GPUs of SM 8.0, 8.6, 8.9, 12.0, 12.1 and later",
        ),
    ],
)
def test_misfits_are_named(
    requirements: Requirements, version: str | None, gpu: Gpu | None, problem: str | None
) -> None:
    found = misfit(requirements, version, gpu)
    assert found is None if problem is None else problem in str(found)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle of the resize-only architecture whose engine is a file that nobody reads."""
    from safetensors.numpy import save_file

    dim, generator = 6, np.random.default_rng(0)
    head = {
        "classifier.weight": generator.standard_normal((2, dim)).astype(np.float32),
        "classifier.bias": np.zeros(2, np.float32),
    }
    views = generator.integers(0, 256, (3, 8, 8, 3)).astype(np.float32)
    embeddings = generator.standard_normal((3, dim)).astype(np.float32)
    reference = {
        "global_views": views, "crops": np.empty((0, 8, 8, 3), np.uint8), "offsets": np.zeros(4, np.int64),
        "global_embeddings": embeddings, "logits": embeddings @ head["classifier.weight"].T,
    }  # fmt: skip
    folder = tmp_path / "bundle"
    folder.mkdir()
    save_file(head, folder / HEAD)
    save_file(reference, folder / REFERENCE)
    (folder / "global.plan").write_bytes(b"plan")
    model = Model(
        "m", "resize", "m", dim, ("fake", "real"), 8, 0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), Weights("x", "0", False)
    )
    profile = Profile("rtx", {"global": (Shapes(1, 1, 4),)})
    engine = Engine("tensorrt_rtx", "fp16", "cuda", 4, {"global": "global.plan"}, NEEDS, profile)
    write_manifest(folder, BundleManifest(model, engine, Parity("pending", None, None, 2e-3, 1e-2), 0.5, {}))
    return Bundle.open(folder)


class Answers:
    """An engine that gives the reference embeddings, or something else."""

    def __init__(self, bundle: Bundle, error: float = 0.0) -> None:
        reference = bundle.reference()
        self.rows = {
            view.tobytes(): row
            for view, row in zip(reference["global_views"], reference["global_embeddings"], strict=True)
        }
        self.error, self.runs = error, 0

    inputs = outputs = ()

    def run(self, feeds: Any) -> dict[str, Any]:
        self.runs += 1
        rows = np.stack([self.rows[view.tobytes()] for view in feeds["pixels"]])
        return {"embedding": rows * np.float32(1 + self.error)}

    def close(self) -> None:
        pass


def on(monkeypatch: pytest.MonkeyPatch, gpu: Gpu | None, version: str | None = "1.7.1.116") -> None:
    for module in (compatibility, device):
        monkeypatch.setattr(module, "gpus", lambda: (gpu,) if gpu else ())
    monkeypatch.setattr(environment, "installed", lambda name: version)


def test_another_gpu_is_refused_with_the_command_that_fixes_it(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, replace(ADA, compute_capability="8.6"))
    command = f"glass-rt build --from {bundle.folder} --backend tensorrt_rtx --precision fp16"
    with pytest.raises(BundleUnfit, match=r"SM 8\.6") as caught:
        compatibility.check_machine(bundle)
    assert command in str(caught.value)
    on(monkeypatch, ADA)
    compatibility.check_machine(bundle)
    with pytest.raises(BundleUnfit, match="none with that number"):
        compatibility.check_machine(bundle, "cuda:1")


def test_a_library_of_another_version_never_sees_the_engine() -> None:
    """In a process of its own: refusing loads no vendor library."""
    code = (
        "import sys, glass_rt.detector; print([m for m in sys.modules if m.startswith(('tensorrt', 'cuda', 'torch'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pending_parity_is_settled_once(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, ADA)
    engine = Answers(bundle, error=1e-3)
    parity = pending_parity.resolve_parity(bundle, {"global": engine})
    assert parity.status == "passed"
    assert parity.embedding == pytest.approx(1e-3, rel=1e-2)
    runs = engine.runs
    assert pending_parity.resolve_parity(bundle, {"global": engine}) == parity
    assert engine.runs == runs, "what is known is not measured again"
    assert pending_parity.known_parity(bundle) == parity
    assert Bundle.open(bundle.folder, every_file=True).sha256 == bundle.sha256


@pytest.mark.parametrize("change", [{"driver": "590.1"}, {"name": "NVIDIA L40S"}])
def test_on_another_machine_it_is_measured_again(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, change: dict[str, str]
) -> None:
    on(monkeypatch, ADA)
    engine = Answers(bundle)
    pending_parity.resolve_parity(bundle, {"global": engine})
    runs = engine.runs
    on(monkeypatch, replace(ADA, **change))
    pending_parity.resolve_parity(bundle, {"global": engine})
    assert engine.runs > runs


def test_engines_that_fail_the_gate_are_refused_every_time_and_it_is_noted(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, ADA)
    for _ in range(2):
        with pytest.raises(ParityError, match=r"(?s)does not compute what PyTorch computes on this GPU.*--from"):
            pending_parity.resolve_parity(bundle, {"global": Answers(bundle, error=3e-3)})
    record = json.loads((bundle.folder / pending_parity.RECORD).read_text())
    assert record["status"] == "failed"
    assert pending_parity.known_parity(bundle).status == "pending"


def test_a_forged_or_damaged_record_is_no_pass(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, ADA)
    (bundle.folder / "cache").mkdir()
    for text in ("{", '{"status": "passed"}', json.dumps({"status": "passed", "bundle_sha256": "0" * 64})):
        (bundle.folder / pending_parity.RECORD).write_text(text)
        with pytest.raises(ParityError):
            pending_parity.resolve_parity(bundle, {"global": Answers(bundle, error=1.0)})


def test_a_full_disk_leaves_no_half_a_record(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, mode: str) -> None:
        os.close(descriptor)
        raise OSError(28, "No space left on device")

    on(monkeypatch, ADA)
    monkeypatch.setattr(os, "fdopen", full)
    assert pending_parity.resolve_parity(bundle, {"global": Answers(bundle)}).status == "passed"
    assert list((bundle.folder / "cache").iterdir()) == []


def test_what_was_noted_of_parity_stays_when_the_bundle_is_calibrated(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, ADA)
    model = bundle.manifest.model
    trained = replace(bundle.manifest, model=replace(model, weights=replace(model.weights, trained=True)))
    write_manifest(bundle.folder, trained)
    opened = Bundle.open(bundle.folder)
    engine = Answers(opened)
    noted = pending_parity.resolve_parity(opened, {"global": engine})
    calibrate(bundle.folder)
    calibrated = Bundle.open(bundle.folder)
    assert calibrated.sha256 != opened.sha256
    runs = engine.runs
    assert pending_parity.resolve_parity(calibrated, {"global": engine}) == noted
    assert engine.runs == runs  # the gate was not passed again
    remove_calibration(bundle.folder)
    assert pending_parity.known_parity(Bundle.open(bundle.folder)) == noted

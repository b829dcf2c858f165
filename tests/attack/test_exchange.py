"""While a bundle's parts are exchanged, none but the pinned bundle is ever opened under its pin."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from glass_rt.bundle.bundle import HEAD, Bundle, load_tensors, save_tensors
from glass_rt.bundle.folder import write_manifest
from glass_rt.detector import Detector
from glass_rt.errors import BundleError
from tests.bench_zoo import write_bundle

TRIALS_VARIABLE = "GLASS_RT_ATTACK_TRIALS"
TRIALS = int(os.environ.get(TRIALS_VARIABLE, "140"))  # of each theme
THEMES = ("manifest", "engine", "head", "external_data", "all", "folder", "in_place")
RED = np.full((224, 224, 3), (200, 40, 40), np.uint8)


def write_opposite(folder: Path, *, evil: bool) -> Path:
    """A tiny bundle whose weights lie beside its graph; an evil one says the opposite, by each of its files alone."""
    write_bundle(folder, "resize", classes=("real", "fake") if evil else ("fake", "real"))
    manifest, graph = Bundle.open(folder).manifest, onnx.load(folder / "global.onnx")
    weights = graph.graph.initializer[0]
    values = np.frombuffer(weights.raw_data, np.float32).copy()
    (folder / "weights").mkdir()
    (folder / "weights" / "global.data").write_bytes((-values if evil else values).tobytes())
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="weights/global.data")
    if evil:
        graph.graph.node[1].op_type = "ReduceMin"
    (folder / "global.onnx").write_bytes(graph.SerializeToString())
    head = load_tensors(folder / HEAD)
    save_tensors(folder / HEAD, {name: -values if evil else values for name, values in head.items()})
    write_manifest(folder, manifest)
    return folder


@pytest.mark.attack
@pytest.mark.parametrize("theme", THEMES)
def test_only_the_pinned_bundle_is_opened(theme: str, tmp_path: Path) -> None:
    good, evil = write_opposite(tmp_path / "good", evil=False), write_opposite(tmp_path / "evil", evil=True)
    pin = Bundle.open(good).sha256
    with Detector.open(good, expect_bundle=pin) as detector:
        expected = (detector.manifest, detector.detect(RED).probabilities)
    script = Path(__file__).with_name("exchange.py")
    command = [sys.executable, str(script), theme, str(good), str(evil), "606"]
    opened, refused, chance = 0, 0, random.Random(606)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as attacker:
        try:
            assert attacker.stdout is not None
            assert attacker.stdout.readline() == "ready\n"
            for _ in range(TRIALS):
                try:
                    with Detector.open(good, expect_bundle=pin, threads=1) as detector:
                        opened += 1
                        assert (detector.manifest, detector.detect(RED).probabilities) == expected, (
                            "another was accepted"
                        )
                except BundleError:
                    refused += 1
                time.sleep(chance.random() * 1e-3)  # a refusal is quick: the next would meet the same state
            assert attacker.poll() is None, "the attack went on to the end"
        finally:
            attacker.kill()
    print(f"{theme}: {opened} opened, {refused} refused, 0 of another bundle accepted")
    assert refused

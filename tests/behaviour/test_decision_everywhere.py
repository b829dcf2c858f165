"""One decision, every surface: the same label, basis and id from the command line to the page."""

from __future__ import annotations

import csv
import importlib
import io
import json
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from glass_rt import DetectOptions, Detector, Verdict
from glass_rt.bundle.bundle import Bundle
from glass_rt.decision.calibration import Tier
from glass_rt.decision.tiers import TierRule
from glass_rt.results.decision_text import in_words
from glass_rt.results.overlay import panel_texts
from tests.bench_zoo import write_bundle, write_picture
from tests.calibrations import calibrate, tier
from tests.serving import Process, serve_process
from tests.support import Cli

RED, BLUE, GREY = (170, 90, 80), (80, 100, 160), (120, 120, 120)
FEW = "12 real images; 299 are needed"
Claim = tuple[str, str, str | None]  # label, basis, id


@dataclass(frozen=True)
class Case:
    """One image, how it is judged, and the label and basis that it must get."""

    bundle: str
    picture: str
    label: str
    basis: str
    options: dict[str, int] = field(default_factory=dict)

    @property
    def query(self) -> str:
        return "&".join(f"{name}={value}" for name, value in self.options.items())

    @property
    def detect_options(self) -> DetectOptions:
        return DetectOptions(**self.options)  # type: ignore[arg-type]  # crops and seed are numbers


CASES = [
    Case("untrained", "red.png", "none", "untrained"),
    Case("untrained", "blue.png", "none", "untrained", {"crops": 1}),
    Case("plain", "red.png", "fake", "threshold"),
    Case("plain", "blue.png", "real", "threshold"),
    Case("calibrated", "red.png", "fake", "calibrated"),
    Case("calibrated", "blue.png", "real", "calibrated"),
    Case("calibrated", "grey.png", "unsure", "calibrated"),  # between the thresholds
    Case("calibrated", "thumbnail.png", "unsure", "calibrated"),  # a tier without thresholds
    Case("calibrated", "red.png", "unsure", "calibrated", {"crops": 1}),  # calibrated for another K
    Case("calibrated", "red.png", "fake", "calibrated", {"seed": 7}),  # without its guarantee
]
IDS = [f"{case.bundle} {case.picture} {case.query}".strip() for case in CASES]


@dataclass(frozen=True)
class World:
    """Pictures and bundles, and a server of each bundle."""

    folder: Path
    servers: dict[str, Process]

    def bundle(self, case: Case) -> Path:
        return self.folder / "bundles" / case.bundle

    def picture(self, case: Case) -> Path:
        return self.folder / case.picture


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("everywhere")
    for name, colour in (("red", RED), ("blue", BLUE), ("grey", GREY)):
        write_picture(folder / f"{name}.png", colour, 640, 480)
    write_picture(folder / "thumbnail.png", RED, 90, 80)
    for name in ("untrained", "plain", "calibrated"):
        write_bundle(folder / "bundles" / name, trained=name != "untrained")
    small = Tier("thumbnail", TierRule(longer_below=256), reason=FEW)
    calibrate(folder / "bundles" / "calibrated", small, tier("the rest", 0.505, 0.495))
    with ExitStack() as stack:
        servers = {}
        for name in ("untrained", "plain", "calibrated"):
            (folder / name).mkdir()
            bundle = folder / "bundles" / name
            servers[name] = stack.enter_context(serve_process(bundle, folder / name, "--grpc-port", "0"))
        yield World(folder, servers)


def of_json(verdict: Any) -> Claim:
    return verdict["label"], verdict["decision"]["basis"], verdict["decision"]["id"]


def of_row(row: Any) -> Claim:
    return row["label"], row["basis"], row["decision_id"] or None


def detected(world: World, case: Case) -> Verdict:
    with Detector.open(world.bundle(case)) as detector:
        return detector.detect(world.picture(case), case.detect_options)


def infer(cli: Cli, world: World, case: Case, *more: object) -> str:
    options = [f"--{name}={value}" for name, value in case.options.items()]
    done = cli("infer", world.picture(case), "--engine", world.bundle(case), *options, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_table(cli: Cli, world: World, case: Case) -> Claim:
    """The screen has the label, and below it the ground in words; in those words stands the id."""
    lines = infer(cli, world, case).splitlines()
    verdict = detected(world, case)
    assert [line.strip() for line in lines][2 : 2 + len(in_words(verdict.decision))] == list(in_words(verdict.decision))
    assert {"FAKE", "REAL"}.isdisjoint(" ".join(lines).split()) or case.basis != "untrained"
    found = verdict.decision.id
    assert (found or "calibration") in "".join(lines) or found is None
    return lines[0].split()[0].lower(), verdict.decision.basis, found


def by_json(cli: Cli, world: World, case: Case) -> Claim:
    return of_json(json.loads(infer(cli, world, case, "--json")))


def by_json_lines(cli: Cli, world: World, case: Case) -> Claim:
    return of_json(json.loads(infer(cli, world, case, "--jsonl")))


def by_csv(cli: Cli, world: World, case: Case) -> Claim:
    (row,) = csv.DictReader(io.StringIO(infer(cli, world, case, "--csv")))
    return of_row(row)


def by_parquet(cli: Cli, world: World, case: Case) -> Claim:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = world.folder / f"{IDS[CASES.index(case)].replace(' ', '-')}.parquet"
    infer(cli, world, case, "--output", path)
    (row,) = parquet.read_table(path).to_pylist()
    return of_row(row)


def by_bulk(_cli: Cli, world: World, case: Case) -> Claim:
    pa = pytest.importorskip("pyarrow")
    from glass_rt.bulk.worker import BulkWorker

    with BulkWorker(world.bundle(case), case.detect_options) as worker:
        (row,) = worker.judge_table(pa.table({"path": [str(world.picture(case))]})).to_pylist()
    return of_row(row)


def by_http(_cli: Cli, world: World, case: Case) -> Claim:
    response = world.servers[case.bundle].post(world.picture(case).read_bytes(), f"?{case.query}")
    assert response.status == 200
    return of_json(response.json)


def by_v2(binary: bool) -> Callable[[Cli, World, Case], Claim]:
    def ask(_cli: Cli, world: World, case: Case) -> Claim:
        image = world.picture(case).read_bytes()
        tensor = struct.pack("<I", len(image)) + image
        request = {
            "inputs": [
                {"name": "image", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": len(tensor)}}
            ],
            "parameters": {**case.options, "binary_data_output": binary},
            "outputs": [{"name": "label"}, {"name": "verdict"}],
        }
        header = json.dumps(request).encode()
        response = world.servers[case.bundle].ask(
            "POST",
            f"/v2/models/{case.bundle}/infer",
            header + tensor,
            {"Inference-Header-Content-Length": str(len(header))},
        )
        assert response.status == 200, response.body
        if not binary:
            (label,), (verdict,) = (output["data"] for output in response.json["outputs"])
        else:
            length = int(response.headers["inference-header-content-length"])
            label, verdict = elements(response.body[length:])
        found = of_json(json.loads(verdict))
        assert found[0] == (label if isinstance(label, str) else label.decode())
        return found

    return ask


def elements(data: bytes) -> list[bytes]:
    found = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found


def by_grpc(_cli: Cli, world: World, case: Case) -> Claim:
    triton = pytest.importorskip("tritonclient.grpc")
    client = triton.InferenceServerClient(world.servers[case.bundle].grpc)
    tensor = triton.InferInput("image", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[world.picture(case).read_bytes()]], np.object_))
    result = client.infer(case.bundle, [tensor], parameters=case.options)
    client.close()
    found = of_json(json.loads(result.as_numpy("verdict").item()))
    assert found[0].encode() == result.as_numpy("label").item()
    return found


def by_triton(_cli: Cli, world: World, case: Case) -> Claim:
    """Triton's model class, with the few names of Triton's own module that it uses; `make triton-check` has the rest."""
    module: Any = ModuleType("triton_python_backend_utils")
    module.Tensor = lambda name, array: SimpleNamespace(name=lambda: name, as_numpy=lambda: array)
    module.InferenceResponse = lambda tensors=(), error=None: SimpleNamespace(tensors=list(tensors), error=error)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        patch.delitem(sys.modules, "glass_rt.serve.triton.model", raising=False)
        model_module = importlib.import_module("glass_rt.serve.triton.model")
        model = model_module.TritonPythonModel()
        with pytest.MonkeyPatch.context() as beside:
            place = world.folder / "triton" / case.bundle
            place.mkdir(parents=True, exist_ok=True)
            if not (place / "bundle").exists():
                (place / "bundle").symlink_to(world.bundle(case))
            beside.setattr(model_module, "__file__", str(place / "model.py"))
            pin = {"bundle_sha256": {"string_value": Bundle.open(world.bundle(case)).sha256}}
            config = json.dumps({"instance_group": [{"count": 1}], "parameters": pin})
            model.initialize({"model_config": config, "model_instance_kind": "CPU", "model_instance_device_id": "0"})
        image = np.array([[world.picture(case).read_bytes()]], np.object_)
        request = SimpleNamespace(
            inputs=lambda: [SimpleNamespace(name=lambda: "image", as_numpy=lambda: image)],
            parameters=lambda: json.dumps(case.options),
        )
        (response,) = model.execute([request])
        model.finalize()
        sys.modules.pop("glass_rt.serve.triton.model", None)
    tensors = {tensor.name(): tensor.as_numpy() for tensor in response.tensors}
    found = of_json(json.loads(tensors["verdict"].item()))
    assert found[0].encode() == tensors["label"].item()
    return found


def by_picture(cli: Cli, world: World, case: Case) -> Claim:
    """The texts of the evidence picture that `infer --overlay` writes, which are drawn from the verdict alone."""
    infer(cli, world, case, "--overlay", world.folder / "drawn")
    verdict = detected(world, case)
    headline, ground, *_ = (text for text, *_ in panel_texts(verdict))
    assert ground == in_words(verdict.decision)[0]
    label = headline.split()[0].lower() if "   " in headline else "none"
    return label, verdict.decision.basis, verdict.decision.id


SURFACES: dict[str, Callable[[Cli, World, Case], Claim]] = {
    "table": by_table,
    "json": by_json,
    "jsonl": by_json_lines,
    "csv": by_csv,
    "parquet": by_parquet,
    "bulk": by_bulk,
    "http": by_http,
    "v2 json": by_v2(binary=False),
    "v2 binary": by_v2(binary=True),
    "grpc": by_grpc,
    "triton": by_triton,
    "picture": by_picture,
}


@pytest.mark.slow  # three servers, and a bulk worker for every case
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_every_surface_has_the_same_label_basis_and_id(cli: Cli, world: World, case: Case) -> None:
    decision = Bundle.open(world.bundle(case)).manifest.decision
    expected = (case.label, case.basis, decision.id if decision and case.basis == "calibrated" else None)
    found = {name: ask(cli, world, case) for name, ask in SURFACES.items()}
    assert found == dict.fromkeys(SURFACES, expected)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_guarantee_stands_beside_the_labels_that_have_one(tmp_path: Path, case: Case) -> None:
    bundle = write_bundle(tmp_path / "bundle", trained=case.bundle != "untrained")
    small = Tier("thumbnail", TierRule(longer_below=256), reason=FEW)
    if case.bundle == "calibrated":
        calibrate(bundle, small, tier("the rest", 0.505, 0.495))
    size = (90, 80) if case.picture.startswith("thumb") else (640, 480)
    colour = {"red": RED, "blue": BLUE, "grey": GREY}.get(case.picture.split(".")[0], RED)
    picture = write_picture(tmp_path / case.picture, colour, *size)
    with Detector.open(bundle) as detector:
        verdict = detector.detect(picture, case.detect_options)
        overridden = detector.detect(picture, DetectOptions(threshold=0.0))
    decision = verdict.decision
    assert (verdict.label, decision.basis) == (case.label, case.basis)
    sound = case.bundle == "calibrated" and not case.options and case.picture != "thumbnail.png"
    assert (decision.guarantee is not None) == sound
    assert (decision.probability is not None) == (case.bundle == "calibrated" and "crops" not in case.options)
    assert (decision.reason is None) == (sound and case.label != "unsure")
    # Whatever the bundle says, a threshold of the caller's overrides it; untrained weights get no label even then.
    expected = ("none", "untrained") if case.bundle == "untrained" else ("fake", "threshold")
    assert (overridden.label, overridden.decision.basis) == expected
    assert overridden.decision.guarantee is None

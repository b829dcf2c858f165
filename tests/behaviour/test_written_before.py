"""Bundles, journals, bulk jobs and Triton repositories that were written before the modules moved still work."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from glass_rt import Detector
from tests.support import Cli

BEFORE = Path(__file__).with_name("written_before")
BUNDLE_SHA256 = "c373bc759a90a089812921949a2bc0f721fa1ef0d8c1e784915f2829a932c1fe"


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A copy of all that was written, with the Triton repository made whole again."""
    folder = tmp_path / "before"
    shutil.copytree(BEFORE, folder)
    shutil.copytree(folder / "bundle", folder / "models" / "bundle" / "1" / "bundle")
    return folder


def test_an_old_bundle_opens_passes_its_gate_and_judges_as_it_did(cli: Cli, before: Path) -> None:
    assert "4 files as listed" in cli("verify", before / "bundle", "--expect-bundle", BUNDLE_SHA256).stdout
    then = json.loads((before / "journal.jsonl").read_text().splitlines()[0])
    with Detector.open(before / "bundle", expect_bundle=BUNDLE_SHA256) as detector:
        now = json.loads(json.dumps(detector.detect(before / then["path"]).to_json()))
    assert (then.pop("schema"), now.pop("schema")) == (1, 2)
    assert then.pop("threshold") == now["decision"]["threshold"]
    assert then.pop("notices") == now.pop("notices")[1:]  # the first says that the bundle is not calibrated
    for added in ("decision", "calibrated_probability_fake", "jpeg_quality"):
        del now[added]
    for changing in ("timings_ms", "runtime", "path"):
        del then[changing], now[changing]
    assert now == then


@pytest.mark.parametrize("name", ["journal.jsonl", "journal.csv", "journal.parquet", "cut.parquet"])
def test_an_old_journal_is_resumed(cli: Cli, before: Path, name: str) -> None:
    arguments = ("infer", "pictures", "--engine", "bundle", "--output", name, "--resume")
    done = cli(*arguments, cwd=before)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 judged" in done.stderr.splitlines()  # 2 were there
    rows = rows_of(before / name)
    assert sorted(row["path"] for row in rows) == [f"pictures/{number}.png" for number in range(4)]
    assert {row["label"] for row in rows} <= {"fake", "real"}
    # Those of before have no decision; a CSV file keeps the columns that it began with.
    bases = [row.get("basis") or (row.get("decision") or {}).get("basis") for row in rows]
    assert bases == ([None] * 4 if name.endswith("csv") else [None, None, "threshold", "threshold"])


def rows_of(journal: Path) -> list[dict[str, Any]]:
    if journal.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        return list(parquet.read_table(journal).to_pylist())
    with journal.open(newline="") as file:
        return list(csv.DictReader(file)) if journal.suffix == ".csv" else [json.loads(line) for line in file]


@pytest.mark.ray
def test_an_old_bulk_job_is_resumed(process_cli: Cli, before: Path) -> None:
    pytest.importorskip("ray")
    parquet = pytest.importorskip("pyarrow.parquet")
    old_part = (before / "job" / "part-000000.parquet").read_bytes()
    sources = "/photos/pictures"  # of the machine that began: here they are missing, which is said of each
    done = process_cli("bulk", sources, "--output", "job", "--engine", "bundle", "--resume", cwd=before)
    assert done.returncode == 1, done.stderr
    assert "4 images (2 before), 2 judged" in done.stderr
    assert (before / "job" / "part-000000.parquet").read_bytes() == old_part
    table = parquet.read_table(before / "job" / "part-000001.parquet")
    assert table.column("path").to_pylist() == [f"{sources}/2.png", f"{sources}/3.png"]
    assert table.column("error_kind").to_pylist() == ["not_readable", "not_readable"]
    assert table.schema.equals(parquet.read_table(before / "job" / "part-000000.parquet").schema)


@pytest.fixture
def triton_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The few names of Triton's own module that a model uses; the module exists inside the server alone.

    The real server is started by `make triton-check`.
    """
    module: Any = ModuleType("triton_python_backend_utils")
    module.Tensor = lambda name, array: SimpleNamespace(name=lambda: name, as_numpy=lambda: array)
    module.InferenceResponse = lambda tensors=(), error=None: SimpleNamespace(tensors=list(tensors), error=error)
    module.TritonError = lambda message, code=None: SimpleNamespace(message=message)
    module.TritonError.INTERNAL, module.TritonError.INVALID_ARG = 1, 2
    monkeypatch.setitem(sys.modules, module.__name__, module)
    yield
    sys.modules.pop("old_model", None)


@pytest.mark.usefixtures("triton_names")
def test_a_model_of_an_old_triton_repository_loads_and_answers(before: Path) -> None:
    folder = before / "models" / "bundle"
    spec = importlib.util.spec_from_file_location("old_model", folder / "1" / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.TritonPythonModel()
    config = {"instance_group": [{"count": 1}], "parameters": {"bundle_sha256": {"string_value": BUNDLE_SHA256}}}
    model.initialize({"model_config": json.dumps(config), "model_instance_kind": "CPU"})
    image = np.array([[(before / "pictures" / "0.png").read_bytes()]], np.object_)
    tensor = SimpleNamespace(name=lambda: "image", as_numpy=lambda: image)
    request = SimpleNamespace(inputs=lambda: [tensor], parameters=lambda: "{}")
    (response,) = model.execute([request])
    model.finalize()
    assert response.error is None
    found = {tensor.name(): tensor.as_numpy() for tensor in response.tensors}
    assert found["label"].tolist() == [[b"fake"]]


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("glass_rt", ("Detector", "DetectOptions", "Verdict", "Failure", "GlassError", "CropEvidence")),
        ("glass_rt.file_names", ("name_from_text", "text_from_name")),
        ("glass_rt.bulk.worker", ("BulkWorker",)),
        ("glass_rt.bulk.rows", ("SCHEMA",)),
    ],
)
def test_names_that_were_promised_import_and_stand_in_an_all(module: str, names: tuple[str, ...]) -> None:
    if module.startswith("glass_rt.bulk"):
        pytest.importorskip("pyarrow")
    imported = importlib.import_module(module)
    assert set(names) <= set(imported.__all__)
    assert all(hasattr(imported, name) for name in names)


@pytest.mark.parametrize("module", ["glass_rt.environment", "glass_rt.triton_server.answers"])
def test_modules_that_old_triton_repositories_import_are_there(module: str) -> None:
    assert importlib.import_module(module)

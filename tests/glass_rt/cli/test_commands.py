"""The other commands, and what all of them have in common."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.folder import write_manifest
from glass_rt.bundle.precision_report import Drift, PrecisionReport, RangeReport
from tests.bench_zoo import write_bundle
from tests.support import Bundles, Cli

COMMANDS = ("build", "export", "infer", "inspect", "verify", "doctor")


def test_help_lists_the_commands_and_each_explains_itself(cli: Cli) -> None:
    listing = cli("--help")
    assert listing.returncode == 0
    for command in COMMANDS:
        assert f"  {command} " in listing.stdout
        detail = cli(command, "--help")
        assert detail.returncode == 0
        assert detail.stdout.startswith(f"Usage: glass-rt {command}")


def test_version_names_the_backends(process_cli: Cli) -> None:
    done = process_cli("--version")
    assert done.stdout.startswith("glass-rt 0.")
    assert "onnxruntime: onnxruntime" in done.stdout


def test_shell_completion_is_there() -> None:
    environment = {**os.environ, "_GLASS_RT_COMPLETE": "bash_source"}
    done = subprocess.run(
        [
            Path(sys.executable).with_name("glass-rt"),
        ],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "complete" in done.stdout


def test_doctor_reports_and_finds_no_fault_here(process_cli: Cli) -> None:
    done = process_cli("doctor", "--json")
    report = json.loads(done.stdout)
    assert report["backends"]["onnxruntime"].startswith("onnxruntime")
    assert report["cores"] >= 1
    assert (done.returncode == 0) == (report["problems"] == [])
    assert "Backends" in process_cli("doctor").stdout


def test_build_infer_inspect_and_verify_from_an_empty_folder(
    cli: Cli, tmp_path: Path, pictures: tuple[Path, ...]
) -> None:
    built = cli("build", "--backbone", "mobilenet_v3_small", "--crops", 3, "--json", cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    manifest = json.loads(built.stdout)
    assert manifest["model"]["trained_crops"] == 3
    assert manifest["parity"]["status"] == "passed"
    assert "tracing the global engine (fp32) ..." in built.stderr
    judged = cli("infer", pictures[0], "--json", cwd=tmp_path)
    assert len(json.loads(judged.stdout)["crops"]) == 3
    shown = json.loads(cli("inspect", "--json", cwd=tmp_path).stdout)
    assert shown["bundle_sha256"] == manifest["bundle_sha256"]
    assert "UNTRAINED WEIGHTS" in cli("inspect", cwd=tmp_path).stdout
    verified = cli("verify", "--json", cwd=tmp_path)
    assert json.loads(verified.stdout)["status"] == "passed"
    again = cli("build", "--backbone", "mobilenet_v3_small", cwd=tmp_path)
    assert again.returncode == 1
    assert "exists already; --force replaces it" in again.stderr


def test_inspect_shows_what_int8_cost(cli: Cli, tmp_path: Path) -> None:
    bundle = Bundle.open(write_bundle(tmp_path / "tiny"))
    report = PrecisionReport("onnxruntime on 5 images kept out", 0.14, 0.2, ranges={})
    write_manifest(bundle.folder, replace(bundle.manifest, precision_report=report))
    shown = cli("inspect", bundle.folder)
    assert shown.returncode == 0, shown.stderr
    assert "costs 1.4e-01 (relative L2) of embeddings, 2.0e-01 of logits, by onnxruntime on 5 images" in shown.stdout


def test_inspect_shows_what_half_sums_would_cost(cli: Cli, tmp_path: Path) -> None:
    bundle = Bundle.open(write_bundle(tmp_path / "tiny"))
    ranges = {"global": RangeReport(8, "seeded views", 16376.0, 1.5, "conv", 240.0, "relu", ("layer1",), (), 20)}
    report = PrecisionReport("PyTorch on the CPU", 1.2e-3, 2e-3, ranges, Drift(2.6e-3, 3e-3))
    write_manifest(bundle.folder, replace(bundle.manifest, precision_report=report))
    shown = cli("inspect", bundle.folder)
    assert shown.returncode == 0, shown.stderr
    assert (
        "by PyTorch on the CPU; 2.6e-03 if summed in half; largest value 240, 1 units kept in float32" in shown.stdout
    )
    assert Bundle.open(bundle.folder).manifest.precision_report == report


@pytest.mark.slow
def test_a_portable_model_becomes_a_bundle(cli: Cli, tmp_path: Path) -> None:
    exported = cli("export", "--backbone", "resnet18", "--architecture", "resize", "--output", "model", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    built = cli("build", "--from", "model", "--slim", "--max-batch", 4, cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    bundle = Bundle.open(tmp_path / "bundles" / "resnet18_resize", every_file=True)
    assert bundle.manifest.engine.max_batch == 4
    clash = cli("build", "--from", "model", "--backbone", "resnet18", cwd=tmp_path)
    assert clash.returncode == 2
    assert "--backbone: cannot be chosen with --from" in clash.stderr


def test_verify_finds_an_altered_file(cli: Cli, bundles: Bundles, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundles("mobilenet_v3_small").folder, tmp_path / "copy"))
    graph = copy / "model" / "global.fp32.onnx"
    graph.write_bytes(graph.read_bytes() + b"\0")
    done = cli("verify", copy)
    assert done.returncode == 1
    assert "global.fp32.onnx" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["build"], 2, "backbone: needed"),
        (["build", "--backbone", "vgg16"], 2, "expected one of vit_b16"),
        (["build", "--backbone", "resnet18", "--backend", "onnxruntime", "--precision", "bf16"], 2, "precision"),
        (["build", "--weights", "absent.pt"], 1, "no such checkpoint"),
        (["build", "--from", "absent"], 1, "no such folder"),
        (["build", "--backbone", "resnet18", "--classes", "cat,dog"], 2, "classes"),
        (["export", "--backbone", "resnet18"], 2, "--output"),
        (["inspect", "absent"], 1, "no such folder"),
        (["verify", "absent"], 1, "no such folder"),
    ],
)
def test_mistakes_are_answered_with_one_line(
    cli: Cli, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    done = cli(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def start_build(folder: Path, source: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "glass_rt", "build", "--from", str(source), "--output", "out/bundle", "--force"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def built(bundles: Bundles, tmp_path: Path) -> Path:
    """A working folder with a bundle `out/bundle` in it."""
    shutil.copytree(bundles("resnet18").folder, tmp_path / "out" / "bundle")
    return tmp_path


@pytest.mark.slow
def test_ctrl_c_during_a_build_leaves_the_previous_bundle(built: Path, bundles: Bundles) -> None:
    before = Bundle.open(built / "out" / "bundle").sha256
    process = start_build(built, bundles("resnet18").folder)
    deadline = time.monotonic() + 60
    while not list((built / "out").glob(".bundle.partial-*/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors, errors
    assert "Traceback" not in errors
    assert [path.name for path in (built / "out").iterdir()] == ["bundle"]
    assert Bundle.open(built / "out" / "bundle", every_file=True).sha256 == before


@pytest.mark.slow
def test_a_full_disk_during_a_build_leaves_the_previous_bundle(built: Path, bundles: Bundles) -> None:
    """A limit on the size of files stands for the full disk: writing past it fails in the same places."""
    before = Bundle.open(built / "out" / "bundle").sha256
    command = [sys.executable, "-m", "glass_rt", "build", "--from", str(bundles("resnet18").folder)]
    done = subprocess.run(
        [*command, "--output", "out/bundle", "--force"],
        cwd=built,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, 20_000_000)),
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert [path.name for path in (built / "out").iterdir()] == ["bundle"]
    assert Bundle.open(built / "out" / "bundle", every_file=True).sha256 == before


def test_a_closed_pipe_is_no_traceback(bundles: Bundles, pictures: tuple[Path, ...]) -> None:
    files = " ".join(f"'{path}'" for path in pictures)
    line = (
        f"{sys.executable} -m glass_rt infer {files} --jsonl --engine '{bundles('mobilenet_v3_small').folder}' | true"
    )
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    ("typed", "meant"), [("infr", "; did you mean infer?"), ("benhc", "; did you mean bench?"), ("xyz", ".")]
)
def test_an_unknown_command_is_refused_with_the_nearest_name(typed: str, meant: str, cli: Cli) -> None:
    done = cli(typed, "image.png")
    assert done.returncode == 2
    assert f"No such command '{typed}'{meant}\n" in done.stderr

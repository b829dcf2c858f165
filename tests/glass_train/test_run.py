"""`glass-rt train` and `glass-rt card` from pictures to card: killed, in two processes, quick, and with bad input."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from glass_export.backbones import find_backbone
from glass_export.model import build_model, checkpoint_module
from glass_train.finish.card import card_of_manifest
from glass_train.loop.files import BEST, LAST, read_checkpoint_file
from glass_train.options import TrainOptions
from glass_train.run import start_run
from safetensors import safe_open
from safetensors.torch import save_file

from glass_rt.bundle.bundle import Bundle
from glass_rt.errors import CheckpointError, LabelsInvalid, TrainingError, UsageError
from tests.bench_zoo import write_bundle, write_picture
from tests.calibrations import calibrate
from tests.glass_train import killed_runs
from tests.support import Cli

FAST = ("--weights", "none", "--epochs", "2", "--batch", "4", "--crops", "2", "--device", "cpu", "--threads", "1",
        "--learning-rates", "0.01,0.01,0.01", "--tiers", "clean")  # fmt: skip


def options(data: Path, **changes: object) -> TrainOptions:
    base = TrainOptions(str(data), "tiny_norm", weights="none", epochs=1, batch=4, crops=2, device="cpu", threads=1,
                        tiers=("clean",), workers=1, bundle=False)  # fmt: skip
    return TrainOptions.from_json({**base.to_json(), **changes})


def in_a_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.glass_train.tiny", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def losses(run: Path) -> list[float]:
    with (run / "steps.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_from_pictures_to_a_bundle_and_its_card(pictures_to_train_on: Path, cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = cli("train", pictures_to_train_on, "--backbone", "tiny_norm", "--output", run, "--epochs", 12, *FAST[:2],
               *FAST[4:])  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "epoch 12/12" in done.stderr
    assert "test:    AUC 1.000 (1.000 to 1.000) on 12 images as they are\n" in done.stdout
    record, card = (json.loads((run / name).read_text()) for name in ("run.json", "card.json"))
    assert record["data"]["sha256"] == card["data"]["sha256"]
    assert torch.__version__.startswith(record["versions"]["torch"])
    assert card["data"]["parts"]["train"] == {"fake": 6, "real": 6, "groups": 12}
    everything = card["test"]["rows"][0]
    assert (everything["what"], everything["tier"], everything["fake"], everything["real"]) == ("all", "clean", 6, 6)
    assert everything["auc"]["value"] == 1.0  # red is fake
    with safe_open(run / BEST, "pt") as file:
        assert json.loads(file.metadata()["glass_train"])["data_sha256"] == card["data"]["sha256"]
    shown = cli("card", "--engine", run / "bundle")
    assert shown.stdout == (run / "card.md").read_text()
    assert "told apart from chance: all (clean)" in shown.stdout
    assert json.loads(cli("card", "--engine", run / "bundle", "--json").stdout) == card
    judged = cli("infer", "--engine", run / "bundle", pictures_to_train_on / "test" / "fake", "--json")
    assert judged.returncode == 0
    again = cli("train", "--resume", "--output", run)
    assert again.returncode == 0
    assert json.loads((run / "card.json").read_text()) == card
    refused = cli("train", pictures_to_train_on, "--backbone", "tiny_norm", "--output", run, *FAST)
    assert "holds a run already: --resume goes on with it" in refused.stderr
    refused = cli("train", "--resume", "--output", run, "--epochs", 9)
    assert "--epochs: a run goes on with the options it began with (12)" in refused.stderr
    labelled = cli("calibrate", pictures_to_train_on / "test", "--engine", run / "bundle", "--fpr", 0.5, "--fnr", 0.5,
                   "--report", tmp_path / "report")  # fmt: skip
    assert labelled.returncode == 0, labelled.stderr
    calibrated = cli("card", "--engine", run / "bundle").stdout
    assert "- decision: calibrated after the training (calibration " in calibrated
    assert "0.5 of real images called fake (here 0 of 6)" in calibrated
    assert cli("calibrate", "--remove", "--engine", run / "bundle").returncode == 0
    assert json.loads(cli("card", "--engine", run / "bundle", "--json").stdout) == card


def test_killed_anywhere_and_resumed_a_run_ends_with_the_same_bits(pictures_to_train_on: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.glass_train.killed_runs", str(pictures_to_train_on), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    ended = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert ended == {"whole": "0", **dict.fromkeys(killed_runs.PLACES, f"{signal.SIGKILL:d} 0")}, done.stderr
    whole = read_checkpoint_file(tmp_path / "whole" / LAST)
    assert whole["state"]["step"] == 9
    for place in killed_runs.PLACES:
        resumed = read_checkpoint_file(tmp_path / place / LAST)
        for part in ("module", "average"):
            assert all(torch.equal(tensor, resumed[part][name]) for name, tensor in whole[part].items()), place
        for name in (BEST, "steps.csv"):
            assert (tmp_path / place / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), place


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(pictures_to_train_on: Path, tmp_path: Path) -> None:
    start_run(options(pictures_to_train_on, epochs=2), tmp_path / "1")
    arguments = ("--backbone", "tiny_norm", "--output", tmp_path / "2", "--no-bundle", "--devices", 2, *FAST[:-4])
    done = in_a_process("train", pictures_to_train_on, *arguments, "--tiers", "clean")
    assert done.returncode == 0, done.stderr
    one, two = losses(tmp_path / "1"), losses(tmp_path / "2")
    assert len(one) == len(two) == 6
    np.testing.assert_allclose(two, one, atol=1e-5)
    scores = [read_checkpoint_file(tmp_path / name / LAST)["state"]["best_tiers"]["clean"] for name in ("1", "2")]
    assert scores[0]["loss"] == pytest.approx(scores[1]["loss"], abs=1e-4)


def test_the_quick_way_trains_the_head_alone(pictures_to_train_on: Path, cli: Cli, tmp_path: Path) -> None:
    weights = tmp_path / "start.safetensors"
    torch.manual_seed(2)
    start = checkpoint_module(build_model(find_backbone("tiny_batch"), "glass")).state_dict()
    save_file(start, weights)
    done = cli("train", pictures_to_train_on, "--backbone", "tiny_batch", "--output", tmp_path / "run", "--quick",
               "--deliveries", 2, "--weights", weights, "--epochs", 4, "--no-bundle", *FAST[4:])  # fmt: skip
    assert done.returncode == 0, done.stderr
    with safe_open(tmp_path / "run" / BEST, "pt") as file:
        for name, tensor in start.items():
            head = name.startswith(("attention.", "classifier."))
            assert head or torch.equal(file.get_tensor(name), tensor), name
        assert not torch.equal(file.get_tensor("classifier.2.weight"), start["classifier.2.weight"])
    again = cli("train", "--resume", "--output", tmp_path / "run")  # what it names is there: no bundle, no card
    assert (again.returncode, again.stdout) == (0, f"weights: {tmp_path / 'run' / BEST}\n")


@pytest.mark.slow
def test_shuffled_labels_stand_in_the_card(pictures_to_train_on: Path, cli: Cli, tmp_path: Path) -> None:
    arguments = ("--architecture", "resize", "--shuffle-labels", *FAST)
    done = cli("train", pictures_to_train_on, "--backbone", "tiny_norm", "--output", tmp_path / "run", *arguments)
    assert done.returncode == 0, done.stderr
    assert "labels were shuffled" in (tmp_path / "run" / "card.md").read_text()


def test_a_bundle_without_a_card_says_so(cli: Cli, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "zoo")
    shown = cli("card", "--engine", bundle)
    assert "nothing is known of the training" in shown.stdout
    assert "- decision: not calibrated: the threshold of 0.5 promises nothing\n" in shown.stdout
    decision = calibrate(bundle)
    calibrated = cli("card", "--engine", bundle).stdout
    assert f"- decision: calibrated (calibration {decision.id}): the rest: " in calibrated
    untrained = cli("card", "--engine", write_bundle(tmp_path / "untrained", trained=False)).stdout
    assert "- decision: none: the weights are untrained\n" in untrained
    (tmp_path / "card.json").write_text('{"model": {"weights_sha256": "other"}}')
    refused = cli("card", "--engine", bundle)
    assert (refused.returncode, "the card of other weights" in refused.stderr) == (1, True)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda card: "",
        lambda card: "[]",
        lambda card: "[" * 100_000,
        lambda card: json.dumps({"model": card["model"]}),
        lambda card: json.dumps({**card, "test": {"rows": []}}),
        lambda card: json.dumps({**card, "training": 5}),
    ],
)
def test_a_card_that_is_none_is_refused_in_one_line(spoil: Callable[[Any], str], cli: Cli, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "zoo")
    card = card_of_manifest(Bundle.open(bundle))
    (tmp_path / "card.json").write_text(spoil(card))
    refused = cli("card", "--engine", bundle)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "card.json cannot be read as a card" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_card_lies_beside_the_bundle_however_the_bundle_is_named(cli: Cli, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "run" / "zoo")
    card = card_of_manifest(Bundle.open(bundle)) | {"calibration": "this very card"}
    (tmp_path / "run" / "card.json").write_text(json.dumps(card))
    (tmp_path / "current").symlink_to(bundle)
    for name, folder in ((bundle, tmp_path), (".", bundle), ("current", tmp_path), ("zoo/", bundle.parent)):
        assert "this very card" in cli("card", "--engine", name, cwd=folder).stdout, name


def test_a_picture_of_one_pixel_is_an_image_like_others(pictures_to_train_on: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pictures_to_train_on, tmp_path / "data")
    write_picture(folder / "train" / "fake" / "pixel.png", (200, 90, 80), 1, 1)
    write_picture(folder / "train" / "real" / "line.png", (80, 90, 200), 1, 700)
    state = start_run(options(folder, delivery="web"), tmp_path / "run")
    assert (state.images, state.failed) == (16, {})


def test_an_image_truncated_in_mid_run_is_left_out_and_named(pictures_to_train_on: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pictures_to_train_on, tmp_path / "data")

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        yield
        if name == "loading the weights":
            victim = folder / "train" / "fake" / "train3.png"
            victim.write_bytes(victim.read_bytes()[:1000])

    state = start_run(options(folder), tmp_path / "run", stage=stage)
    assert list(state.failed) == ["train/fake/train3.png"]


@pytest.mark.parametrize("delivery", ["none", "mild"])
def test_an_image_that_becomes_another_in_mid_run_is_left_out_and_named(
    delivery: str, pictures_to_train_on: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(pictures_to_train_on, tmp_path / "data")

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        yield
        if name == "loading the weights":
            shutil.copy(folder / "train" / "real" / "train3.png", folder / "train" / "fake" / "train3.png")

    state = start_run(options(folder, delivery=delivery), tmp_path / "run", stage=stage)
    assert state.failed == {"train/fake/train3.png": "the file has changed since the run began"}


def test_validation_needs_both_classes_to_the_end(pictures_to_train_on: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pictures_to_train_on, tmp_path / "data")

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        yield
        if name == "loading the weights":
            shutil.rmtree(folder / "val" / "fake")

    with pytest.raises(
        TrainingError, match=r"validation has no images of both classes \(clean\) that can still be read"
    ):
        start_run(options(folder), tmp_path / "run", stage=stage)


@pytest.mark.parametrize(
    ("spoil", "changes", "error", "message"),
    [
        (lambda folder: shutil.rmtree(folder / "train/fake"), {}, LabelsInvalid, "the part train has no fake images"),
        (lambda folder: shutil.rmtree(folder), {}, LabelsInvalid, "holds no|no such"),
        (
            lambda folder: shutil.copy(folder / "train/fake/train1.png", folder / "test/fake/copy.png"),
            {},
            LabelsInvalid,
            "have the same pixels; a split may not tear them apart",
        ),
        (lambda folder: None, {"crops": 10**9}, TrainingError, "--accumulate N"),
        (lambda folder: None, {"weights": "nowhere.pt"}, CheckpointError, "no such checkpoint"),
        (lambda folder: None, {"delivery": "pigeon"}, UsageError, "'pigeon' is none of none, flips, mild, web"),
        (lambda folder: None, {"quick": True}, UsageError, "use --weights imagenet or FILE"),
        (lambda folder: None, {"precision": "fp16"}, UsageError, "fp16 needs a GPU"),
        (lambda folder: None, {"devices": 2, "device": "cuda"}, UsageError, "PyTorch finds"),
        (lambda folder: None, {"devices": 8}, UsageError, "got 8 for a batch of 4 images"),
        (lambda folder: None, {"max_time": float("nan")}, UsageError, "max-time: got nan; expected minutes"),
        (lambda folder: None, {"bundle": True, "backend": "onxruntime"}, UsageError, "backend: got 'onxruntime'"),
    ],
)
def test_bad_input_is_named(
    spoil: object, changes: dict[str, object], error: type[Exception], message: str,
    pictures_to_train_on: Path, tmp_path: Path,
) -> None:  # fmt: skip
    folder = shutil.copytree(pictures_to_train_on, tmp_path / "data")
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(error, match=message):
        start_run(options(folder, **changes), tmp_path / "run")


def test_a_checkpoint_of_another_backbone_is_named(pictures_to_train_on: Path, tmp_path: Path) -> None:
    weights = tmp_path / "other.safetensors"
    save_file(checkpoint_module(build_model(find_backbone("tiny_batch"), "glass")).state_dict(), weights)
    with pytest.raises(CheckpointError, match=r"does not fit tiny_norm \(glass\); it is a checkpoint of tiny_batch"):
        start_run(options(pictures_to_train_on, weights=str(weights)), tmp_path / "run")


def test_without_a_network_the_other_two_ways_are_named(
    pictures_to_train_on: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(CheckpointError, match="--weights none starts from random weights, --weights FILE"):
        start_run(options(pictures_to_train_on, weights="imagenet", backbone="resnet18"), tmp_path / "run")


def test_a_run_needs_data_and_a_backbone(cli: Cli, tmp_path: Path) -> None:
    assert "DIR is missing" in cli("train", "--output", tmp_path / "run").stderr
    assert "--backbone is missing: such as vit_b16" in cli("train", tmp_path, "--output", tmp_path / "run").stderr
    refused = cli("train", "--resume", "--output", tmp_path / "run").stderr
    assert "holds no run that can go on: No such file or directory (run.json); without --resume" in refused

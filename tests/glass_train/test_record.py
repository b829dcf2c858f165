"""A run's folder: what it must not be, what it remembers, and what of it may be damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from glass_train.loop.files import BEST, LAST
from glass_train.record import RUN

from tests.command_line import run_here
from tests.glass_train.tiny import register, unregister
from tests.support import Cli

TINY = ("--backbone", "tiny_batch", "--epochs", 2, "--batch", 4, "--crops", 2, "--device", "cpu", "--threads", 1,
        "--workers", 1, "--tiers", "clean", "--no-bundle")  # fmt: skip
TABLE = "path,label,split\n" + "".join(
    f"{part}/{label}/{part}{number}.png,{label},{part}\n"
    for part, count in (("train", 6), ("val", 3)) for label in ("fake", "real") for number in range(count)
)  # fmt: skip


@pytest.fixture(scope="module")
def run(pictures_to_train_on: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended; tests take copies of it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    register()  # for the tests, a fixture of each does so
    done = run_here("train", pictures_to_train_on, "--weights", "none", "--output", folder, *TINY)
    unregister()
    assert done.returncode == 0, done.stderr
    return folder


def with_state(**changes: object) -> Callable[[Path], object]:
    """Alters the state in the checkpoint."""

    def alter(run: Path) -> None:
        saved = torch.load(run / LAST, weights_only=True)
        torch.save({**saved, "state": {**saved["state"], **changes}}, run / LAST)

    return alter


def replaced(file: str, old: str, new: str) -> Callable[[Path], object]:
    """Alters a file's text."""
    return lambda run: (run / file).write_text((run / file).read_text().replace(old, new))


def cut(file: str, end: int) -> Callable[[Path], object]:
    """Cuts a file off."""
    return lambda run: (run / file).write_bytes((run / file).read_bytes()[:end])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda run: (run / RUN).write_text("[]"), "holds no run that can go on: a list"),
        (lambda run: (run / RUN).write_text("[" * 100_000), "holds no run that can go on: "),
        (lambda run: (run / RUN).write_bytes(b"\xff\xfe\0"), "holds no run that can go on: "),
        (cut(RUN, 200), "holds no run that can go on: "),
        (replaced(RUN, '"epochs": 2', '"epochs": "two"'), "holds no run that can go on: "),
        (replaced(RUN, '"epochs": 2', '"epochs": 2, "novel": 3'), "holds no run that can go on: "),
        (replaced(RUN, '"notes"', '"nots"'), "holds no run that can go on: 'notes'"),
        (cut("data.csv", 0), "its table of images is not the one that it began with (data.csv)"),
        (cut("data.csv", -300), "its table of images is not the one that it began with"),
        (replaced("data.csv", "val,val/fake", "train,val/fake"), "its table of images is not the one"),
        (replaced("data.csv", "val,val/fake", "vale,val/fake"), "holds no run that can go on: 'vale'"),
        (replaced("data.csv", ",320,", ",wide,"), "holds no run that can go on: invalid literal"),
        (lambda run: (run / "data.csv").unlink(), "No such file or directory (data.csv)"),
        (cut(LAST, 1000), "is no checkpoint of a run"),
        (cut(LAST, 0), "is no checkpoint of a run"),
        (lambda run: torch.save([1], run / LAST), "is no checkpoint of a run: a list"),
        (lambda run: torch.save({"module": 1}, run / LAST), "is of another model or version"),
        (with_state(epoch="x"), "is of another model or version: epoch is 'x'"),
        (with_state(novel=1), "is of another model or version"),
        (lambda run: (run / "card.json").write_text("null"), "cannot be read as a card"),
        (lambda run: (run / "card.json").write_text('{"test": {}}'), "cannot be read as a card"),
    ],
)
def test_a_damaged_run_is_refused_in_one_line(
    damage: Callable[[Path], object], says: str, run: Path, cli: Cli, tmp_path: Path
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    damage(copy)
    done = cli("train", "--resume", "--output", copy, "--quiet")
    *_, last = done.stderr.splitlines()
    assert (done.returncode, says in last, "Traceback" in done.stderr) == (1, True, False), done.stderr


@pytest.mark.parametrize("damage", [b"\0\0\0,1,2,3,4,5\n", b"\xff\xff,1,1,1,1,1\n", b"x,y,1,1,1,1\n", b"1,2"])
def test_damaged_logs_do_not_stop_a_run(damage: bytes, run: Path, cli: Cli, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    with_state(epoch=1, step=3, finished="")(copy)
    whole = (copy / "steps.csv").read_text().splitlines()
    for name in ("steps.csv", "epochs.csv"):
        (copy / name).write_bytes((copy / name).read_bytes() + damage)
    done = cli("train", "--resume", "--output", copy, "--quiet")
    assert done.returncode == 0, done.stderr
    again = (copy / "steps.csv").read_text().splitlines()
    assert again[:4] == whole[:4]
    assert [row.split(",")[0] for row in again[1:]] == list("123456")


def data_itself(data: Path, _run: Path) -> tuple[object, ...]:
    """The data's folder as that of the run; it may have a part that is called as a folder of runs is."""
    return data, "--output", data


def table_in_its_place(data: Path, _run: Path) -> tuple[object, ...]:
    """Labels where a run writes its own table."""
    (data / "data.csv").write_text(TABLE)
    return data, "--labels", data / "data.csv", "--output", data


def files_of_others(data: Path, run: Path) -> tuple[object, ...]:
    """A folder with files that have the names of ours."""
    (run.parent / "mine").mkdir()
    (run.parent / "mine" / "steps.csv").write_text("mine")
    return data, "--output", run.parent / "mine"


def weights_of_the_run(data: Path, run: Path) -> tuple[object, ...]:
    """To begin anew with what the run has learned."""
    return data, "--weights", run / BEST, "--output", run, "--force"


@pytest.mark.parametrize("arguments", [data_itself, table_in_its_place, files_of_others, weights_of_the_run])
@pytest.mark.parametrize("force", [False, True])
def test_a_run_overwrites_nothing_that_is_not_a_run(
    arguments: Callable[[Path, Path], tuple[object, ...]], force: bool, pictures_to_train_on: Path, run: Path,
    cli: Cli, tmp_path: Path,
) -> None:  # fmt: skip
    data, copy = (shutil.copytree(one, tmp_path / name) for one, name in ((pictures_to_train_on, "d"), (run, "r")))
    given = arguments(data, copy)
    before = contents(tmp_path)
    done = cli("train", *given, *TINY, *(["--force"] if force else []))
    assert (done.returncode, "would overwrite" in done.stderr) == (2, True), done.stderr
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "mistake",
    [
        ("--weights", "nowhere.pt"),
        ("--labels", "nowhere.csv"),
        ("--backend", "onxruntime", "--bundle"),
        ("--keep-aside", "nowhere"),
        ("--precision", "fp16"),
        ("--freeze", "global,local,head"),
        ("--resume",),
    ],
)
def test_a_mistake_leaves_the_run_that_was_to_be_replaced(
    mistake: tuple[object, ...], pictures_to_train_on: Path, run: Path, cli: Cli, tmp_path: Path
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    before = contents(copy)
    done = cli("train", pictures_to_train_on, "--weights", "none", "--output", copy, "--force", *TINY, *mistake)
    assert done.returncode in (1, 2), done.stderr
    assert contents(copy) == before


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_needs_its_policy_and_its_weights_only_once(
    pictures_to_train_on: Path, run: Path, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "policy.json").write_text('{"quality": [60, 90], "thumbnail": 0}')
    shutil.copy(run / BEST, tmp_path / "start.safetensors")
    begun = cli("train", pictures_to_train_on, "--delivery", "policy.json", "--weights", "start.safetensors",
                "--quick", "--deliveries", 1, "--output", "again", "--max-time", 1e-7, *TINY, cwd=tmp_path)  # fmt: skip
    assert begun.returncode == 0, begun.stderr
    record = json.loads((tmp_path / "again" / RUN).read_text())
    assert record["policy"]["quality"] == [60, 90]
    for name in ("policy.json", "start.safetensors"):
        (tmp_path / name).unlink()
    more = cli("train", "--resume", "--output", tmp_path / "again", "--max-time", 5)
    assert more.returncode == 0, more.stderr
    assert "trained: 2 epochs" in more.stderr


def test_what_a_run_goes_on_with_it_goes_on_with_again(run: Path, cli: Cli, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    assert cli("train", "--resume", "--output", copy, "--max-time", 7, "--workers", 2).returncode == 0
    options = json.loads((copy / RUN).read_text())["options"]
    assert (options["max_time"], options["workers"], options["epochs"]) == (7, 2, 2)
    same = cli("train", "--resume", "--output", copy, "--backbone", "tiny_batch", "--weights", "none")
    assert same.returncode == 0, same.stderr
    other = cli("train", tmp_path, "--resume", "--output", copy)
    assert "error: DIR: a run goes on with the options it began with" in other.stderr


def test_names_of_any_kind_are_text_everywhere(pictures_to_train_on: Path, cli: Cli, tmp_path: Path) -> None:
    data = shutil.copytree(pictures_to_train_on, tmp_path / "data")
    names = ('a,b\r\nc\rd"e.png', "\x1b[31mred.png", "\udcff\udcfe.png")
    for number, name in enumerate(names):
        (data / "train" / "fake" / f"train{number}.png").rename(data / "train" / "fake" / name)
    (data / "train" / "fake" / "\x1b[2Jbroken\n.png").write_bytes(b"nothing")
    done = cli("train", data, "--weights", "none", "--delivery", "mild", "--output", tmp_path / "run", *TINY)
    assert done.returncode == 0, done.stderr
    assert "1 images cannot be read and are left out (first: train/fake/\\u001b[2Jbroken\\u000a.png)" in done.stderr
    assert "\x1b" not in done.stderr
    rows = (tmp_path / "run" / "data.csv").read_text().splitlines()
    assert (len(rows), sum("\\udcff\\udcfe.png" in row for row in rows)) == (31, 1)
    again = cli("train", "--resume", "--output", tmp_path / "run")
    assert again.returncode == 0, again.stderr

"""`infer --output` and `--resume`: every image exactly once, whatever happened in between."""

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from glass_rt.errors import BackendError, ImageCorrupt, UsageError
from glass_rt.results.lines import CSV_HEADER
from glass_rt.results.output import open_output
from glass_rt.results.verdict import Failure
from tests.support import Bundles, Cli

pytestmark = pytest.mark.slow


@pytest.fixture
def album(pictures: tuple[Path, ...], tmp_path: Path) -> Path:
    """Forty links to four pictures, and one broken file."""
    folder = tmp_path / "album"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:03}.img").symlink_to(pictures[number % 4])
    (folder / "broken.jpg").write_text("no image")
    return folder


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_killed_in_the_middle_is_resumed(cli: Cli, bundles: Bundles, album: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.jsonl"
    engine = bundles("mobilenet_v3_small").folder
    command = [sys.executable, "-m", "glass_rt", "infer", str(album), "--engine", str(engine), "--output", str(output)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while (not output.exists() or output.read_bytes().count(b"\n") < 5) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.communicate()
    before = len(output.read_bytes().splitlines())
    assert before >= 5
    with output.open("a") as file:
        file.write('{"schema": 1, "path": "cut of')  # as if the kill had come in the middle of a line
    resumed = cli("infer", album, "--engine", engine, "--output", output, "--resume")
    assert "Traceback" not in resumed.stderr
    found = rows(output)
    assert sorted(str(row["path"]) for row in found) == sorted(str(path) for path in album.iterdir())
    whole = cli("infer", album, "--engine", engine, "--jsonl")
    expected = {row["path"]: row.get("probability_fake") for row in map(json.loads, whole.stdout.splitlines())}
    assert {row["path"]: row.get("probability_fake") for row in found} == expected


def test_renamed_files_are_known_by_their_content(
    cli: Cli, bundles: Bundles, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "album"
    folder.mkdir()
    shutil.copy(pictures[0], folder / "old.jpg")
    engine, output = bundles("mobilenet_v3_small").folder, tmp_path / "r.jsonl"
    assert cli("infer", folder, "--engine", engine, "--output", output).returncode == 0
    (folder / "old.jpg").rename(folder / "new.jpg")
    shutil.copy(pictures[1], folder / "other.png")
    assert cli("infer", folder, "--engine", engine, "--output", output, "--resume").returncode == 0
    assert [Path(str(row["path"])).name for row in rows(output)] == ["old.jpg", "other.png"]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_damaged_images_too_are_known_by_their_content(
    suffix: str, cli: Cli, bundles: Bundles, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    folder, output = tmp_path / "album", tmp_path / f"r{suffix}"
    folder.mkdir()
    (folder / "cut.jpg").write_bytes(pictures[0].read_bytes()[:200])
    (folder / "wide.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x80\0\0\0\x80\0\x08\2\0\0\0")
    engine = bundles("mobilenet_v3_small").folder
    assert cli("infer", folder, "--engine", engine, "--output", output).returncode == 1
    for path in list(folder.iterdir()):
        path.rename(path.with_stem(f"moved {path.stem}"))
    assert cli("infer", folder, "--engine", engine, "--output", output, "--resume").returncode == 1
    if suffix == ".parquet":
        found = pq.read_table(output).to_pylist()
    elif suffix == ".csv":
        found = list(csv.DictReader(output.read_text().splitlines()))
    else:
        found = rows(output)
    assert sorted(Path(str(row["path"])).name for row in found) == ["cut.jpg", "wide.png"]
    assert {row["sha256"] for row in found} == {
        hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()
    }


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_an_image_of_standard_input_is_known_by_its_content(
    suffix: str, cli: Cli, bundles: Bundles, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    engine, output = bundles("mobilenet_v3_small").folder, tmp_path / f"r{suffix}"
    words = ("infer", "-", "--engine", engine, "--output", output, "--resume")
    for picture, said in (
        (pictures[0], "1 of 1 judged\n"),
        (pictures[0], f"{output}: images that are in it already: 1; nothing was left to judge\n"),
        (pictures[1], "1 of 1 judged\n"),
    ):
        done = cli(*words, stdin=picture.read_bytes())
        assert (done.returncode, said in done.stderr) == (0, True), done.stderr
    assert len(paths_in(output)) == 2


def test_an_image_that_two_arguments_name_has_one_row_and_those_of_before_are_counted(
    cli: Cli, bundles: Bundles, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    folder, output, engine = tmp_path / "album", tmp_path / "r.jsonl", bundles("mobilenet_v3_small").folder
    folder.mkdir()
    shutil.copy(pictures[0], folder / "a.jpg")
    words = ("infer", folder / "a.jpg", folder, folder / "*.jpg", "--engine", engine, "--output", output, "--resume")
    assert "1 of 1 judged\n" in cli(*words).stderr
    shutil.copy(pictures[1], folder / "b.jpg")
    again = cli(*words).stderr
    assert "1 of 1 judged\n" in again
    assert f"{output}: images that are in it already: 1\n" in again
    assert paths_in(output) == [str(folder / name) for name in ("a.jpg", "b.jpg")]
    assert "already" not in cli(*words, "--quiet").stderr


def test_csv_is_resumed_too(cli: Cli, bundles: Bundles, pictures: tuple[Path, ...], tmp_path: Path) -> None:
    engine, output = bundles("mobilenet_v3_small").folder, tmp_path / "r.csv"
    cli("infer", pictures[0], "--engine", engine, "--output", output)
    cli("infer", *pictures[:3], "--engine", engine, "--output", output, "--resume")
    with output.open() as file:
        assert [Path(row["path"]).name for row in csv.DictReader(file)] == [path.name for path in pictures[:3]]


def paths_in(output: Path) -> list[str]:
    if output.suffix == ".parquet":
        return [str(row["path"]) for row in pq.read_table(output).to_pylist()]
    if output.suffix == ".jsonl":
        return [str(row["path"]) for row in rows(output)]
    with output.open(encoding="utf-8", newline="") as file:
        return [row["path"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_names_that_are_no_utf8_have_their_rows_and_are_known_again(
    suffix: str, cli: Cli, bundles: Bundles, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    folder, output, engine = tmp_path / "album", tmp_path / f"r{suffix}", bundles("mobilenet_v3_small").folder
    folder.mkdir()
    good, bad, literal = b"caf\xe9.jpg", b"bad\xff.jpg", b"caf\\udce9.jpg"
    shutil.copy(pictures[0], folder / os.fsdecode(good))
    (folder / os.fsdecode(bad)).write_text("no image")
    first = cli("infer", folder, "--engine", engine, "--output", output)
    assert (first.returncode, "Traceback" in first.stderr) == (1, False)
    assert paths_in(output) == [str(folder / r"bad\udcff.jpg"), str(folder / r"caf\udce9.jpg")]
    shutil.copy(pictures[0], folder / "same-content.jpg")
    shutil.copy(pictures[1], folder / os.fsdecode(literal))
    again = cli("infer", folder, "--engine", engine, "--output", output, "--resume")
    assert (again.returncode, "Traceback" in again.stderr) == (1, False)
    assert f"{output}: 1 could not be judged in earlier runs\n" in again.stderr
    names = [r"bad\udcff.jpg", r"caf\udce9.jpg", r"caf\u005cudce9.jpg", "same-content.jpg"]
    assert paths_in(output) == [str(folder / name) for name in names]


def test_an_output_is_never_overwritten(cli: Cli, bundles: Bundles, pictures: tuple[Path, ...], tmp_path: Path) -> None:
    engine, output = bundles("mobilenet_v3_small").folder, tmp_path / "r.jsonl"
    output.write_text("mine\n")
    done = cli("infer", pictures[0], "--engine", engine, "--output", output)
    assert (done.returncode, output.read_text()) == (2, "mine\n")
    strange = cli("infer", pictures[0], "--engine", engine, "--output", tmp_path / "r.txt")
    assert strange.returncode == 2
    assert "suffix" in strange.stderr


def test_ctrl_c_finishes_what_is_in_flight(bundles: Bundles, album: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.jsonl"
    engine = bundles("mobilenet_v3_small").folder
    command = [
        sys.executable,
        "-m",
        "glass_rt",
        "infer",
        *[str(album)] * 20,
        "--engine",
        str(engine),
        "--output",
        str(output),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while (not output.exists() or output.read_bytes().count(b"\n") < 3) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert 3 <= len(rows(output)) < 20 * 41
    assert output.read_bytes().endswith(b"\n")


def write(output: Path, *names: str, resume: bool = False) -> None:
    with open_output(output, resume=resume) as out:
        for name in names:
            out.add(Failure(name, ImageCorrupt("truncated")))


FAIL_ONCE = """
import sys
from glass_rt.cli import main
from glass_rt.errors import BackendError
from glass_rt.inference.judge import Judge

def fail(self, pack):
    raise BackendError("the engine is out of order")

Judge.start = fail
main()
"""


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_what_is_no_fault_of_the_image_is_named_and_tried_again(
    suffix: str, cli: Cli, bundles: Bundles, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    absent, broken = tmp_path / "absent.png", tmp_path / "broken.png"
    broken.write_text("no image")
    output, engine = tmp_path / f"r{suffix}", bundles("mobilenet_v3_small").folder
    words = ["infer", broken, pictures[0], absent, "--engine", engine, "--output", output, "--quiet"]
    first = subprocess.run([sys.executable, "-c", FAIL_ONCE, *map(str, words)], capture_output=True, text=True)
    assert first.returncode == 1
    tried_again = "not in the output, --resume tries again: "
    assert first.stderr.splitlines() == [
        f"{tried_again}{pictures[0]}: the engine is out of order",
        f"{tried_again}{absent}: no such file",
    ]
    assert paths_in(output) == [str(broken)]
    shutil.copy(pictures[1], absent)
    resumed = cli(*words, "--resume")
    assert (resumed.returncode, resumed.stderr) == (1, "")  # the broken one is still there
    assert paths_in(output) == [str(broken), str(pictures[0]), str(absent)]


def test_only_failures_of_the_content_last() -> None:
    assert Failure("a", ImageCorrupt("")).lasting
    assert not Failure("a", BackendError("")).lasting


@pytest.mark.parametrize(
    ("suffix", "content", "line"),
    [
        (".jsonl", '{"my": "precious data"}', 1),
        (".jsonl", '{"schema": 1, "path": "a"}\nprecious', 2),
        (".jsonl", "precious\ndata", 1),
        (".jsonl", "[1]\n", 1),
        (".jsonl", '{"path": "of another tool"}\n', 1),
        (".jsonl", '{"schema": 1, "path": "a"}\n' + 50 * "\0" + "\n", 2),
        (".jsonl", "\xff\n", 1),
        (".csv", "a,b\n1,2\n3,4", 1),
        (".csv", "precious", 1),
        (".csv", CSV_HEADER + "a,b\n", 2),
        (".csv", CSV_HEADER + '"a' + 15 * "," + "\n", 2),
    ],
)
def test_a_file_that_is_not_ours_is_left_as_it_is(suffix: str, content: str, line: int, tmp_path: Path) -> None:
    output = tmp_path / f"r{suffix}"
    output.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=rf"line {line} of .* is not a result .*another name"):
        open_output(output, resume=True)
    assert output.read_bytes() == content.encode("latin-1")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_wherever_the_file_was_cut_it_is_resumed(suffix: str, tmp_path: Path) -> None:
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    names = ['two\nlines, "quoted".jpg', "carriage\rreturn.jpg", "plain.jpg"]
    write(whole, *names)
    for length in range(len(whole.read_bytes())):
        for lost in (b"", bytes(50)):  # bytes that a loss of power left unwritten
            cut.write_bytes(whole.read_bytes()[:length] + lost)
            with open_output(cut, resume=True) as out:
                missing = [name for name in names if not out.holds(name)]
            write(cut, *missing, resume=True)
            assert cut.read_bytes() == whole.read_bytes()


def test_a_full_disk_is_said_with_what_to_do(tmp_path: Path) -> None:
    code = (
        "import resource\n"
        "from pathlib import Path\n"
        "from glass_rt.results.output import open_output\n"
        "from glass_rt.errors import ImageCorrupt\n"
        "from glass_rt.results.verdict import Failure\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with open_output(Path('r.jsonl'), resume=False) as out:\n"
        "    for number in range(100):\n"
        "        out.add(Failure(str(number), ImageCorrupt('truncated')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr.splitlines()[-1].startswith("glass_rt.errors.GlassError: output: r.jsonl cannot be written")
    assert "--resume goes on" in done.stderr.splitlines()[-1]


def test_a_pipe_is_not_read_to_see_whether_it_is_known(tmp_path: Path) -> None:
    output = tmp_path / "r.jsonl"
    output.write_text(json.dumps({"schema": 1, "path": "/gone.jpg", "sha256": 64 * "0"}) + "\n")
    os.mkfifo(tmp_path / "pipe")
    with open_output(output, resume=True) as out:
        assert not out.holds(str(tmp_path / "pipe"))  # reading it would wait for ever

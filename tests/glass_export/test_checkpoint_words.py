"""What is no plain state_dict is refused in one line, which says what holds code and never how to run it."""

from __future__ import annotations

import fractions
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from glass_export.checkpoint import read_checkpoint

from glass_rt.errors import CheckpointError


def tar(path: Path) -> None:
    with tarfile.open(path, "w") as file:
        for name in ("storages", "tensors", "pickle"):
            file.addfile(tarfile.TarInfo(name))


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02(")
        file.writestr("archive/version", "3")


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a module": (lambda path: torch.save(torch.nn.Linear(2, 2), path), "torch.nn.modules.linear.Linear"),
    "a class": (lambda path: torch.save({"args": fractions.Fraction(1)}, path), "fractions.Fraction"),
    "a command": (lambda path: path.write_bytes(b"cos\nsystem\n(S'echo hi'\ntR."), "os.system"),
    "eval": (lambda path: path.write_bytes(b"c__builtin__\neval\n(S'1'\ntR."), "never run"),
    "an array": (lambda path: path.write_bytes(pickle.dumps({"a": np.zeros(3)})), "never run"),
    "protocol 4": (lambda path: torch.save({"a": torch.zeros(2)}, path, pickle_protocol=4), "no checkpoint, or"),
    "the old tar format": (tar, "never run"),
    "text": (lambda path: path.write_text("weights\n"), "no checkpoint, or"),
    "zeros": (lambda path: path.write_bytes(bytes(100)), "no checkpoint, or"),
    "nothing": (Path.touch, "is empty"),
    "another archive": (archive, "cannot be read as a checkpoint"),
}


@pytest.mark.filterwarnings("ignore")  # torch's, about pickle protocols
@pytest.mark.parametrize("kind", FILES)
def test_a_refusal_is_one_line_without_torch_s_advice(kind: str, tmp_path: Path) -> None:
    make, says = FILES[kind]
    make(tmp_path / "x.pt")
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / "x.pt")
    check(str(caught.value))
    assert says in str(caught.value)


def check(message: str) -> None:
    assert "\n" not in message
    assert len(message) < 700
    for advice in ("weights_only", "trust", "safe_globals", "allowlist"):
        assert advice not in message.lower()


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_checkpoint_is_never_another_error(tmp_path: Path) -> None:
    chance = random.Random(13)
    whole = []
    for new in (True, False):
        torch.save({"a": torch.zeros(2)}, tmp_path / "x.pt", _use_new_zipfile_serialization=new)
        whole.append((tmp_path / "x.pt").read_bytes())
    for _ in range(60):
        damaged = bytearray(chance.choice(whole))
        for _ in range(chance.randint(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        (tmp_path / "x.pt").write_bytes(damaged)
        with pytest.raises(CheckpointError) as caught:
            read_checkpoint(tmp_path / "x.pt")
        if "does not fit" not in str(caught.value):
            check(str(caught.value))


@pytest.mark.parametrize("path", ["/dev/zero", "/proc/kmsg", "/proc/self/environ"])
def test_files_of_the_system_are_no_checkpoints(path: str) -> None:
    with pytest.raises(CheckpointError, match=r"is no regular file|is empty"):
        read_checkpoint(Path(path))

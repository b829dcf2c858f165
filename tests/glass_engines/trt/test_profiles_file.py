from __future__ import annotations

import re
from pathlib import Path

import pytest
from glass_engines.trt.profiles_file import find_profile, profile_from_toml, shipped_profiles, with_max_batch
from glass_engines.trt.settings import TrtSettings

from glass_rt.backends.trt.library import rtx_capabilities
from glass_rt.bundle.requirements import Shapes
from glass_rt.errors import UsageError

GOOD = "[[global]]\nlow = 1\nbest = 1\nhigh = 4\n[[local]]\nlow = 1\nbest = 10\nhigh = 16\n"


def test_every_shipped_profile_is_sound() -> None:
    assert shipped_profiles() == ("a100", "l4", "orin", "rtx")
    for name in shipped_profiles():
        file = find_profile(name)
        assert file.profile.name == name
        assert set(file.profile.shapes) == {"global", "local"}
        assert file.gpus


@pytest.mark.parametrize(
    ("gpu", "profile"),
    [
        ("NVIDIA GeForce RTX 4090", "rtx"),
        ("NVIDIA L4", "l4"),
        ("Tesla T4", "l4"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA H100 80GB HBM3", "a100"),
        ("NVIDIA H200", "a100"),
        ("Orin (nvgpu)", "orin"),
        ("Something that nobody knows", "rtx"),
    ],
)
def test_the_gpu_chooses_the_profile(gpu: str, profile: str) -> None:
    assert find_profile(None, [gpu]).profile.name == profile


def test_a_profile_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    file = find_profile(str(path))
    assert (file.profile.name, file.profile.shapes["local"]) == ("mine", (Shapes(1, 10, 16),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[global", "not TOML"),
        (GOOD + "[[lokal]]\nlow = 1\n", "lokal: unknown; expected"),
        (GOOD.replace("[[local]]", "[[global]]"), "local: missing"),
        (GOOD.replace("low = 1\nbest = 10", "low = 2\nbest = 10"), "the first bucket begins at 2"),
        (GOOD.replace("best = 10", "best = 17"), "got 1/17/16; expected 1 <= low <= best <= high"),
        (GOOD.replace("best = 10\n", ""), "local[0].best is missing"),
        (GOOD.replace("best = 10", 'best = "x"'), "local[0].best is 'x'; expected an integer"),
        (GOOD + "[[local]]\nlow = 1\nbest = 8\nhigh = 8\n", "a bucket up to 8 follows one up to 16"),
        (GOOD + "[[local]]\nlow = 20\nbest = 32\nhigh = 32\n", "no bucket takes 17..19 views"),
    ],
)
def test_contradictions_are_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        profile_from_toml("mine", text)


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (64, (Shapes(1, 10, 16), Shapes(1, 64, 64))),
        (256, (Shapes(1, 10, 16), Shapes(1, 256, 256))),
        (16, (Shapes(1, 10, 16),)),
        (8, (Shapes(1, 8, 8),)),
        (24, (Shapes(1, 10, 16), Shapes(1, 24, 24))),
        (1, (Shapes(1, 1, 1),)),
    ],
)
def test_max_batch_cuts_or_stretches(most: int, expected: tuple[Shapes, ...]) -> None:
    assert with_max_batch(find_profile("rtx"), most).profile.shapes["local"] == expected


def test_an_unknown_profile_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"profile: got 'nope'; expected one of a100, l4, orin, rtx, or a TOML file"):
        find_profile("nope")


@pytest.mark.parametrize(
    ("target", "names"),
    [("default", ()), ("8.9", ("8.9",)), ("sm89", ("8.9",)), ("SM_120, 8.6", ("12.0", "8.6"))],
)
def test_targets_may_be_written_as_people_write_them(target: str, names: tuple[str, ...]) -> None:
    assert rtx_capabilities(target) == names


@pytest.mark.parametrize("wrong", [{"workspace_mb": 0}, {"optimisation_level": 6}])
def test_settings_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        TrtSettings(**wrong)  # type: ignore[arg-type]  # integers, as the fields are

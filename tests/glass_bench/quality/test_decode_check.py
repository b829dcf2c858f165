"""The gate of decoding on the device: nvImageCodec's CPU backend passes it with no difference, planted ones are refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from glass_bench.errors import BenchError
from glass_bench.quality import decode_check
from glass_bench.quality.decode_check import LEVELS, DecodeCheck, ImageDrift, check_decoding, write_check

from glass_rt.backends.cuda.image_codec import DecodedImage, Encoded, ImageCodec
from glass_rt.errors import ParityError
from glass_rt.inference.decode_gate import check_not_refused, note_outcome
from glass_rt.options import RunOptions
from tests import jpegs

if TYPE_CHECKING:
    from tests.support import Bundles, Cli


class Brighter(ImageCodec):
    """Adds levels to some of the samples, as a decoder that rounds otherwise."""

    LEVELS = 3

    def decode(self, batch: Sequence[Encoded]) -> list[DecodedImage | None]:
        found = super().decode(batch)
        return [image and DecodedImage(self._changed(image.pixels), image.memory) for image in found]

    def _changed(self, pixels: Any) -> Any:
        changed = np.array(pixels)
        changed[::2] = np.minimum(changed[::2].astype(int) + self.LEVELS, 255)
        return changed


@pytest.fixture
def files(tmp_path: Path) -> list[tuple[str, str]]:
    made = {
        "a.jpg": jpegs.plain(), "b.jpg": jpegs.READ["grey"](), "c.jpg": jpegs.REFUSED["progressive"][0](),
        "d.jpg": jpegs.REFUSED["small"][0](), "e.png": jpegs.REFUSED["PNG"][0](), "f.jpg": jpegs.plain()[:-2],
    }  # fmt: skip
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    return [(str(tmp_path / name), name) for name in made]


def test_without_differences_the_gate_is_passed(bundles: Bundles, files: list[tuple[str, str]], tmp_path: Path) -> None:
    pytest.importorskip("nvidia.nvimgcodec", reason="nvImageCodec is not installed: pip install 'glass-rt[decode]'")
    check = check_decoding(bundles("mobilenet_v3_small", crops=4), RunOptions(), files)
    assert check.refused is None
    assert check.decoder == "CPU_ONLY"
    assert [image.name for image in check.images] == ["a.jpg", "b.jpg"]
    for image in check.images:
        assert image.levels == (3 * jpegs.HEIGHT * jpegs.WIDTH, *[0] * LEVELS)
        assert (image.embedding, image.logits, image.probability) == (0, 0, 0)
    assert check.left == {"progressive": 1, "under 1 megapixel": 1, "not a JPEG": 1, "without an end": 1}
    write_check(check, tmp_path / "new" / "check.json")
    record = json.loads((tmp_path / "new" / "check.json").read_text())
    assert record["refused"] is None
    assert record["left"] == check.left
    assert "passed" in check.report()
    with pytest.raises(BenchError, match="none of these images is decoded there: 1 progressive"):
        check_decoding(bundles("mobilenet_v3_small", crops=4), RunOptions(), files[2:3])


def test_what_changes_is_counted(
    bundles: Bundles, files: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nvidia.nvimgcodec", reason="nvImageCodec is not installed")
    monkeypatch.setattr(decode_check, "ImageCodec", Brighter)
    check = check_decoding(bundles("mobilenet_v3_small", crops=4), RunOptions(), files[:1])
    (image,) = check.images
    assert sum(image.levels) == 3 * jpegs.HEIGHT * jpegs.WIDTH
    assert image.levels[Brighter.LEVELS] / sum(image.levels) == pytest.approx(0.5, abs=0.05)  # every second row
    assert image.levels[Brighter.LEVELS + 1 :] == (0,) * (LEVELS - Brighter.LEVELS)
    assert image.embedding > 0
    assert image.logits > 0
    assert image.probability > 0
    assert "| largest difference, levels | 3 |" in check.report()


SAME = ImageDrift("a.jpg", (9, 1), 1e-3, 0.01, 0.002, ("fake", "fake"))


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, None),
        ({"logits": 0.05}, None),
        ({"logits": 0.051}, "a logit moves by 0.051, that of a.jpg; 0.05 is allowed"),
        ({"logits": float("nan")}, "a logit moves by nan"),
        ({"labels": ("fake", "real")}, "1 of 2 verdicts change, that of a.jpg first"),
        ({"labels": ("unsure", "fake")}, "1 of 2 verdicts change"),
        ({"labels": ("none", "none")}, None),  # of untrained weights
    ],
)
def test_a_changed_verdict_or_a_moved_logit_refuses_it(changes: dict[str, Any], refused: str | None) -> None:
    check = DecodeCheck("0" * 64, "cuda", "HW_GPU_ONLY", True, {}, (replace(SAME, **changes), SAME))
    if refused is None:
        assert check.refused is None
    else:
        assert refused in str(check.refused)
        assert f"REFUSED: {refused}" in check.report()


def test_a_refusal_is_remembered_for_this_bundle_until_it_is_measured_again(
    bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASS_RT_CACHE", str(tmp_path))
    bundle = bundles("mobilenet_v3_small", crops=4)
    check_not_refused(bundle, "cpu")
    note_outcome(bundle, "cpu", "1 of 2 verdicts change")
    with pytest.raises(ParityError, match=r"refused this GPU's decoder for this bundle \(1 of 2 verdicts change\)"):
        check_not_refused(bundle, "cpu")
    note_outcome(bundle, "cpu", None)
    check_not_refused(bundle, "cpu")
    (record,) = (tmp_path / "decode").iterdir()
    record.write_bytes(b"not one of ours")
    check_not_refused(bundle, "cpu")


def test_the_command_ends_with_1_where_it_refuses_and_opening_is_refused_then(
    bundles: Bundles, files: list[tuple[str, str]], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nvidia.nvimgcodec", reason="nvImageCodec is not installed")
    monkeypatch.setenv("GLASS_RT_CACHE", str(tmp_path / "cache"))
    bundle = bundles("mobilenet_v3_small", crops=4)
    record = tmp_path / "record.json"
    arguments = ("bench", "decode", "--images", tmp_path, "--engine", bundle.folder, "--output", record)
    passed = cli(*arguments)
    assert (passed.returncode, passed.stderr.count("ERROR")) == (0, 0)
    assert passed.stdout.endswith("\npassed\n")
    monkeypatch.setattr(decode_check, "ImageCodec", Brighter)
    monkeypatch.setattr(decode_check, "MOST_LOGITS", 1e-9)  # these untrained weights are hardly moved
    refused = cli(*arguments)
    assert refused.returncode == 1
    assert "REFUSED: a logit moves by" in refused.stdout
    assert json.loads(record.read_text())["refused"] in refused.stdout
    with pytest.raises(ParityError, match="a logit moves by"):
        check_not_refused(bundle, "cpu")

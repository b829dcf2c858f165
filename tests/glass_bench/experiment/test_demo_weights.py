"""The checkpoints that ship are what their labels say, and small."""

from pathlib import Path

import pytest
from glass_export.checkpoint import read_checkpoint
from safetensors import safe_open

FOLDER = Path(__file__).parents[3] / "benchmarks" / "demo_weights"
CHECKPOINTS = ("artefact.safetensors", "upscalers.safetensors")


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_it_is_a_glass_checkpoint_of_under_ten_megabytes(name: str) -> None:
    checkpoint = read_checkpoint(FOLDER / name)
    assert (checkpoint.backbone, checkpoint.architecture) == ("mobilenet_v3_small", "glass")
    assert (FOLDER / name).stat().st_size < 10e6


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_it_says_what_it_is(name: str) -> None:
    with safe_open(FOLDER / name, "np") as file:
        assert "NOT a detector of AI-generated images" in file.metadata()["note"]

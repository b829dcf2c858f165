"""The checkpoint that ships is what its label says, and small."""

from pathlib import Path

from glass_export.checkpoint import read_checkpoint
from safetensors import safe_open

WEIGHTS = Path(__file__).parents[3] / "benchmarks" / "demo_weights" / "artefact.safetensors"


def test_it_is_a_glass_checkpoint_of_under_ten_megabytes() -> None:
    checkpoint = read_checkpoint(WEIGHTS)
    assert (checkpoint.backbone, checkpoint.architecture) == ("mobilenet_v3_small", "glass")
    assert WEIGHTS.stat().st_size < 10e6


def test_it_says_what_it_is() -> None:
    with safe_open(WEIGHTS, "np") as file:
        assert "NOT a detector of AI-generated images" in file.metadata()["note"]

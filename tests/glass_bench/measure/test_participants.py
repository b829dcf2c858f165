"""Which contenders take part, and under which names."""

from pathlib import Path

import pytest
from glass_bench.measure.options import BenchOptions, quick
from glass_bench.measure.participants import list_participants, unique_names


def test_names_are_told_apart(tmp_path: Path) -> None:
    assert unique_names([tmp_path / "a" / "vit", tmp_path / "b" / "vit"]) == ["a/vit", "b/vit"]
    assert unique_names([tmp_path / "x", tmp_path / "y"]) == ["x", "y"]
    assert unique_names([tmp_path / "x", tmp_path / "x"])[1].endswith("#2")


def test_the_line_up_has_every_kind_once(zoo: dict[str, Path], labelled: Path) -> None:
    options = BenchOptions((zoo["good"],), labelled, (zoo["good_resize"],), batches=(1, 4), workers=(2,))
    names = [participant.contender.name for participant in list_participants(options)]
    assert names == [
        "good",
        "good_resize",
        "good [PyTorch fp32]",
        "good [PyTorch bf16 autocast]",
        "good_resize [PyTorch fp32]",
        "good_resize [PyTorch bf16 autocast]",
        "good [no-op engine]",
        "good [all tiles]",
        "good [batch 1]",
        "good [batch 4]",
        "good [2 workers]",
        "good_resize [batch 1]",
        "good_resize [batch 4]",
        "good_resize [2 workers]",
    ]
    assert [participant.contender.name for participant in list_participants(quick(options))] == [
        "good",
        "good_resize",
        "good [no-op engine]",
    ]


def test_batches_beyond_the_bundles_are_no_variants(zoo: dict[str, Path], labelled: Path) -> None:
    options = BenchOptions((zoo["good"],), labelled, batches=(1, 64, 65), workers=(), pytorch=False)
    variants = [participant.contender.batch for participant in list_participants(options) if participant.variant_of]
    assert variants == [1, 64]


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (("mine.pt",), "mine.pt"),  # the only one that could be meant
        (("mine.pt", "zoo.safetensors"), "zoo.safetensors"),  # by its name
        (("mine.pt", "yours.pt"), None),
    ],
)
def test_a_checkpoint_is_found_by_its_name_or_as_the_only_one(
    given: tuple[str, ...], taken: str | None, zoo: dict[str, Path], labelled: Path
) -> None:
    options = BenchOptions((zoo["good"],), labelled, checkpoints=tuple(map(Path, given)))
    found = {
        participant.contender.checkpoint
        for participant in list_participants(options)
        if participant.contender.kind == "pytorch"
    }
    assert found == {taken}

"""A run on data with a shortcut: what of it stands in the checkpoint and in the card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from glass_train.loop.files import BEST
from glass_train.options import TrainOptions
from glass_train.run import start_run
from safetensors import safe_open

from tests.glass_train.audit.planted import Recipe
from tests.glass_train.audit.test_dataset import write_set

PNG_AGAINST_JPEG = (Recipe("PNG"), Recipe())


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("leaking"), *PNG_AGAINST_JPEG)


def options(data: Path, **changes: Any) -> TrainOptions:
    return TrainOptions(str(data), "tiny_norm", weights="none", epochs=1, batch=16, crops=2, device="cpu", threads=1,
                        tiers=("clean",), workers=1, **changes)  # fmt: skip


def audit_in_weights(run: Path) -> dict[str, Any]:
    with safe_open(run / BEST, "pt") as file:
        facts: dict[str, Any] = json.loads(file.metadata()["glass_train"])
    found: dict[str, Any] = facts["audit"]
    return found


def test_shortcuts_that_were_allowed_stand_in_the_checkpoint(leaking: Path, tmp_path: Path) -> None:
    start_run(options(leaking, allow_shortcuts=True, bundle=False), tmp_path / "run")
    found = audit_in_weights(tmp_path / "run")
    assert (found["allowed"], found["containers"]["passes"], found["aligned"]) == (True, False, None)
    assert found["containers"]["facts"][0]["fact"] == "format"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"]["audit"] == found


@pytest.mark.slow
def test_the_card_of_an_aligned_run_asks_again_with_other_containers(leaking: Path, tmp_path: Path) -> None:
    start_run(options(leaking, align=True, delivery="mild", deliveries=1), tmp_path / "run")
    found = audit_in_weights(tmp_path / "run")
    assert found["alignment"] == {"sizes": False, "coding": True}
    assert found["aligned"]["passes"]
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert card["audit"] == found
    rows = {row["tier"]: row for row in card["test"]["rows"] if row["what"] == "all"}
    for tier in ("clean", "re-encoded at quality 96", "containers swapped"):
        assert rows[tier]["auc"]["low"] is not None
        assert (rows[tier]["fake"], rows[tier]["real"]) == (rows["clean"]["fake"], rows["clean"]["real"])
    page = (tmp_path / "run" / "card.md").read_text()
    assert "## Shortcuts" in page
    assert "| all | containers swapped |" in page
    assert "it is given away by format (fake 100 % png, real 100 % jpeg)" in page

"""The loop: interrupted and resumed to the same bits, stopped by what is broken, and what it leaves behind."""

from __future__ import annotations

import csv
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from glass_export.backbones import find_backbone
from glass_export.checkpoint import read_checkpoint
from glass_export.model import build_model
from glass_train.data.examples import Example
from glass_train.loop.devices import make_fabric
from glass_train.loop.files import BEST, LAST, read_checkpoint_file, write_checkpoint, write_weights
from glass_train.loop.trainer import LoopSettings, Report, Trainer, time_left
from glass_train.loop.validation import Validation
from glass_train.model.module import Trained
from glass_train.model.start import prepare_layers
from glass_train.recipe import Recipe
from numpy.typing import NDArray

from glass_rt.errors import ImageCorrupt, TrainingError
from tests.full_disk import files_limited_to

RECIPE = Recipe(
    batch=4, crops=1, dropout=0.2, learning_rates=(3e-3, 3e-3, 3e-3), weight_decays=(0.1, 0.1, 0.0), epochs=3, ema=0.9
)
SETTINGS = LoopSettings(seed=5, workers=1)


class Noise:
    """Examples of noise, the fakes reddish; `spoil` may do something at the n-th one."""

    def __init__(self, count: int = 8, spoil: Callable[[int, Example], None] = lambda _n, _e: None) -> None:
        self.labels: NDArray[np.int64] = np.arange(count) % 2
        self.pairs: list[str | None] = [None] * count
        self._spoil, self._made = spoil, 0

    def name(self, index: int) -> str:
        return f"picture {index}"

    def example(self, index: int, turn: int | None) -> Example:
        generator = np.random.Generator(np.random.PCG64([index, 0 if turn is None else turn + 1]))
        view = generator.uniform(0, 200, (224, 224, 3)).astype(np.float32)
        view[:, :, 0] += 40 * (1 - self.labels[index])
        made = Example(view, generator.integers(0, 200, (1, 224, 224, 3), dtype=np.uint8))
        self._made += 1
        self._spoil(self._made, made)
        return made


def trainer(
    folder: Path,
    training: Noise | None = None,
    recipe: Recipe = RECIPE,
    report: Report = lambda _: None,
    **settings: object,
) -> Trainer:
    torch.manual_seed(9)
    row = find_backbone("tiny_batch")
    model = build_model(row, "glass")
    prepare_layers(model, row, recipe)
    module = Trained(model, row, aid=bool(recipe.local_first))
    fabric = make_fabric(recipe, "cpu", 1)
    chosen = replace(SETTINGS, **settings)  # type: ignore[arg-type]
    return Trainer(fabric, module, recipe, training or Noise(), {"clean": Noise(6)}, folder, chosen, report)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_weights_that_export_takes_and_logs(tmp_path: Path) -> None:
    state = trainer(tmp_path).run()
    assert (state.epoch, state.step, state.finished) == (3, 6, "3 epochs")
    assert read_checkpoint(tmp_path / BEST, "tiny_batch").architecture == "glass"
    assert [row["step"] for row in rows(tmp_path / "steps.csv")] == list("123456")
    epochs = rows(tmp_path / "epochs.csv")
    assert [row["epoch"] for row in epochs] == ["1", "2", "3"]
    assert "1" in {row["best"] for row in epochs}
    assert float(rows(tmp_path / "steps.csv")[-1]["rate_head"]) > 1e-6


def press_ctrl_c() -> None:
    """What a signal does, without one: where another handler were installed, that would end the process of the tests."""
    handler = signal.getsignal(signal.SIGINT)
    assert callable(handler)
    handler(signal.SIGINT, None)


@pytest.mark.parametrize("at_image", [2, 7, 13])
def test_ctrl_c_ends_after_the_step_and_the_rest_is_the_same(at_image: int, tmp_path: Path) -> None:
    trainer(tmp_path / "whole").run()

    def interrupt(made: int, _example: Example) -> None:
        if made == at_image:
            press_ctrl_c()

    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "parted", Noise(spoil=interrupt), report=said.append).run()
    assert said[-1].endswith(f"; to go on: glass-rt train --resume --output {tmp_path / 'parted'}")
    saved = read_checkpoint_file(tmp_path / "parted" / LAST)["state"]["step"]
    assert len(rows(tmp_path / "parted" / "steps.csv")) == saved >= 1
    again = trainer(tmp_path / "parted")
    again.resume()
    assert again.run().step == 6
    for name in (BEST, "steps.csv"):
        assert (tmp_path / "parted" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    one, other = (read_checkpoint_file(tmp_path / name / LAST) for name in ("whole", "parted"))
    for part in ("module", "average"):
        assert all(torch.equal(tensor, other[part][name]) for name, tensor in one[part].items())


def test_a_loss_that_is_no_number_stops_with_the_image_and_the_last_good_checkpoint(tmp_path: Path) -> None:
    def spoil(made: int, example: Example) -> None:
        if made == 14:
            example.global_view[0] = np.nan

    with pytest.raises(TrainingError) as caught:
        trainer(tmp_path, Noise(spoil=spoil), checkpoint_steps=1).run()
    step = read_checkpoint_file(tmp_path / LAST)["state"]["step"]
    message = str(caught.value)
    assert f"epoch 2, step {step + 1}: the loss is not a number for picture " in message
    assert f"the last good checkpoint is {tmp_path / LAST}" in message


def test_weights_that_are_broken_are_never_written(tmp_path: Path) -> None:
    one = trainer(tmp_path)
    one.run()
    before = (tmp_path / LAST).read_bytes()
    broken = trainer(tmp_path, recipe=replace(RECIPE, epochs=4, learning_rates=(1e30, 1e30, 1e30)))
    with pytest.raises(TrainingError, match=r"not a number|not finite|no number"):
        broken.run()
    assert (tmp_path / LAST).read_bytes() == before


def test_an_image_that_can_no_longer_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    def spoil(made: int, _example: Example) -> None:
        if made == 3:
            raise ImageCorrupt("truncated")

    state = trainer(tmp_path, Noise(spoil=spoil)).run()
    assert state.step == 6
    assert list(state.failed.values()) == ["truncated"]


def test_a_batch_of_which_nothing_can_be_read_ends_the_run(tmp_path: Path) -> None:
    def spoil(_made: int, _example: Example) -> None:
        raise ImageCorrupt("the disk is gone")

    with pytest.raises(TrainingError, match="no image of a batch can be read any longer"):
        trainer(tmp_path, Noise(spoil=spoil)).run()


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    path = tmp_path / LAST
    write_checkpoint(path, {"tensor": torch.zeros(10)})
    before = path.read_bytes()
    with (
        files_limited_to(100_000),
        pytest.raises(TrainingError, match=r"cannot be written.*one before is whole.*--resume"),
    ):
        write_checkpoint(path, {"tensor": torch.zeros(100_000)})
    with files_limited_to(1000), pytest.raises(TrainingError, match="cannot be written"):
        write_weights(tmp_path / BEST, {"tensor": torch.zeros(100_000)}, {})
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [LAST]


def test_ctrl_c_during_the_last_validation_ends_the_run_before_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate, validations = Trainer._validate, [0]

    def interrupted(self: Trainer) -> Validation:
        validations[0] += 1
        if validations[0] == RECIPE.epochs:
            press_ctrl_c()
        return validate(self)

    monkeypatch.setattr(Trainer, "_validate", interrupted)
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, report=said.append).run()
    assert said[-1].startswith("stopped after step 6, with the training at its end; to go on: glass-rt train --resume")
    again = trainer(tmp_path)
    again.resume()
    assert (again.run().step, validations[0]) == (6, RECIPE.epochs)


def test_a_full_disk_in_a_run_names_what_to_do_and_the_run_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, Noise(spoil=lambda made, _: press_ctrl_c() if made == 2 else None)).run()
    again = trainer(tmp_path)
    again.resume()
    with files_limited_to(2000), pytest.raises(TrainingError, match="Free space on that disk"):
        again.run()
    last = trainer(tmp_path)
    last.resume()
    assert last.run().step == 6


def test_patience_ends_a_run(tmp_path: Path) -> None:
    still = replace(RECIPE, epochs=9, learning_rates=(0.0, 0.0, 0.0), final_learning_rate=0.0, patience=2, ema=None)
    state = trainer(tmp_path, recipe=replace(still, freeze=("global", "local"))).run()
    assert (state.epoch, state.best_epoch, state.finished) == (3, 1, "no better validation for 2 epochs")


def test_time_ends_a_run_with_a_validation(tmp_path: Path) -> None:
    state = trainer(tmp_path, max_seconds=1e-9).run()
    assert (state.step, state.epoch, state.best_epoch) == (1, 1, 1)
    assert state.finished.startswith("--max-time")
    judged, more = trainer(tmp_path), trainer(tmp_path)
    judged.resume(extend=False)
    assert judged.run().epoch == 1
    more.resume()
    assert more.run().finished == "3 epochs"


def test_the_local_backbone_alone_is_never_the_best(tmp_path: Path) -> None:
    state = trainer(tmp_path, recipe=replace(RECIPE, local_first=2)).run()
    assert state.best_epoch == 3
    assert [row["best"] for row in rows(tmp_path / "epochs.csv")] == ["0", "0", "1"]


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path).run()
    other = trainer(tmp_path, recipe=replace(RECIPE, ema=None, freeze=("global",)))
    with pytest.raises(TrainingError, match="of another model or version"):
        other.resume()
    (tmp_path / LAST).write_bytes(b"no checkpoint")
    with pytest.raises(TrainingError, match="is no checkpoint of a run"):
        trainer(tmp_path).resume()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "1 min"), (60, "1 min"), (61, "2 min"), (3540, "59 min"), (3541, "1 h 00 min"), (90000, "25 h 00 min")],
)
def test_the_time_that_is_left_is_said_in_words(seconds: float, words: str) -> None:
    assert time_left(seconds) == words

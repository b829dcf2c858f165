"""What a run's folder remembers of the run: options, recipe, data, versions and command, and the names of its files."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from glass_rt.errors import GlassError, TrainingError, UsageError, first_line
from glass_rt.machine.command_line import shown_command
from glass_rt.machine.environment import cpu_name, gpus, installed, usable_cores
from glass_rt.machine.write_whole import write_whole
from glass_rt.version import __version__
from glass_train.audit.dataset import audited_before
from glass_train.data.parts import Dataset
from glass_train.data.scan import Unreadable
from glass_train.data.table import DATA, read_table_of_run
from glass_train.finish.card import CARD
from glass_train.finish.decision import FOLDER as CALIBRATION
from glass_train.finish.finish import BUNDLE, TEST
from glass_train.loop.files import BEST, LAST
from glass_train.loop.logs import EPOCHS, STEPS, TENSORBOARD
from glass_train.options import TrainOptions
from glass_train.recipe import Recipe

RUN, DELIVERIES = "run.json", "deliveries"
_FOLDERS = (BUNDLE, CALIBRATION, DELIVERIES, TENSORBOARD)
_FILES = (DATA, LAST, BEST, STEPS, EPOCHS, CARD, "card.md", TEST, RUN)
_PACKAGES = ("torch", "lightning-fabric", "numpy", "opencv-python-headless", "scikit-learn")


def check_folder(folder: Path, options: TrainOptions, *, force: bool) -> None:
    """Raises UsageError where a run in `folder` would overwrite another run, the files of others, or its own input."""
    if (folder / RUN).exists():
        if not force:
            raise UsageError(
                f"{folder} holds a run already: --resume goes on with it, --force begins anew in its place"
            )
    elif there := [name for name in (*_FOLDERS, *_FILES) if (folder / name).exists()]:
        raise UsageError(f"{folder} holds {there[0]}, which a run would overwrite, and no run: name another RUN")
    for name, path in options.inputs().items():
        place = path.resolve()
        if place.is_relative_to(folder.resolve()):
            first = place.relative_to(folder.resolve()).parts[:1]
            if not first or first[0] in (*_FOLDERS, *_FILES):
                raise UsageError(
                    f"{options.shown(name)}: {path} is what a run in {folder} would overwrite; name another RUN"
                )


def clear(folder: Path) -> None:
    """Removes what an earlier run left, and nothing else."""
    for name in _FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)


def write_record(folder: Path, options: TrainOptions, recipe: Recipe, dataset: Dataset) -> None:
    """Writes `run.json`: with it, the folder holds a run."""
    policy = options.policy()
    record = {
        "schema": 1,
        "kind": "train",
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shown_command(sys.argv),
        "options": options.to_json(),
        "recipe": asdict(recipe),
        "policy": None if policy is None else asdict(policy),
        "data": {
            "sha256": dataset.sha256,
            "images": {part: len(found) for part, found in dataset.parts.items()},
            "unreadable": [asdict(one) for one in dataset.unreadable],
            "notes": list(dataset.notes),
            "audit": dataset.audit,
        },
        "versions": {"glass-rt": __version__, **{name: installed(name) for name in (options.row.library, *_PACKAGES)}},
        "machine": {"cpu": cpu_name(), "cores": usable_cores(), "gpus": [gpu.name for gpu in gpus()]},
    }
    _write(folder, record)


def note_options(folder: Path, options: TrainOptions) -> None:
    """Writes down the options with which a run goes on: the next time it goes on with them again."""
    record = _read(folder)
    _write(folder, {**record, "options": options.to_json()})


def read_record(folder: Path) -> tuple[TrainOptions, Dataset]:
    """Options and data of the run in `folder`. Raises TrainingError where they are not as they were."""
    record = _read(folder)
    try:
        options, notes = TrainOptions.from_json(record["options"]), tuple(record["data"]["notes"])
        unreadable = tuple(Unreadable(**one) for one in record["data"]["unreadable"])
        audit = record["data"]["audit"]
        options.recipe()
        dataset = replace(read_table_of_run(folder, Path(options.data)), notes=notes, unreadable=unreadable)
        if dataset.sha256 != record["data"]["sha256"]:
            raise _damaged(folder, "its table of images is not the one that it began with", DATA)
        return options, audited_before(dataset, audit, options.seed, options.loader_threads)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, GlassError):
            raise
        raise _damaged(folder, first_line(error), f"{RUN}, {DATA}") from None


def _read(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(
            f"{folder} holds no run that can go on: {error.strerror} ({RUN}); without --resume a run begins there"
        ) from None
    except (ValueError, RecursionError) as error:
        raise _damaged(folder, first_line(error)) from None
    if not isinstance(record, dict):
        raise _damaged(folder, f"a {type(record).__name__}")
    return record


def _damaged(folder: Path, what: str, where: str = RUN) -> TrainingError:
    return TrainingError(f"{folder} holds no run that can go on: {what} ({where})")


def _write(folder: Path, record: dict[str, Any]) -> None:
    write_whole(folder / RUN, (json.dumps(record, indent=1) + "\n").encode())

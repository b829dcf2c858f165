"""A run from its options to its card: data, model, loop, bundle, evaluation."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glass_rt.errors import TrainingError, UsageError, first_line
from glass_rt.inference.passed_over import PassedOver
from glass_rt.labelled.labels import labelled_images
from glass_rt.machine.command_line import shown_command
from glass_rt.machine.environment import cpu_name, gpus, installed, usable_cores
from glass_rt.machine.write_whole import write_whole
from glass_rt.progress import Stage, silent
from glass_rt.version import __version__
from glass_train.audit.dataset import audited, audited_before
from glass_train.data.examples import DeliveredExamples, Examples, PlainExamples
from glass_train.data.kept_images import KeptImages
from glass_train.data.parts import Dataset, make_parts
from glass_train.data.scan import Scanned, Unreadable, scan
from glass_train.data.table import read_table_of_run, write_table
from glass_train.data.tiers import TIERS
from glass_train.delivery.bank import BankSettings
from glass_train.finish.card import CARD
from glass_train.finish.finish import finish
from glass_train.finish.rehearsal import rehearse
from glass_train.loop.devices import make_fabric
from glass_train.loop.files import BEST
from glass_train.loop.state import State
from glass_train.loop.trainer import LoopSettings, Trainer
from glass_train.model.module import Trained
from glass_train.model.start import start_model
from glass_train.options import FREE, TrainOptions
from glass_train.quick import embedded
from glass_train.recipe import Recipe

RUN, DELIVERIES = "run.json", "deliveries"
_PACKAGES = ("torch", "lightning-fabric", "numpy", "opencv-python-headless", "scikit-learn")
_NO_MEMORY = re.compile(r"out of memory|can.?t allocate|not enough memory|bad.?alloc", re.IGNORECASE)
Report = Callable[[str], None]


def start_run(
    options: TrainOptions, folder: Path, *, force: bool = False, stage: Stage = silent, report: Report = lambda _: None
) -> State:
    """Trains in the folder `folder`, builds the bundle and judges the test split; returns where training ended.

    Raises UsageError where the folder holds a run already, LabelsInvalid, CheckpointError, TrainingError, and what
    building and judging raise; ExportError before anything else where no bundle can be built of a backbone of timm.
    """
    if (folder / RUN).exists() and not force:
        raise UsageError(f"{folder} holds a run already: --resume goes on with it, --force begins anew in its place")
    recipe = options.recipe()
    if options.bundle and not options.row.proven:
        rehearse(options, recipe, stage)
    if (folder / RUN).exists():
        _clear(folder)
    passed_over = PassedOver()
    images, unlabelled = labelled_images(Path(options.data), options.labels, passed_over)
    with stage(f"reading {len(images)} images once"):
        readable, unreadable = scan(images, options.loader_threads)
    dataset = make_parts(readable, unreadable, options.seed, options.keep_aside)
    notes = [*dataset.notes]
    if unlabelled:
        notes.append(f"{unlabelled} images have no label and are left out")
    if passed_over:
        notes.append(passed_over.remark())
    dataset = replace(dataset, notes=tuple(notes))
    with stage("looking for shortcuts in the files"):
        dataset = audited(
            dataset, options.seed, options.loader_threads, alignment=options.align, allow=options.allow_shortcuts
        )
    for note in dataset.notes:
        report(note)
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder, dataset)
    _write_run(folder, options, recipe, dataset)
    return _run(options, recipe, dataset, folder, resume=False, stage=stage, report=report)


def resume_run(
    folder: Path, changed: Mapping[str, Any], *, stage: Stage = silent, report: Report = lambda _: None
) -> State:
    """Goes on with the run in `folder`, by the options it began with; `changed` may hold some of `FREE`.

    Raises UsageError for others, and TrainingError where the run or its data are not as they were.
    """
    options, dataset = _read_run(folder)
    differing = [name for name, value in changed.items() if value != getattr(options, name)]
    if fixed := [name for name in differing if name not in FREE]:
        raise UsageError(
            f"--{fixed[0].replace('_', '-')}: a run goes on with the options it began with "
            f"({getattr(options, fixed[0])}); leave it out, or begin anew with --force"
        )
    options = replace(options, **{name: changed[name] for name in differing})
    return _run(options, options.recipe(), dataset, folder, resume=True, stage=stage, report=report)


def join_run(folder: Path, changed: Mapping[str, Any], *, resume: bool) -> State:
    """What a further process of a run does, which the first one has started after writing the run's folder."""
    options, dataset = _read_run(folder)
    options = replace(options, **{name: changed[name] for name in FREE if name in changed})
    return _run(options, options.recipe(), dataset, folder, resume=resume, stage=silent, report=lambda _: None)


def _read_run(folder: Path) -> tuple[TrainOptions, Dataset]:
    try:
        record = json.loads((folder / RUN).read_text(encoding="utf-8"))
        options, notes = TrainOptions.from_json(record["options"]), tuple(record["data"]["notes"])
        unreadable = tuple(Unreadable(**one) for one in record["data"]["unreadable"])
        audit = record["data"]["audit"]
    except OSError as error:
        raise TrainingError(
            f"{folder} holds no run that can go on: {error.strerror} ({RUN}); without --resume a run begins there"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{folder} holds no run that can go on: {first_line(error)} ({RUN})") from None
    dataset = replace(read_table_of_run(folder, Path(options.data)), notes=notes, unreadable=unreadable)
    return options, audited_before(dataset, audit, options.seed, options.loader_threads)


def _run(
    options: TrainOptions,
    recipe: Recipe,
    dataset: Dataset,
    folder: Path,
    *,
    resume: bool,
    stage: Stage,
    report: Report,
) -> State:
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads or usable_cores())
    try:
        fabric = make_fabric(recipe, options.device, options.devices)
        with _memory_named(recipe):
            trainer = _trainer(fabric, options, recipe, dataset, folder, stage, report)
            if resume and trainer.can_resume:
                trainer.resume(extend=not (folder / CARD).exists())  # the test split is judged once
                _report_where(trainer, folder, report)
            state = trainer.run()
        if not state.best_epoch:
            raise TrainingError(
                "the run ended before the whole model was trained (--local-first is the beginning alone); go on with "
                "--resume and a longer --max-time"
            )
        if fabric.global_rank == 0:
            report(f"trained: {state.finished}; best epoch: {state.best_epoch}")
            if options.bundle:
                finish(options, recipe, dataset, folder, state, stage)
    finally:
        torch.set_num_threads(threads)
    return state


def _report_where(trainer: Trainer, folder: Path, report: Report) -> None:
    """Says where a run goes on, or why more time does not let it go on."""
    state = trainer.state
    if not state.finished:
        report(f"going on after step {state.step}, in epoch {state.epoch + 1}")
    elif trainer.has_more_time and (folder / CARD).exists():
        report("the training does not go on with any --max-time: the test split has been judged")


def _trainer(
    fabric: Any,
    options: TrainOptions,
    recipe: Recipe,
    dataset: Dataset,
    folder: Path,
    stage: Stage,
    report: Report,
) -> Trainer:
    with stage("loading the weights"):
        model = start_model(options.row, options.architecture, options.weights, recipe, options.seed)
    images = _shuffled(dataset.parts["train"], options.seed) if options.shuffle_labels else dataset.parts["train"]
    training: Examples = _training(options, recipe, images, folder)
    tiers: dict[str, Examples] = {
        tier: PlainExamples(dataset.parts["val"], recipe.crops, options.seed, TIERS[tier]) for tier in options.tiers
    }
    if options.quick:
        with stage(f"computing the embeddings of {len(images)} images, {options.deliveries} times"):
            training = embedded(fabric, model, training, range(options.deliveries), options.loader_threads)
        with stage(f"computing the embeddings of {len(dataset.parts['val'])} validation images"):
            tiers = {tier: embedded(fabric, model, one, [None], options.loader_threads) for tier, one in tiers.items()}
    aid = bool(recipe.local_first or recipe.crop_loss)
    module = Trained(model, options.row, aid=aid, embedded=options.quick)
    settings = LoopSettings(
        seed=options.seed,
        workers=options.loader_threads,
        max_seconds=None if options.max_time is None else 60 * options.max_time,
        checkpoint_steps=options.checkpoint_steps,
        tensorboard=options.tensorboard,
        facts={"glass_train": json.dumps(_facts(options, dataset))},
    )
    return Trainer(fabric, module, recipe, training, tiers, folder, settings, report)


def _training(options: TrainOptions, recipe: Recipe, images: Sequence[Scanned], folder: Path) -> Examples:
    policy, crops = options.policy(), recipe.step_crops or recipe.crops
    if policy is None:
        return PlainExamples(images, crops, options.seed, kept=KeptImages(options.devices))
    kind: Any = options.architecture
    settings = BankSettings(policy, options.seed, options.deliveries, kind)
    return DeliveredExamples(images, crops, folder / DELIVERIES, settings, kept=KeptImages(options.devices))


def _shuffled(images: Sequence[Scanned], seed: int) -> tuple[Scanned, ...]:
    """The same images with labels that mean nothing: what is learned then is chance. Pairs are forgotten."""
    order = np.random.Generator(np.random.PCG64([seed, 1])).permutation(len(images))
    labels = [images[i].image.fake for i in order]
    return tuple(
        replace(scanned, image=replace(scanned.image, fake=fake, pair=None))
        for scanned, fake in zip(images, labels, strict=True)
    )


def _facts(options: TrainOptions, dataset: Dataset) -> dict[str, Any]:
    """What the weights' file says of itself."""
    return {
        "backbone": options.row.name,
        "architecture": options.architecture,
        "weights": Path(options.weights).name,
        "data_sha256": dataset.sha256,
        "labels_shuffled": options.shuffle_labels,
        "audit": dataset.audit,
        "glass-rt": __version__,
    }


@contextmanager
def _memory_named(recipe: Recipe) -> Iterator[None]:
    """Says which option helps where the machine has too little memory for a step."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        raise TrainingError(
            f"not enough memory for a step of {recipe.batch} images with {recipe.crops} crops each: --accumulate N "
            f"(now {recipe.accumulate}) computes it in N parts to the same end, --batch and --crops make it smaller, "
            "--workers 1 loads fewer images at once, --freeze keeps a backbone out of it"
        ) from error


def _write_run(folder: Path, options: TrainOptions, recipe: Recipe, dataset: Dataset) -> None:
    record = {
        "schema": 1,
        "kind": "train",
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shown_command(sys.argv),
        "options": options.to_json(),
        "recipe": asdict(recipe),
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
    write_whole(folder / RUN, (json.dumps(record, indent=1) + "\n").encode())


def _clear(folder: Path) -> None:
    """Removes what an earlier run left, and nothing else."""
    for name in ("bundle", "calibration", DELIVERIES, "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (RUN, "data.csv", "last.pt", BEST, "steps.csv", "epochs.csv", "card.json", "card.md", "test.csv"):
        (folder / name).unlink(missing_ok=True)

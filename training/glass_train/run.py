"""A run from its options to its card: data, model, loop, bundle, evaluation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glass_rt.errors import TrainingError, UsageError
from glass_rt.inference.passed_over import PassedOver
from glass_rt.labelled.labels import labelled_images
from glass_rt.machine.environment import usable_cores
from glass_rt.progress import Stage, silent
from glass_rt.version import __version__
from glass_train.audit.dataset import audited
from glass_train.data.examples import DeliveredExamples, Examples, PlainExamples
from glass_train.data.kept_images import KeptImages
from glass_train.data.parts import Dataset, make_parts
from glass_train.data.scan import Scanned, scan
from glass_train.data.table import write_table
from glass_train.data.tiers import TIERS
from glass_train.delivery.bank import BankSettings
from glass_train.finish.card import CARD
from glass_train.finish.finish import check_backend, finish
from glass_train.finish.rehearsal import rehearse
from glass_train.loop.devices import check_device, make_fabric
from glass_train.loop.files import LAST, read_checkpoint_file
from glass_train.loop.logs import tensorboard_writer
from glass_train.loop.state import State
from glass_train.loop.trainer import LoopSettings, Trainer
from glass_train.model.module import Trained, load_model
from glass_train.model.start import NONE, AnyModel, start_model
from glass_train.options import FREE, TrainOptions
from glass_train.quick import embedded
from glass_train.recipe import Recipe
from glass_train.record import DELIVERIES, RUN, check_folder, clear, note_options, read_record, write_record

_NO_MEMORY = re.compile(r"out of memory|can.?t allocate|not enough memory|bad.?alloc", re.IGNORECASE)
Report = Callable[[str], None]


def start_run(
    options: TrainOptions, folder: Path, *, force: bool = False, stage: Stage = silent, report: Report = lambda _: None
) -> State:
    """Trains in the folder `folder`, builds the bundle and judges the test split; returns where training ended.

    With `force` a run that the folder holds is removed, once the new one can begin. Raises UsageError where the folder
    holds what a run would overwrite, LabelsInvalid, CheckpointError, TrainingError, and what building and judging
    raise; ExportError before anything else where no bundle can be built of a backbone of timm.
    """
    options = options.settled()
    check_folder(folder, options, force=force)
    recipe = options.recipe()
    _try_the_end(options, recipe, stage)
    dataset = _read_data(options, stage)
    for note in dataset.notes:
        report(note)
    if (folder / RUN).exists():
        clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder, dataset)
    write_record(folder, options, recipe, dataset)
    return _run(options, recipe, dataset, folder, resume=False, stage=stage, report=report)


def resume_run(
    folder: Path, changed: Mapping[str, Any], *, stage: Stage = silent, report: Report = lambda _: None
) -> State:
    """Goes on with the run in `folder`, by the options it began with; `changed` may hold some of `FREE`.

    What is changed stays so, should the run go on once more. Raises UsageError for others, and TrainingError where the
    run or its data are not as they were.
    """
    options, dataset = read_record(folder)
    options = options.settled()
    values = None if "delivery" in changed else options.delivery_values
    asked = replace(options, **changed, delivery_values=values).settled()
    differing = [field.name for field in fields(options) if getattr(asked, field.name) != getattr(options, field.name)]
    if fixed := [name for name in differing if name not in FREE]:
        raise UsageError(
            f"{options.shown(fixed[0])}: a run goes on with the options it began with ({getattr(options, fixed[0])}); "
            "leave it out, or begin anew with --force"
        )
    if asked.bundle:
        check_backend(asked.backend)
    note_options(folder, asked)
    return _run(asked, asked.recipe(), dataset, folder, resume=True, stage=stage, report=report)


def join_run(folder: Path, changed: Mapping[str, Any], *, resume: bool) -> State:
    """What a further process of a run does, which the first one has started after writing the run's folder."""
    options, dataset = read_record(folder)
    options = replace(options, **{name: changed[name] for name in FREE if name in changed})
    return _run(options, options.recipe(), dataset, folder, resume=resume, stage=silent, report=lambda _: None)


def _try_the_end(options: TrainOptions, recipe: Recipe, stage: Stage) -> None:
    """Tries first what would otherwise fail after the images are read, or after training."""
    check_device(recipe, options.device, options.devices)
    if options.tensorboard:
        tensorboard_writer()
    if options.bundle:
        check_backend(options.backend)
    if options.bundle and not options.row.proven:
        rehearse(options, recipe, stage)
    elif options.weights != NONE:
        with stage("trying the weights"):
            start_model(options.row, options.architecture, options.weights, recipe, options.seed)


def _read_data(options: TrainOptions, stage: Stage) -> Dataset:
    """The images in their parts, audited, with notes of all that was left out."""
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
    with stage("looking for shortcuts in the files"):
        return audited(
            replace(dataset, notes=tuple(notes)),
            options.seed,
            options.loader_threads,
            alignment=options.align,
            allow=options.allow_shortcuts,
        )


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
            with stage("loading the weights"):
                model = _model(options, recipe, folder, resume=resume)
            trainer = _trainer(fabric, model, options, recipe, dataset, folder, stage, report)
            if resume and trainer.can_resume:
                trainer.resume(extend=not (folder / CARD).exists())  # the test split is judged once
                _report_where(trainer, folder, report)
            try:
                state = trainer.run()
            except KeyboardInterrupt:
                if fabric.global_rank == 0:
                    raise
                return trainer.state  # the first process says that it was stopped
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


def _model(options: TrainOptions, recipe: Recipe, folder: Path, *, resume: bool) -> AnyModel:
    """The model that training begins with; where it goes on, its checkpoint has the weights, and no other file."""
    goes_on = resume and (folder / LAST).exists()
    weights = NONE if goes_on else options.weights
    model = start_model(options.row, options.architecture, weights, recipe, options.seed)
    if goes_on and options.quick:  # its embeddings are computed before the trainer takes the checkpoint up
        load_model(model, read_checkpoint_file(folder / LAST), folder / LAST)
    return model


def _trainer(
    fabric: Any,
    model: AnyModel,
    options: TrainOptions,
    recipe: Recipe,
    dataset: Dataset,
    folder: Path,
    stage: Stage,
    report: Report,
) -> Trainer:
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

"""The audit of a run's images: before training, and again of the aligned ones where alignment was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

from glass_rt.errors import TrainingError
from glass_rt.image.encoded import load
from glass_train.audit.align import Need, align, audit_aligned, need_of
from glass_train.audit.container import Container, read_container
from glass_train.audit.report import as_json, refusal
from glass_train.audit.shortcut import audit
from glass_train.audit.swap import swapped
from glass_train.data.parts import Dataset
from glass_train.data.scan import Scanned
from glass_train.delivery.step import Step


def audited(dataset: Dataset, seed: int, workers: int, *, alignment: bool, allow: bool) -> Dataset:
    """The data set with its audit, and with what aligns its images where `alignment` is asked for.

    Raises TrainingError where the label can be told from the containers and `allow` is not given: the message names the
    fact. An alignment that helps too little is refused likewise.
    """
    images = [scanned for found in dataset.parts.values() for scanned in found]
    fake, groups = [scanned.image.fake for scanned in images], [_group(scanned) for scanned in images]
    containers = _containers(images, workers)
    found = audit(containers, fake, groups, seed)
    record: dict[str, Any] = {"containers": as_json(found), "allowed": allow, "alignment": None, "aligned": None}
    if not alignment or found.passes:
        if not found.passes and not allow:
            raise TrainingError(refusal(found))
        return replace(dataset, audit=record)
    need = need_of(found)
    alignments = align(containers, fake, [scanned.image.name for scanned in images], need, seed)
    after = audit_aligned(
        containers, alignments, lambda i: load(images[i].image.path).pixels, fake, groups, seed, workers
    )
    if not after.passes and not allow:
        raise TrainingError(refusal(after, aligned=True))
    record |= {"alignment": asdict(need), "aligned": as_json(after)}
    return _with_steps(replace(dataset, audit=record), [one.steps for one in alignments])


def audited_before(dataset: Dataset, record: dict[str, Any], seed: int, workers: int) -> Dataset:
    """The same data set again from the record of its audit, for a run that goes on."""
    if record["alignment"] is None:
        return replace(dataset, audit=record)
    images = [scanned for found in dataset.parts.values() for scanned in found]
    names, fake = [scanned.image.name for scanned in images], [scanned.image.fake for scanned in images]
    alignments = align(_containers(images, workers), fake, names, Need(**record["alignment"]), seed)
    return _with_steps(replace(dataset, audit=record), [one.steps for one in alignments])


def swapped_containers(images: Sequence[Scanned], seed: int, workers: int) -> list[tuple[Step, ...]] | None:
    """What codes each image as one of the other class is coded; None where there is one class alone."""
    fake = [scanned.image.fake for scanned in images]
    if len(set(fake)) < 2:
        return None
    return swapped(_containers(images, workers), fake, [scanned.image.name for scanned in images], seed)


def _containers(images: Sequence[Scanned], workers: int) -> list[Container]:
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda scanned: read_container(scanned.image.path), images))


def _group(scanned: Scanned) -> str:
    return scanned.image.group or scanned.image.pair or scanned.pixels_sha256


def _with_steps(dataset: Dataset, steps: Sequence[tuple[Step, ...]]) -> Dataset:
    waiting = iter(steps)
    parts = {
        part: tuple(replace(scanned, before=next(waiting)) for scanned in found)
        for part, found in dataset.parts.items()
    }
    return replace(dataset, parts=parts)

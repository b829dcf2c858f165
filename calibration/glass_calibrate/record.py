"""The record of one calibration: what it was asked for, what it counted, what it found."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from glass_calibrate.fitting import Finding, Settings
from glass_calibrate.judging import Judged
from glass_calibrate.samples import Sample, Samples
from glass_rt.labelled.labels import LabelledImage
from glass_rt.labelled.leakage import Guess, guess_by_group, size_class
from glass_rt.labelled.parts import part_warnings
from glass_rt.machine.write_whole import write_whole

SCHEMA = 1
RECORD = "calibration.json"
_MOST_NAMED = 5


@dataclass(frozen=True)
class Counts:
    """The images: labelled ones, and why some of them do not count. `unlabelled` lie beside them without a label.

    Of those that count, `sourceless` have nothing under `--group`, and `learnt` are of the splits train and val.
    """

    labelled: int
    unlabelled: int
    unjudged: Mapping[str, str]
    duplicates: Mapping[str, str]
    same_source: int
    sourceless: int
    learnt: int
    counted: int


@dataclass(frozen=True, eq=False)
class Record:
    """One calibration with its samples, for the report. `installed`: the bundle has it."""

    bundle: str
    installed: bool
    settings: Settings
    counts: Counts
    finding: Finding
    samples: Samples
    guesses: tuple[Guess, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON values: all but the scores, which stand in `scores.jsonl`."""
        finding = self.finding
        return {
            "schema": SCHEMA,
            "kind": "calibration",
            "bundle": self.bundle,
            "installed": self.installed,
            "settings": asdict(self.settings),
            "counts": asdict(self.counts),
            "calibration": finding.calibration.to_json(),
            "tiers": [{**asdict(found), "tier": found.tier.name} for found in finding.tiers],
            "answers": asdict(finding.answers),
            "groups": [asdict(table) for table in finding.groups],
            "probabilities": finding.probabilities and asdict(finding.probabilities),
            "auc": finding.auc,
            "guesses": [asdict(guess) for guess in self.guesses],
            "warnings": list(self.warnings),
        }

    def write(self, folder: Path) -> None:
        """Writes `calibration.json`."""
        text = json.dumps(self.to_json(), indent=1, allow_nan=False)
        write_whole(folder / RECORD, f"{text}\n".encode())


def make_record(
    bundle: Path,
    images: Sequence[LabelledImage],
    unlabelled: int,
    judged: Judged,
    samples: Samples,
    finding: Finding,
    settings: Settings,
) -> Record:
    """The record of a calibration that no bundle has yet, with its warnings."""
    names = {image.path: image.name for image in images}
    counts = Counts(
        labelled=len(images),
        unlabelled=unlabelled,
        unjudged={names[path]: reason for path, reason in judged.unjudged.items()},
        duplicates=samples.dropped,
        same_source=len(samples.unique) - len(samples.counted),
        sourceless=sum(not sample.sourced for sample in samples.counted) if settings.group is not None else 0,
        learnt=sum(sample.image.split in ("train", "val") for sample in samples.counted),
        counted=len(samples.counted),
    )
    guesses = leaks(samples.counted)
    warnings = (*part_warnings(images), *warnings_before(counts, guesses, settings), *_warnings_of(finding))
    return Record(bundle.resolve().name, False, settings, counts, finding, samples, guesses, warnings)


def leaks(samples: Sequence[Sample]) -> tuple[Guess, ...]:
    """How well format, size and JPEG quality alone tell the label; the quality among the JPEGs of both classes."""
    fake = [sample.fake for sample in samples]
    facts = [sample.facts for sample in samples]
    found = [
        guess_by_group("file format", [one.format for one in facts], fake),
        guess_by_group("image size", [size_class(one.width, one.height) for one in facts], fake),
    ]
    jpegs = [
        (f"{one.jpeg_quality // 5 * 5}", label) for one, label in zip(facts, fake, strict=True) if one.jpeg_quality
    ]
    if len({label for _, label in jpegs}) == 2:
        found.append(guess_by_group("JPEG quality", *map(list, zip(*jpegs, strict=True))))
    return tuple(found)


def warnings_before(counts: Counts, guesses: Sequence[Guess], settings: Settings) -> Iterator[str]:
    """What is to be known of the images, whatever their scores."""
    if counts.unjudged:
        named = ", ".join(list(counts.unjudged)[:_MOST_NAMED])
        more = ", and more" if len(counts.unjudged) > _MOST_NAMED else ""
        yield (
            f"{len(counts.unjudged)} of {counts.labelled} images could not be judged, have no score and count in no "
            f"figure: {named}{more}"
        )
    if counts.unlabelled:
        yield f"{counts.unlabelled} images have no label and are left out"
    if counts.duplicates:
        yield f"{len(counts.duplicates)} images are copies of others, in file or in pixels, and were dropped"
    if settings.group is None:
        yield (
            "every image counts as independent: bursts, frames of one film and twins of one photograph are not. "
            "--group COLUMN lets one image of each source count"
        )
    elif counts.same_source:
        yield f"{counts.same_source} images share their source with one that counts, and choose no threshold"
    if counts.sourceless:
        yield f"{counts.sourceless} images have no {settings.group}: each of them counts as independent"
    for guess in guesses:
        if guess.leaks:
            yield (
                f"the label hides in the {guess.by}: guessing by it alone is right for {guess.accuracy:.0%}, both "
                f"classes weighing alike (by chance {guess.base_rate:.0%}), so scores here may say nothing of content"
            )


def _warnings_of(finding: Finding) -> Iterator[str]:
    if finding.auc < 0.5:
        yield (
            f"the AUC is {finding.auc:.3f}, under 0.5: the model cannot tell these images apart, or the classes are "
            "swapped; if they are, build again with --classes real,fake"
        )
    lacking: dict[str, list[str]] = {}  # tiers by what they lack: most lack the same
    for found in finding.tiers:
        for missing in found.missing:
            lacking.setdefault(missing, []).append(found.tier.name)
    for missing, tiers in lacking.items():
        yield f"{', '.join(tiers)}: {missing}"

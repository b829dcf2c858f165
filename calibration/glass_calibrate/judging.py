"""Labelled images judged as `infer` does: their scores are kept in a file, and a run that was cut short goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any

from glass_rt.bundle.folder import sha256_of
from glass_rt.bundle.from_json import record_from_json
from glass_rt.decision.calibration import Conditions
from glass_rt.decision.tiers import InputFacts
from glass_rt.detector import Detector
from glass_rt.errors import UsageError
from glass_rt.labelled.labels import LabelledImage
from glass_rt.machine.file_names import name_from_text
from glass_rt.machine.write_whole import write_whole
from glass_rt.options import DetectOptions
from glass_rt.results.output import open_output
from glass_rt.results.verdict import Verdict

SCORES = "scores.jsonl"  # rows as those of `infer --output`
ORIGIN = "scores.json"  # whose scores they are

Progress = Callable[[int, int, int], None]  # judged in this run, of how many, failed


@dataclass(frozen=True)
class Scored:
    """What the engine said of one file: `score` is P(fake), a float32 held as a float."""

    sha256: str
    score: float
    facts: InputFacts


@dataclass(frozen=True)
class Judged:
    """The scores of labelled images by their paths, and why others have none, in one line each."""

    scored: dict[str, Scored]
    unjudged: dict[str, str]


def judge_labelled(
    detector: Detector,
    images: Sequence[LabelledImage],
    folder: Path,
    options: DetectOptions,
    conditions: Conditions,
    stopped: Event,
    progress: Progress = lambda _done, _total, _failed: None,
) -> Judged:
    """Judges the images whose scores `folder` does not hold yet, and keeps them there.

    An image whose file has changed is judged again, and so is one that could not be judged. Once `stopped` is set, no
    new images are begun, and KeyboardInterrupt is raised when those under way are written. Raises UsageError where
    `folder` holds scores of other engines or other options, or rows that are no scores.
    """
    _claim(folder, detector.bundle.content_sha256, conditions)
    with open_output(folder / SCORES, resume=True) as journal:
        judged = Judged(_kept(folder / SCORES, {image.path for image in images}), {})
        waiting = [image.path for image in images if image.path not in judged.scored]
        for done, result in enumerate(detector.detect_many(_until(stopped, waiting), options), start=1):
            assert result.path is not None, "paths were given"
            if isinstance(result, Verdict):
                judged.scored[result.path] = _scored(result.to_json(), result.path)
                journal.add(result)
            else:
                judged.unjudged[result.path] = f"{result.error.kind}: {result.error}"
            progress(done, len(waiting), len(judged.unjudged))
    if stopped.is_set():
        raise KeyboardInterrupt
    return judged


def _claim(folder: Path, content: str, conditions: Conditions) -> None:
    """Notes whose scores the folder holds. Raises UsageError where they are those of others."""
    origin = {"content_sha256": content, "conditions": asdict(conditions)}
    path = folder / ORIGIN
    if not path.exists():
        if (folder / SCORES).exists():
            raise UsageError(f"{folder / SCORES} is there without {ORIGIN}: choose another folder with --report")
        write_whole(path, (json.dumps(origin, indent=1) + "\n").encode())
    elif path.read_bytes() != (json.dumps(origin, indent=1) + "\n").encode():
        raise UsageError(
            f"{folder} holds scores of another engine or of other options (see {path}): choose another folder with "
            "--report, or delete that one"
        )


def _kept(path: Path, wanted: set[str]) -> dict[str, Scored]:
    """What the file says of the wanted images, of those whose content is still what was judged."""
    kept: dict[str, Scored] = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if (name := name_from_text(row["path"])) in wanted and "error" not in row:
                kept[name] = _scored(row, f"{path}: the row of {row['path']}")
    return {name: scored for name, scored in kept.items() if _sha256(name) == scored.sha256}


def _sha256(name: str) -> str | None:
    try:
        return sha256_of(Path(name))
    except OSError:
        return None


def _until(stopped: Event, paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        if stopped.is_set():
            return
        yield path


def _scored(row: dict[str, Any], where: str) -> Scored:
    """What a row says. Raises UsageError, by `where`, for one that lacks it: rows may have been altered."""
    facts = {name: row.get(name) for name in ("width", "height", "format", "jpeg_quality")}
    facts["stratified"] = row.get("stratified") if row.get("sampling") == "stratified" else None
    values = {"sha256": row.get("sha256"), "score": row.get("probability_fake"), "facts": facts}
    return record_from_json(Scored, values, where, error=UsageError)

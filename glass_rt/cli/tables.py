"""How `infer` prints: a table for people, JSON, JSON lines, CSV. Results on `out` as they come, remarks at the end."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TextIO

from glass_rt.decision.decide import SEED_CHOSEN
from glass_rt.errors import GlassError
from glass_rt.results.decision_text import NOT_CALIBRATED, in_words
from glass_rt.results.file_names import text_from_name
from glass_rt.results.lines import CSV_HEADER, csv_line, json_line
from glass_rt.results.verdict import UNTRAINED, Failure, Verdict

WHOLE = (UNTRAINED, NOT_CALIBRATED, SEED_CHOSEN)  # notices that concern a run rather than an image
FORMATS = ("json", "jsonl", "csv", "table")


class Results:
    """Takes results in order; `failed` counts those that are no verdicts, `undrawn` pictures that were not written."""

    _uncounted = 1  # so many results need no count, since each of them is printed

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.count = 0
        self.failed = 0
        self.undrawn = 0
        self._notices: Counter[str] = Counter()
        self._remarks: list[str] = []

    def add(self, result: Verdict | Failure) -> None:
        """One result."""
        if isinstance(result, Verdict):
            self._notices.update(_headline(notice) for notice in result.notices)
        else:
            self.failed += 1
        self._write(result)
        self.count += 1
        self._out.flush()

    def note_overlay(self, outcome: Path | GlassError) -> None:
        """Where the last result's evidence picture is, or why there is none."""
        if isinstance(outcome, GlassError):
            self.undrawn += 1
            self._remarks.append(f"no evidence picture: {outcome}")
        else:
            self._remarks.append(f"evidence picture: {outcome}")

    def finish(self, remarks: TextIO | None) -> None:
        """Completes the output; `remarks` (None: silence) gets what concerns several results."""
        self._end()
        self._out.flush()
        if remarks is None:
            return
        for line in self._remarks:
            print(text_from_name(line), file=remarks)
        if self.count > self._uncounted:
            print(f"{self.count - self.failed} of {self.count} judged", file=remarks)
            for notice, count in self._notices.most_common():
                print(f"  {count} x {notice}", file=remarks)

    def _write(self, result: Verdict | Failure) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        pass


class JsonResults(Results):
    """One object for a single file argument, else an array, written as it grows."""

    def __init__(self, out: TextIO, *, single: bool) -> None:
        super().__init__(out)
        self._single = single

    def _write(self, result: Verdict | Failure) -> None:
        if not self._single:
            self._out.write("[\n" if self.count == 0 else ",\n")
        self._out.write(json.dumps(result.to_json(), indent=2 if self._single else None, allow_nan=False))

    def _end(self) -> None:
        self._out.write("\n" if self._single else ("[]\n" if self.count == 0 else "\n]\n"))


class JsonLinesResults(Results):
    """One object per line."""

    def _write(self, result: Verdict | Failure) -> None:
        self._out.write(json_line(result))


class CsvResults(Results):
    """A row per image; failures have the last two columns."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        out.write(CSV_HEADER)

    def _write(self, result: Verdict | Failure) -> None:
        self._out.write(csv_line(result))


class TableResults(Results):
    """For people: one line per image, and the evidence below it where there is only one image."""

    def __init__(self, out: TextIO, *, single: bool) -> None:
        super().__init__(out)
        self._single = single

    def _write(self, result: Verdict | Failure) -> None:
        path = text_from_name(result.path or "-")
        if isinstance(result, Failure):
            self._out.write(f"{'ERROR':<25}{path}: {text_from_name(str(result.error))}\n")
            return
        label = f"{result.label.upper()}  {result.probability_fake:.4f}  {'' if result.trained else 'untrained'}"
        marks = "" if self._single or not _worth_marking(result) else "  *"
        self._out.write(f"{label:<25}{path}{marks}\n")
        if self._single:
            self._out.writelines(f"  {line}\n" for line in _details(result))

    def _end(self) -> None:
        if not self._single and any(notice not in WHOLE for notice in self._notices):
            self._out.write("* see the notices (--json gives each image's)\n")


class CountedResults(Results):
    """For results that go to a file: of those that come it prints only the failures that the file does not get."""

    _uncounted = 0

    def _write(self, result: Verdict | Failure) -> None:
        if isinstance(result, Failure) and not result.lasting:
            path, reason = (text_from_name(text) for text in (result.path or "-", str(result.error)))
            self._out.write(f"not in the output, --resume tries again: {path}: {reason}\n")


def writer_for(form: str, out: TextIO, *, single: bool) -> Results:
    """The writer of one of FORMATS; `single` says that one file was named."""
    if form == "json":
        return JsonResults(out, single=single)
    if form == "jsonl":
        return JsonLinesResults(out)
    return CsvResults(out) if form == "csv" else TableResults(out, single=single)


def _details(verdict: Verdict) -> list[str]:
    lines = [
        f"P(AI-generated) = {verdict.probability_fake:.4f}",
        *in_words(verdict.decision),
        f"{verdict.width} x {verdict.height} {verdict.format}, {text_from_name(verdict.engine.name)} "
        f"({verdict.engine.backend} {verdict.engine.precision})",
    ]
    if verdict.sampling is not None:
        how = f"stratified over {verdict.grid} x {verdict.grid} cells" if verdict.stratified else verdict.sampling
        how = "not stratified" if verdict.sampling == "stratified" and not verdict.stratified else how
        seed = "" if verdict.seed is None else f", seed {verdict.seed}"
        lines.append(f"{len(verdict.crops)} crops, {how}{seed}; the strongest:")
        lines += _strongest(verdict)
    times = verdict.timings_ms
    lines.append(
        f"{times.total:.0f} ms: decode {times.decode:.0f}, views {times.views:.0f}, "
        f"engine {times.engine:.0f}, aggregate {times.aggregate:.1f}"
    )
    return lines + [f"! {notice}" for notice in verdict.notices]


def _strongest(verdict: Verdict, count: int = 3) -> list[str]:
    ranked = sorted(enumerate(verdict.crops, start=1), key=lambda item: -abs(item[1].effect or 0.0))
    return [
        f"  crop {number} at left {crop.left}, top {crop.top}: attention {crop.attention:.3f}"
        + ("" if crop.effect is None else f", effect {crop.effect:+.4f}")
        for number, crop in ranked[:count]
    ]


def _worth_marking(verdict: Verdict) -> bool:
    return any(notice not in WHOLE for notice in verdict.notices)


def _headline(notice: str) -> str:
    """A notice without the image's own numbers, so that they can be counted."""
    return notice if notice in WHOLE else notice.split(":")[0]

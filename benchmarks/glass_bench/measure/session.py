"""The session of one contender: its process while it lives, and what has been measured of it so far."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glass_bench.errors import ContenderFailed
from glass_bench.measure.contenders import Contender
from glass_bench.measure.participants import Participant
from glass_bench.measure.process import ContenderProcess
from glass_bench.measure.record import ContenderEntry, RunEntry, ServerEntry, SweepPoint


@dataclass
class ContenderSession:
    """One contender's process and measurements. Mutable: measurements are added as they come; `entry` records them."""

    participant: Participant
    process: ContenderProcess | None = None
    status: str = "measured"
    complaint: str | None = None
    peak_mb: float | None = None
    probe_ms: float = 0.0
    windows: int = 0
    runs: list[RunEntry] = field(default_factory=list)
    server: ServerEntry | None = None
    crop_sweep: list[SweepPoint] = field(default_factory=list)
    size_sweep: list[SweepPoint] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The contender's name."""
        return self.contender.name

    @property
    def contender(self) -> Contender:
        """What is measured."""
        return self.participant.contender

    @property
    def running(self) -> bool:
        """Whether it can still be measured."""
        return self.process is not None and self.status == "measured"

    @property
    def architecture(self) -> str:
        """The architecture of its bundle once that is open; before, an empty string."""
        return self.process.description.architecture if self.process else ""

    def open(self, *, check: bool = True) -> None:
        """Starts its process; a contender that cannot be opened, or computes something else, takes no further part.

        `check` False: its engines were compared with their reference before. The comparison has a process of its own,
        so that its memory is not in the peak of the one that is measured.
        """
        complaint = None
        try:
            if check:
                with ContenderProcess(self.contender) as process:
                    complaint = process.ask("check")["complaint"]
            self.process = ContenderProcess(self.contender)
        except ContenderFailed as error:
            self.fail(error)
            return
        if complaint:
            self.disqualify("wrong", f"{self.name}: {complaint}")

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Gives its process an order. Raises ContenderFailed."""
        assert self.process is not None, "asked while it runs"
        return self.process.ask(command, **arguments)

    def judge(self, paths: Sequence[str], crops: int | None = None) -> list[dict[str, Any]]:
        """Judges images one by one; raises ContenderFailed for the first without a probability."""
        results: list[dict[str, Any]] = self.ask("judge", paths=list(paths), crops=crops)["results"]
        for path, result in zip(paths, results, strict=True):
            if result["error"]:
                raise ContenderFailed(f"{self.name}: {Path(path).name}: {result['error']}")
        return results

    def run(self, scenario: str, repeat: int, **arguments: Any) -> RunEntry | None:
        """Makes one LoadGen run and records it; None where the process died."""
        try:
            reply = self.ask(scenario, **arguments)
        except ContenderFailed as error:
            self.fail(error)
            return None
        entry = RunEntry(repeat=repeat, **{key: _tuple(value) for key, value in reply.items()})
        self.runs.append(entry)
        if entry.void:
            self.disqualify(
                "failed", f"{self.name}: {entry.failures} of {len(entry.images)} queries: {entry.reasons[0]}"
            )
        return entry

    def fail(self, error: Exception) -> None:
        """Notes that its process died or refused an order."""
        self.disqualify("failed", str(error))

    def disqualify(self, status: str, complaint: str) -> None:
        """Ends its part in the benchmark, with the reason."""
        self.status, self.complaint = status, self._without_paths(complaint)

    def _without_paths(self, text: str) -> str:
        """Records hold no path of the machine: the bundle's and the checkpoint's are cut to their last part."""
        for given in filter(None, (self.contender.bundle, self.contender.checkpoint)):
            for path in (str(Path(given).resolve()), given):
                if os.sep in path:
                    text = text.replace(path, Path(path).name)
        return text

    def take_memory(self) -> None:
        """Notes the most memory that it has had."""
        if self.running:
            self.peak_mb = self.ask("memory")["peak_mb"]

    def close(self) -> None:
        """Ends its process."""
        if self.process is not None:
            self.process.close()

    def entry(self) -> ContenderEntry:
        """Everything measured, as it goes into the record."""
        contender, process = self.contender, self.process
        description = process.description if process else None
        return ContenderEntry(
            name=self.name,
            role=self.participant.role,
            kind=contender.kind,
            bundle=Path(contender.bundle).resolve().name,
            sampling=contender.sampling,
            crops=description.crops if description else contender.crops or 0,
            threads=contender.threads,
            workers=contender.workers,
            batch=contender.batch,
            variant_of=self.participant.variant_of,
            status=self.status,
            complaint=self.complaint,
            description=description,
            open_s=process.open_s if process else None,
            opened_mb=process.resident_mb if process else None,
            peak_mb=self.peak_mb,
            runs=tuple(self.runs),
            server=self.server,
            crop_sweep=tuple(self.crop_sweep),
            size_sweep=tuple(self.size_sweep),
        )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

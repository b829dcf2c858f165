"""Two records side by side: what became slower, faster, or cannot be told apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from glass_bench.measure.record import ContenderEntry, Record
from glass_bench.report.figures import failures, latency, mean_latency, throughput
from glass_bench.report.statistics import Ratio, Repeated, ratio

_FIGURES: dict[str, Callable[[ContenderEntry], Repeated | None]] = {
    "mean_ms": mean_latency,
    "p50_ms": lambda entry: latency(entry, "p50_ms"),
    "p90_ms": lambda entry: latency(entry, "p90_ms"),
    "images_per_second": throughput,
}
COMPARED = tuple(_FIGURES)
_MORE_IS_BETTER = frozenset({"images_per_second"})


@dataclass(frozen=True)
class FigureComparison:
    """One figure of one contender in both records; `ratio` is the second's over the first's."""

    contender: str
    figure: str
    before: Repeated
    after: Repeated
    ratio: Ratio

    @property
    def verdict(self) -> str:
        """slower, faster, within the noise, or that a single run tells nothing of its noise."""
        if not self.ratio.known:
            return "not known: 1 run"
        if not self.ratio.told_apart:
            return "within the noise"
        worse = (self.ratio.value > 1) != (self.figure in _MORE_IS_BETTER)
        return "slower" if worse else "faster"


@dataclass(frozen=True)
class RecordComparison:
    """All comparisons, and what a reader must know before believing them."""

    rows: tuple[FigureComparison, ...]
    cautions: tuple[str, ...]


def compare(before: Record, after: Record) -> RecordComparison:
    """Contenders are matched by name."""
    earlier = {entry.name: entry for entry in before.contenders}
    rows = []
    for entry in after.contenders:
        if entry.name not in earlier:
            continue
        for figure, of in _FIGURES.items():
            first, second = of(earlier[entry.name]), of(entry)
            if first is not None and second is not None:
                rows.append(FigureComparison(entry.name, figure, first, second, ratio(second, first)))
    return RecordComparison(tuple(rows), tuple(_cautions(before, after, earlier)))


def _cautions(before: Record, after: Record, earlier: dict[str, ContenderEntry]) -> list[str]:
    cautions = []
    for what, first, second in (
        ("processor", before.machine.cpu, after.machine.cpu),
        ("number of cores", before.machine.cores, after.machine.cores),
        ("GPUs", before.machine.gpus, after.machine.gpus),
        *((f"--{name}", before.settings.get(name), after.settings.get(name)) for name in ("crops", "batch", "threads")),
    ):
        if first != second:
            cautions.append(f"different {what}: {first} and {second}")
    if before.images != after.images:
        cautions.append("different images: times over different images say little of each other")
    for record, name in ((before, "first"), (after, "second")):
        if record.load.foreign_share is not None and record.load.foreign_share > BUSY_SHARE:
            cautions.append(
                f"the machine did other work during the {name} run ({record.load.foreign_share:.0%} of its busy time)"
            )
    for entry in after.contenders:
        if entry.status != "measured":
            cautions.append(f"{entry.status.upper()} in the second: {entry.complaint}")
        elif entry.name not in earlier:
            cautions.append(f"{entry.name} is only in the second")
        elif failures(entry):
            cautions.append(f"{entry.name}: {failures(entry)} queries failed in the second")
    names = {entry.name for entry in after.contenders}
    return cautions + [f"{name} is only in the first" for name in earlier if name not in names]


BUSY_SHARE = 0.1  # other work beyond this share of the busy time is worth a word

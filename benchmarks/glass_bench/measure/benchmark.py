"""The benchmark itself: opens the contenders, drives them in turn, and writes down what they did."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from time import perf_counter
from typing import Any

from glass_bench.errors import ContenderFailed
from glass_bench.measure.agreement import disagreement
from glass_bench.measure.images import BenchImage, find_bench_images, sized_copies, thin
from glass_bench.measure.load_watch import LoadWatch
from glass_bench.measure.machine import this_machine
from glass_bench.measure.options import BenchOptions
from glass_bench.measure.participants import Participant, list_participants
from glass_bench.measure.plan import images_that_fit, rotated, rounds
from glass_bench.measure.rate_search import Probe, find_rate
from glass_bench.measure.record import ImageEntry, ProbeEntry, Record, ServerEntry, SweepPoint
from glass_bench.measure.session import ContenderSession
from glass_rt.image.sampling import tiles
from glass_rt.progress import Stage, silent

CROP_SIZE = 224
PROBED_IMAGES = 3
SLOW_MS = 1000.0  # a contender this slow is warmed up with the largest image alone
LEAST_IMAGES, QUICK_IMAGES = 4, 2
SERVER_QUERIES = 100  # fewer say nothing of a 99th percentile
SERVER_PROBES = 6
MEMORY_POINTS = 6
PLANNED_REPEATS = 3  # images are left out until so many repeats fit; more are made if there is time


def run_benchmark(options: BenchOptions, command: str, stage: Stage = silent) -> Record:
    """Measures everything that was asked for and fits the time; contenders that fail are named, the rest goes on.

    Raises BenchError where the folder holds no images.
    """
    started, clock, machine = datetime.now(timezone.utc), perf_counter(), this_machine()
    load = LoadWatch()
    found, refused = find_bench_images(options.images)
    bench = _Benchmark(options, found, stage)
    bench.skipped += [f"{name}: not an image that can be read" for name in refused]
    with bench.opened():
        bench.warm_up()
        bench.single()
        bench.offline()
        bench.take_memory()
        bench.crop_sweep()
        bench.size_sweep()
        bench.server()
    bench.crop_memory()
    bench.variants()
    return Record(
        started=started.isoformat(timespec="seconds"),
        duration_s=perf_counter() - clock,
        command=command,
        machine=machine,
        load=load.finish(),
        settings=_settings(options),
        folder=options.images.resolve().name,
        images=tuple(ImageEntry(i.name, i.width, i.height, i.format, i.size) for i in bench.images),
        tile_images=tuple(bench.tile_images),
        refused=tuple(refused),
        skipped=tuple(bench.skipped),
        contenders=tuple(session.entry() for session in bench.sessions),
        findings=tuple(bench.findings),
    )


class _Benchmark:
    """The parts of one run, in the order in which `run_benchmark` calls them."""

    def __init__(self, options: BenchOptions, found: Sequence[BenchImage], stage: Stage) -> None:
        self.options, self.stage = options, stage
        self.found = list(found)
        self.images: list[BenchImage] = []
        self.tile_images: list[int] = []
        self.skipped: list[str] = []
        self.findings: list[str] = []
        participants = list_participants(options)
        self.sessions = [ContenderSession(one) for one in participants if one.variant_of is None]
        self._variants: list[Participant] = [one for one in participants if one.variant_of is not None]

    @contextmanager
    def opened(self) -> Iterator[None]:
        """All contenders' processes, started one after the other."""
        try:
            checked: set[str] = set()
            for session in self.sessions:
                contender = session.contender
                with self.stage(f"opening {session.name}"):
                    session.open(check=contender.kind == "engine" and contender.bundle not in checked)
                if contender.kind == "engine":
                    checked.add(contender.bundle)
                self._complain(session)
            yield
        finally:
            for session in self.sessions:
                session.close()

    def warm_up(self) -> None:
        """Judges a few images twice: caches fill, probabilities are compared, and the second time says what fits.

        Largest first: a slow contender is warmed up with that one alone. All tiles of it would take too long.
        """
        probes = thin(self.found, PROBED_IMAGES)[::-1]
        probabilities: dict[str, list[float]] = {}
        with self.stage("warming up"):
            for session in self.running():
                chosen = probes[-1:] if session.contender.sampling == "tiles" else probes
                paths = [image.path for image in chosen]
                try:
                    first = session.judge(paths[:1])
                    slow = first[0]["total_ms"] > SLOW_MS
                    rows = session.judge(paths[:1] if slow else paths)
                except ContenderFailed as error:
                    session.fail(error)
                    self._complain(session)
                    continue
                session.probe_ms = sum(row["total_ms"] for row in rows) / len(rows)
                session.windows = rows[0]["windows"]
                probabilities[session.name] = [row["probability_fake"] for row in rows]
        self._compare_probabilities(probabilities)
        self._choose_images()

    def single(self) -> None:
        """SingleStream, the contenders taking turns."""
        if "single" not in self.options.scenarios:
            return
        with self.stage(f"SingleStream over {len(self.images)} images"):
            for number in self._rounds("SingleStream", self.options.share_s("single"), least=2):
                for session in self._turn(number):
                    numbers = self._numbers_for(session)
                    self._run(
                        session, "single_stream", number, numbers, seed=self.options.seed + number,
                        expected_ms=session.probe_ms,
                    )  # fmt: skip

    def offline(self) -> None:
        """Offline, the contenders taking turns; all tiles are left out, their throughput follows from their latency."""
        if "offline" not in self.options.scenarios:
            return
        with self.stage("Offline"):
            for number in self._rounds("Offline", self.options.share_s("offline")):
                for session in self._turn(number):
                    if session.contender.sampling != "tiles":
                        self._offline(session, number)

    def crop_sweep(self) -> None:
        """Time against the number of crops, on one image of median size, in a shuffled order each round."""
        sessions = [s for s in self.running() if s.participant.role == "engine" and s.architecture == "glass"]
        if "crops" not in self.options.sweeps or not sessions:
            return
        image = self.images[len(self.images) // 2]
        order = random.Random(self.options.seed)
        times: dict[tuple[str, int], list[float]] = {}
        with self.stage("sweep over crops"):
            for _ in self._rounds("sweep over crops", self.options.share_s("crops")):
                counts = list(self.options.crop_counts)
                order.shuffle(counts)
                for crops in counts:
                    for session in sessions:
                        for row in self._judged(session, [image.path], crops):
                            times.setdefault((session.name, crops), []).append(row["total_ms"])
        for session in sessions:
            session.crop_sweep = [
                SweepPoint(crops, tuple(times[session.name, crops]))
                for crops in sorted(self.options.crop_counts)
                if (session.name, crops) in times
            ]

    def size_sweep(self) -> None:
        """Time against image size, on mosaics of the largest image."""
        sessions = [s for s in self.running() if s.participant.role in ("engine", "baseline")]
        if "size" not in self.options.sweeps or not sessions:
            return
        times: dict[tuple[str, float], list[float]] = {}
        with (
            self.stage("sweep over image sizes"),
            sized_copies(self.found[-1], self.options.megapixels) as copies,
        ):
            for _ in self._rounds("sweep over image sizes", self.options.share_s("size"), least=2):
                for copy, megapixels in zip(copies, self.options.megapixels, strict=True):
                    for session in sessions:
                        for row in self._judged(session, [copy.path]):
                            times.setdefault((session.name, megapixels), []).append(row["total_ms"])
        for session in sessions:
            session.size_sweep = [
                SweepPoint(megapixels, tuple(times[session.name, megapixels]))
                for megapixels in self.options.megapixels
                if (session.name, megapixels) in times
            ]

    def server(self) -> None:
        """The arrival rate that each engine and baseline holds, as far as the time allows."""
        if "server" not in self.options.scenarios:
            return
        sessions = [s for s in self.running() if s.participant.role in ("engine", "baseline")]
        for session in sessions:
            needed_s = SERVER_QUERIES * SERVER_PROBES * session.probe_ms / 1e3
            allowed_s = self.options.share_s("server") / len(sessions)
            if needed_s > 2 * allowed_s:
                self.skipped.append(
                    f"{session.name}: Server scenario not run: {SERVER_PROBES} rates of {SERVER_QUERIES} queries need "
                    f"about {needed_s:.0f} s, {allowed_s:.0f} s were left for it; --budget gives more"
                )
                continue
            with self.stage(f"Server: what rate {session.name} holds"):
                self._search_rate(session)

    def take_memory(self) -> None:
        """The most memory of each contender over SingleStream and Offline, before the sweeps enlarge it."""
        for session in self.running():
            session.take_memory()

    def crop_memory(self) -> None:
        """Memory against the number of crops: a new process for each number, as allocators do not give back."""
        counts = sorted(self.options.crop_counts)
        chosen = set(counts if len(counts) <= MEMORY_POINTS else counts[:: max(1, len(counts) // (MEMORY_POINTS - 1))])
        image = self.images[len(self.images) // 2]
        deadline = perf_counter() + 1.5 * self.options.share_s("crops")
        for session in self.sessions:
            if self.options.quick or session.status != "measured" or not session.crop_sweep:
                continue
            with self.stage(f"memory over crops of {session.name}"):
                session.crop_sweep = [
                    replace(p, peak_mb=self._fresh_peak(session.participant, image, int(p.x), deadline))
                    if p.x in chosen
                    else p
                    for p in session.crop_sweep
                ]
            if missing := [f"{p.x:g}" for p in session.crop_sweep if p.x in chosen and p.peak_mb is None]:
                self.skipped.append(f"{session.name}: memory not taken at {', '.join(missing)} crops, to keep the time")

    def variants(self) -> None:
        """Offline with other batches and numbers of workers: opened and measured one after the other."""
        measured = {session.name for session in self.sessions if session.status == "measured"}
        participants = [participant for participant in self._variants if participant.variant_of in measured]
        start, share_s = perf_counter(), self.options.share_s("variants")
        for participant in participants:
            if perf_counter() - start > 2 * share_s:
                self.skipped.append(f"{participant.contender.name}: left out to keep the time; --budget takes more")
                continue
            session = ContenderSession(participant)
            with self.stage(f"Offline, {participant.contender.name}"):
                session.open(check=False)
                try:
                    self._judged(session, [self.images[0].path])  # warm-up
                    for number in self._rounds(session.name, self.options.share_s("variants") / len(participants)):
                        if session.running:
                            self._offline(session, number)
                    session.take_memory()
                finally:
                    session.close()
            self._complain(session)
            self.sessions.append(session)

    def running(self) -> list[ContenderSession]:
        """Contenders that can still be measured."""
        return [session for session in self.sessions if session.running]

    def _rounds(self, what: str, budget_s: float, *, least: int = 1) -> Iterator[int]:
        """Rounds of repeats; those that the time is too short for are listed."""
        made = 0
        for number in rounds(budget_s, self.options.repeats, least=least):
            yield number
            made = number + 1
        if made < self.options.repeats:
            self.skipped.append(
                f"{what}: {made} of {self.options.repeats} repeats fitted the time; --budget takes more"
            )

    def _turn(self, number: int) -> Iterable[ContenderSession]:
        by_name = {session.name: session for session in self.running()}
        for name in rotated(list(by_name), number):
            if by_name[name].running:
                yield by_name[name]

    def _run(
        self, session: ContenderSession, scenario: str, repeat: int, numbers: Sequence[int], **arguments: Any
    ) -> None:
        paths = [self.images[number].path for number in numbers]
        if session.run(scenario, repeat, paths=paths, **arguments) is not None:
            local = session.runs[-1]
            session.runs[-1] = replace(local, images=tuple(numbers[i] for i in local.images))
        self._complain(session)

    def _offline(self, session: ContenderSession, number: int) -> None:
        self._run(
            session, "offline", number, range(len(self.images)), seed=self.options.seed + number,
            samples=len(self.images),
        )  # fmt: skip

    def _judged(self, session: ContenderSession, paths: list[str], crops: int | None = None) -> list[dict[str, Any]]:
        if not session.running:
            return []
        try:
            return session.judge(paths, crops)
        except ContenderFailed as error:
            session.fail(error)
            self._complain(session)
            return []

    def _numbers_for(self, session: ContenderSession) -> Sequence[int]:
        return self.tile_images if session.contender.sampling == "tiles" else range(len(self.images))

    def _choose_images(self) -> None:
        """As many as the SingleStream part has time for, evenly over the sizes; for all tiles a tenth of that time."""
        plain = [s for s in self.running() if s.contender.sampling != "tiles"]
        per_image_s = sum(session.probe_ms for session in plain) / 1e3
        budget_s = self.options.share_s("single")
        repeats = min(self.options.repeats, PLANNED_REPEATS)
        least = QUICK_IMAGES if self.options.quick else LEAST_IMAGES
        count = images_that_fit(0.8 * budget_s, repeats, per_image_s, len(self.found), least=least)
        self.images = thin(self.found, count)
        if count < len(self.found):
            self.skipped.append(
                f"{len(self.found) - count} of {len(self.found)} images left out to keep the time; --budget takes more"
            )
        for session in self.running():
            if session.contender.sampling == "tiles":
                self.tile_images = self._tile_images(0.2 * budget_s / repeats, session)

    def _tile_images(self, budget_s: float, session: ContenderSession) -> list[int]:
        """Numbers of the images, smallest first, whose windows fit; one at least."""
        chosen: list[int] = []
        spent_s = 0.0
        for number, image in enumerate(self.images):
            windows = len(tiles(image.height, image.width, CROP_SIZE).boxes)
            spent_s += windows * session.probe_ms / 1e3 / max(1, session.windows)
            if chosen and spent_s > budget_s:
                break
            chosen.append(number)
        return chosen

    def _compare_probabilities(self, probabilities: dict[str, list[float]]) -> None:
        """Contenders of the same weights that look at the same windows must give the same probabilities."""
        for session in self.running():
            others = [other for other in self.running() if other.name in probabilities and other is not session]
            if text := disagreement(session, others, probabilities):
                session.disqualify("wrong", text)
                self._complain(session)

    def _search_rate(self, session: ContenderSession) -> None:
        options = self.options
        bound_ms = options.bound_ms or round(3 * session.probe_ms, 1)
        entries: list[ProbeEntry] = []
        key = f"p{options.percentile:g}".replace(".", "_") + "_ms"

        def probe(rate: float) -> Probe:
            reply = session.ask(
                "server", paths=[image.path for image in self.images], seed=options.seed, rate=rate,
                queries=SERVER_QUERIES, bound_ms=bound_ms, percentile=options.percentile,
            )  # fmt: skip
            latency = reply["loadgen"][key]
            held = latency <= bound_ms and not reply["void"]
            entries.append(ProbeEntry(rate, latency, held, reply["early_stopping"], reply["failures"]))
            return Probe(rate, latency, held)

        try:
            found = find_rate(probe, 0.6e3 / session.probe_ms, most=SERVER_PROBES)
        except ContenderFailed as error:
            session.fail(error)
            self._complain(session)
            return
        session.server = ServerEntry(bound_ms, options.percentile, SERVER_QUERIES, found.rate, tuple(entries))

    def _fresh_peak(self, participant: Participant, image: BenchImage, crops: int, deadline: float) -> float | None:
        if perf_counter() > deadline:
            return None
        session = ContenderSession(participant)
        session.open(check=False)
        try:
            if not session.running:
                return None
            session.judge([image.path] * 2, crops)
            session.take_memory()
        except ContenderFailed:
            return None
        finally:
            session.close()
        return session.peak_mb

    def _complain(self, session: ContenderSession) -> None:
        if session.complaint and (text := f"{session.status.upper()}: {session.complaint}") not in self.findings:
            self.findings.append(text)


def _settings(options: BenchOptions) -> dict[str, Any]:
    """The options without paths."""
    left_out = ("engines", "baselines", "images", "checkpoints")
    return {name: value for name, value in vars(options).items() if name not in left_out}

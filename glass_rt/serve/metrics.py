"""A server's metrics, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from glass_rt.bundle.manifest import BundleManifest
from glass_rt.errors import MissingDependency
from glass_rt.results.verdict import Failure, Verdict
from glass_rt.version import __version__

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
except ImportError:
    raise MissingDependency("prometheus_client", "serve", "glass-rt serve") from None

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
STAGES = ("decode", "views", "engine", "aggregate")  # of a verdict's timings


class Metrics:
    """The metrics of one server. Called on the event loop's thread, except for `pack_judged`."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._requests = Counter(
            "glass_rt_requests", "Requests answered.", ("method", "route", "code"), registry=registry
        )
        self._request_seconds = Histogram(
            "glass_rt_request_seconds",
            "From a request's headers to its answer.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self._images = Counter(
            "glass_rt_images", "Images judged or refused, by outcome.", ("outcome",), registry=registry
        )
        stages = Histogram(
            "glass_rt_stage_seconds", "Time per image by stage.", ("stage",), buckets=SECONDS, registry=registry
        )
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._batch_images = Histogram(
            "glass_rt_batch_images", "Images judged together, canaries included.", buckets=COUNTS, registry=registry
        )
        self._batch_crops = Histogram(
            "glass_rt_batch_crops", "Crops judged together, canaries included.", buckets=COUNTS, registry=registry
        )
        self._engine_seconds = Counter(
            "glass_rt_engine_seconds", "Time engine and head were at work, canaries included.", registry=registry
        )
        self._reloads = Counter("glass_rt_reloads", "Reloads, by outcome.", ("outcome",), registry=registry)
        self._build = Gauge(
            "glass_rt_build_info",
            "What serves.",
            ("version", "bundle", "bundle_sha256", "backend", "precision"),
            registry=registry,
        )

    def watch(self, gauges: dict[str, tuple[str, Callable[[], float]]]) -> None:
        """Adds gauges by name, each with its description and the function that gives its value on reading."""
        for name, (description, value) in gauges.items():
            Gauge(f"glass_rt_{name}", description, registry=self.registry).set_function(value)

    def request_done(self, method: str, route: str, code: int, seconds: float) -> None:
        """Counts a request that has ended. `route`: a route's pattern; a label per path would be without end."""
        self._requests.labels(method, route, str(code)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def judged(self, result: Verdict | Failure) -> None:
        """Counts an image by its label or its error."""
        if isinstance(result, Failure):
            self._images.labels(result.error.kind).inc()
            return
        self._images.labels(result.label).inc()
        for stage in STAGES:
            self._stages[stage].observe(getattr(result.timings_ms, stage) / 1e3)

    def pack_judged(self, images: int, crops: int, seconds: float) -> None:
        """Counts a batch that the engine has judged. From any thread."""
        self._batch_images.observe(images)
        self._batch_crops.observe(crops)
        self._engine_seconds.inc(seconds)

    def reloaded(self, *, worked: bool) -> None:
        """Counts a reload that took over, or failed."""
        self._reloads.labels("done" if worked else "failed").inc()

    def serving(self, manifest: BundleManifest, bundle_sha256: str) -> None:
        """Records which bundle serves from now on."""
        self._build.clear()
        engine = manifest.engine
        self._build.labels(__version__, manifest.model.name, bundle_sha256, engine.backend, engine.precision).set(1)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text form."""
        return generate_latest(self.registry)

"""`glass-rt infer` in full, but for its detector: it takes a millisecond for an image, and looks at none."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator

from glass_rt.cli import infer as command
from glass_rt.cli import main
from glass_rt.decision.decide import Decision
from glass_rt.results.verdict import EngineInfo, Failure, Timings, Verdict

DECISION = Decision("real", "threshold", reason="the bundle is not calibrated", threshold=0.5)
ENGINE = EngineInfo("none", "resize", "none", "none", "fp32", 64 * "0", 64 * "0")


class NoDetector:
    """Stands in the place of `Detector`."""

    @classmethod
    def open(cls, *_: object) -> NoDetector:
        return cls()

    def __enter__(self) -> NoDetector:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def detect_many(self, sources: Iterable[object], _options: object) -> Iterator[Verdict | Failure]:
        for source in sources:
            time.sleep(0.001)
            yield source if isinstance(source, Failure) else verdict(str(source))


def verdict(path: str) -> Verdict:
    return Verdict(
        path, hashlib.sha256(path.encode()).hexdigest(), 1, 1, "png", None, DECISION, 0.25, {"fake": 0.25, "real": 0.75},
        (0.0, 1.0), True, None, None, None, None, 0, (), None, 1, (), ENGINE, Timings(0, 0, 0, 0, 0),
    )  # fmt: skip


if __name__ == "__main__":
    vars(command).update(Detector=NoDetector, chosen_bundle=lambda engine: engine)
    main()

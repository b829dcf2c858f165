"""Where Ray does not start, `bulk` reports one line for every type of exception that Ray raises."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from glass_rt.bulk.on_ray import Pool, run_on_ray
from glass_rt.bulk.parts import PartSettings
from glass_rt.bulk.stores import locate
from glass_rt.errors import GlassError
from glass_rt.options import DetectOptions, RunOptions

pytestmark = pytest.mark.ray

SETTINGS = PartSettings("bundle", DetectOptions(), RunOptions(), locate("/out"))
RAISED = [
    Exception("The current node timed out during startup."),  # one of Ray's processes ended, or was too slow
    RuntimeError("no connection to the GCS"),
    ValueError("no file node_ip_address.json"),
    OSError("AF_UNIX path length cannot exceed 107 bytes"),
    AssertionError("no node"),
]


@pytest.mark.parametrize("raised", RAISED, ids=lambda raised: type(raised).__name__)
def test_whatever_ray_raises_at_its_start_is_said_in_a_line(raised: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def init(**_: Any) -> NoReturn:
        raise raised

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(GlassError) as said:
        next(run_on_ray(SETTINGS, [], Pool()))
    assert str(said.value) == f"Ray cannot be started or reached (here): {raised}"

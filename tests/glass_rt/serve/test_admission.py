"""Admission: the images and bytes that a server takes on at once."""

import pytest

from glass_rt.serve.admission import Admission
from glass_rt.serve.refusals import BodyTooLarge, Overloaded
from glass_rt.serve.settings import ServerSettings


def test_admission_refuses_what_it_expects_to_be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("glass_rt.serve.admission.monotonic", lambda: now)
    admission = Admission(ServerSettings(deadline_s=10))
    with admission.admit(1):
        now += 2.0
    with admission.admit(2):  # 4 s of work: less than half of the deadline
        admission.check_room()
        with admission.admit(1), pytest.raises(Overloaded) as refused:
            admission.check_room()
        assert refused.value.retry_after_s is not None
        assert refused.value.retry_after_s >= 5
    admission.check_room()


def test_admission_gives_back_what_was_taken() -> None:
    admission = Admission(ServerSettings(queue_images=2, queue_bytes=100, max_body=50))
    with admission.admit(2):
        with pytest.raises(Overloaded), admission.admit(1):
            pass
        assert admission.images == 2
    assert admission.images == 0
    with pytest.raises(BodyTooLarge), admission.admit(3):
        pass
    admission.hold(100)
    with pytest.raises(Overloaded):
        admission.hold(1)
    admission.let_go(100)
    admission.hold(1)

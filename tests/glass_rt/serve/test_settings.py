"""Settings of a server: impossible limits are refused."""

import pytest

from glass_rt.errors import UsageError
from glass_rt.serve.settings import ServerSettings


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"max_body": 0}, "max_body: got 0"),
        ({"queue_images": -1}, "queue_images: got -1"),
        ({"deadline_s": 0.0}, "deadline_s: got 0"),
        ({"max_body": 100, "queue_bytes": 99}, "one body of max_body"),
    ],
)
def test_settings_that_cannot_work_are_refused(values: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ServerSettings(**values)  # type: ignore[arg-type]

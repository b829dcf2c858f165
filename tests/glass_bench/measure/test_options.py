"""Options of a benchmark that make no sense are refused."""

from pathlib import Path

import pytest
from glass_bench.measure.options import BenchOptions

from glass_rt.errors import UsageError


@pytest.mark.parametrize("changes", [{"engines": ()}, {"repeats": 0}, {"budget_s": 0}, {"scenarios": ("multi",)}])
def test_impossible_options_are_refused(changes: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        BenchOptions(**{"engines": (tmp_path,), "images": tmp_path, **changes})  # type: ignore[arg-type]

"""Tiny backbones in the table, and labelled pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.glass_train.tiny import register, unregister, write_parts


@pytest.fixture(autouse=True)
def tiny_backbones() -> Iterator[None]:
    threads = torch.get_num_threads()
    register()
    torch.set_num_threads(1)  # the models are too small for more
    yield
    unregister()
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def pictures_to_train_on(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train`, `val` and `test` with reddish fakes and bluish reals of 320 x 256 pixels."""
    return write_parts(tmp_path_factory.mktemp("labelled"))

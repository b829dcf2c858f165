"""NVIDIA's nvImageCodec, imported where it is needed and kept from writing to stderr."""

from __future__ import annotations

import logging
import os
from importlib import import_module
from typing import Any

from glass_rt.backends.cuda.library_words import library_words
from glass_rt.errors import MissingDependency
from glass_rt.machine.environment import CODEC_PACKAGES

log = logging.getLogger("glass_rt")


def codec_missing() -> MissingDependency:
    """The error where nvImageCodec is not installed."""
    return MissingDependency(CODEC_PACKAGES[0], "decode", "decoding on the GPU")


def load_codec_library() -> Any:
    """The module `nvidia.nvimgcodec`, loaded without a word on stderr. Raises MissingDependency."""
    os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")  # every None that it gives is two lines on stderr otherwise
    words: list[str] = []
    try:
        with library_words(words):
            library = import_module("nvidia.nvimgcodec")
    except ImportError:
        raise codec_missing() from None
    if words:  # of formats that are not asked for here, and of a driver that is not there
        log.debug("nvImageCodec: %s", "; ".join(words))
    return library

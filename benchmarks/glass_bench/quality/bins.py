"""Confidence in a label, and the bins of it over which the expected calibration error is measured.

Source: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), equation 3: bins are open below and closed
above.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ECE_BINS = 15


def confidence_of(probability: NDArray[np.float64], called: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The probability of the label that each image got."""
    return np.where(called, probability, 1 - probability)


def bin_of(confidence: NDArray[np.float64], bins: int = ECE_BINS) -> NDArray[np.int64]:
    """The bin of each, 0..bins-1."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)

"""glass-rt: the inference runtime for GLASS, a detector of AI-generated high-resolution images.

>>> from glass_rt import Detector
>>> with Detector.open("bundles/vit_b16") as detector:  # doctest: +SKIP
...     verdict = detector.detect("image.png")
...     print(verdict.label, verdict.probability_fake)
"""

import sys

from glass_rt.detector import Detector
from glass_rt.errors import GlassError
from glass_rt.machine import environment
from glass_rt.options import DetectOptions
from glass_rt.results import file_names
from glass_rt.results.verdict import CropEvidence, Failure, Verdict
from glass_rt.version import __version__

# Modules by their former names: README promised the first, and models in Triton repositories import the second.
sys.modules |= {"glass_rt.file_names": file_names, "glass_rt.environment": environment}

__all__ = ["CropEvidence", "DetectOptions", "Detector", "Failure", "GlassError", "Verdict", "__version__"]

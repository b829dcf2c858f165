"""glass-rt: the inference runtime for GLASS, a detector of AI-generated high-resolution images.

>>> from glass_rt import Detector
>>> with Detector.open("engines/vit_b16") as detector:  # doctest: +SKIP
...     verdict = detector.detect("image.png")
...     print(verdict.label, verdict.probability_fake)
"""

from glass_rt.detector import Detector
from glass_rt.errors import GlassError
from glass_rt.options import DetectOptions
from glass_rt.verdict import CropEvidence, Failure, Verdict
from glass_rt.version import __version__

__all__ = ["CropEvidence", "DetectOptions", "Detector", "Failure", "GlassError", "Verdict", "__version__"]

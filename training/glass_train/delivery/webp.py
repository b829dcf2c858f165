"""A round of WebP. It predicts across its blocks and filters over their borders: any window needs the whole picture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from glass_rt.image.decode import Pixels
from glass_rt.image.sampling import Box
from glass_train.delivery.step import Size, cut, whole

LARGEST_SIDE = 16383  # of the format


@dataclass(frozen=True)
class WebP:
    """The picture coded as a lossy WebP of `quality` (1..100) and decoded again; unchanged where it is too large."""

    quality: int

    def size_after(self, size: Size) -> Size:
        """The same size."""
        return size

    def needed(self, box: Box, size: Size) -> Box:
        """The whole picture."""
        return whole(size)

    def apply(self, pixels: Pixels, part: Box, size: Size, box: Box) -> Pixels:
        """A view of what the decoder gave."""
        if max(size) > LARGEST_SIDE:
            return cut(pixels, part, box)
        options = [cv2.IMWRITE_WEBP_QUALITY, self.quality]
        coded, data = cv2.imencode(".webp", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
        assert coded
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
        assert decoded is not None
        assert decoded.dtype == np.uint8
        return cut(decoded, part, box)  # type: ignore[arg-type]

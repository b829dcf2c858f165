"""An image's pixels where a decoder on the device has put them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class DevicePixels:
    """Pixels on the device: uint8 (height, width, 3), RGB, rows without gaps, from `address` on.

    Good until the codec's `DecodedImage` that they came with is released.
    """

    address: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, 3."""
        return self.height, self.width, 3

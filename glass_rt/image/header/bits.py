"""Bits of a byte string, first bit first, as AV1 and HEVC write their headers."""

from __future__ import annotations


class Bits:
    """Reads from the first bit on. Raises IndexError past the end."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """The next `count` bits as a number."""
        self._left -= count
        if self._left < 0:
            raise IndexError("no more bits")
        return self._value >> self._left & ((1 << count) - 1)

    def take_exp_golomb(self) -> int:
        """A number as many zeros long as it has bits: `ue(v)` of HEVC (9.2) and `uvlc()` of AV1 (4.10.3)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise IndexError("no such number")
        return (1 << zeros) - 1 + self.take(zeros)

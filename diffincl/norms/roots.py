"""Cosines and sines of 2πt/n, correctly rounded: the Fourier tables of certified norms trust no library function."""

from __future__ import annotations

import torch
from torch import Tensor

__all__: list[str] = []

BITS = 256
# π·2²⁴⁰, rounded down.
PI = 0x3243F6A8885A308D313198A2E03707344A4093822299F31D0082EFA98EC4E


def roots_of_unity(n: int) -> Tensor:
    """The (2, n) table of cos(2πt/n) and sin(2πt/n), t = 0 … n − 1, each within 2⁻⁵⁴ (half a rounding unit).

    One step e^{2πi/n} from the Taylor series in whole numbers with 256 bits behind the point, where π is known to 240;
    its powers by multiplication lose 4n·2⁻²⁴⁰ at most, nothing beside the rounding to float64 at the end.
    """
    angle = (2 * PI << BITS - 240) // n
    cos, sin = _exponential(angle)
    one = 1 << BITS
    c, s, table = one, 0, []
    for _ in range(n):
        table.append((c / one, s / one))  # the quotient of two whole numbers is correctly rounded
        c, s = (c * cos - s * sin) >> BITS, (c * sin + s * cos) >> BITS
    return torch.tensor(table, dtype=torch.float64).T.contiguous()


def _exponential(angle: int) -> tuple[int, int]:
    """cos and sin of angle/2²⁵⁶ (at most 2π), as multiples of 2⁻²⁵⁶."""
    parts, term, k = [0, 0, 0, 0], 1 << BITS, 0
    while term:
        parts[k % 4] += term
        k += 1
        term = (term * angle >> BITS) // k
    return parts[0] - parts[2], parts[1] - parts[3]

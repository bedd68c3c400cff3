"""Norms of convolutions: how far above the truth, and how long they take."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import conv2d

from diffincl import norms
from diffincl.norms import convolution

from .nets import F64

SIZES = [(channels, image) for channels in (1, 2, 4) for image in (8, 12, 16)]
LARGE = [(4, 16), (8, 12), (16, 8)]  # whose matrix has more entries than the library writes down


def tightness_row(k: int, stride: int, count: int, seed: int) -> dict[str, Any]:
    """Bounds over the largest singular value of the materialised operator: k × k kernels, zero padding k // 2.

    The library takes the norm of a small operator from its matrix. For the first columns that way is closed, so that
    they are of the Fourier bound alone; the last one is of what the library answers beyond that size.
    """
    generator = Generator().manual_seed(seed)

    def ratios(sizes: list[tuple[int, int]]) -> list[float]:
        return [_ratio(torch.randn(c, c, k, k, generator=generator, dtype=F64), n, stride)
                for c, n in sizes for _ in range(count)]

    small, convolution.SMALL = convolution.SMALL, 0
    try:
        found = ratios(SIZES)
    finally:
        convolution.SMALL = small
    return {"kernel": f"{k}×{k}", "stride": stride, "least": min(found), "median": statistics.median(found),
            "largest": max(found), "largest beyond the matrix": max(ratios(LARGE))}


def _ratio(K: Tensor, n: int, stride: int) -> float:
    pixels = torch.eye(K.shape[1] * n * n, dtype=F64).reshape(-1, K.shape[1], n, n)
    matrix = conv2d(pixels, K, stride=stride, padding=K.shape[-1] // 2).flatten(1)
    truth = torch.linalg.matrix_norm(matrix, 2)
    return float(norms.conv2d(K, n, stride, K.shape[-1] // 2).value / truth)


def time_row(channels: int, image: int, status: str, repeats: int, seed: int) -> dict[str, Any]:
    """Seconds of one norm, 3×3, and its value over that of power iteration, which is from below."""
    K = torch.randn(channels, channels, 3, 3, generator=Generator().manual_seed(seed)) / (3 * channels**0.5)
    value, seconds = _timed(K, image, status, repeats)
    below, peer = _timed(K, image, norms.ESTIMATE, 1)
    return {"channels": channels, "image": image, "status": status, "seconds": seconds,
            "value / power iteration": value / below, "seconds / power iteration": seconds / peer}


def _timed(K: Tensor, image: int, status: str, repeats: int) -> tuple[float, float]:
    seconds, value = [], 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        value = float(norms.conv2d(K, image, status=status).value)
        seconds.append(time.perf_counter() - start)
    return value, statistics.median(seconds)

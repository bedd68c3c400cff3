"""Where the fused loop runs on a GPU, as one Triton kernel, and what it is given there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from functools import cache
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from .. import _check
from ..fields import ResNetField
from ..inclusion import Inclusion
from ..steps import Plan

__all__ = ["advance", "failure", "is_here", "is_quicker", "kernels_at_hand", "unfit"]

# Bytes of a state that still find place in the registers of a thread, with a field beside them; twice as many work, but
# spill. Seen in what the compiler reports for compute capability 9.0, not by a clock.
STATE, SPILLING = 128, 256
# Bytes of weights that stay in the nearest cache.
CACHE = 2**16
# Not measured, on the safe side: seconds of torch's loop below which compiling the kernel is not worth it; what they
# are estimated by, seconds a step for its launches and bytes a second; multiplications a second in the kernel.
WORTH, STEP, BANDWIDTH, RATE = 0.05, 3e-5, 3e12, 5e12
# Triton whose compiler gives every thread samples of its own; older ones spread a state over threads.
OLDEST = 3, 7
# From so many samples on, blocks of four warps and more samples a thread keep the whole device busy.
MANY = 2**17


def is_here(x: Tensor) -> bool:
    """Whether a tensor is on a GPU that Triton compiles for."""
    return x.device.type == "cuda"


@cache
def kernels_at_hand() -> bool:
    """Whether Triton is there, new enough for the kernel, and the C compiler that it calls."""
    if not (os.environ.get("CC") or any(map(shutil.which, ("cc", "gcc", "clang")))):
        return False
    try:
        import triton  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    return tuple(map(int, triton.__version__.split(".")[:2])) >= OLDEST


@cache
def failure(device: torch.device) -> str:
    """What keeps the kernel from working here, in words; empty where it takes one step right, which is tried once."""
    if not kernels_at_hand():
        return ("Triton 3.7 or later and a C compiler on a GPU, and one of them is missing here. Triton comes with "
                "newer CUDA builds of torch; else install it: pip install -U triton")
    x, one = torch.ones(2, 1, 1, 1, device=device), torch.ones(1, 1, 1, 1, device=device)
    zero, still = 0 * one, np.zeros((1, 4))
    step = still.astype(np.int64), still, still, np.array([1]), np.array([0.25], np.float32), np.array([1])
    try:
        advance(x, one.clone(), (one, zero, one, zero), step, (zero[0, 0, 0], one[0, 0, 0]), heun=False)
        found = x.flatten().tolist()
    except Exception as error:  # of many kinds: no compiler, no headers, a device that is too old
        return f"Triton to work on this GPU, and it does not ({type(error).__name__}: {error}). Repair it"
    return "" if found == [1.0, 0.75] else f"Triton to compute right on this GPU, and it gave {found}. Update it"


def unfit(x0: Tensor) -> str:
    """Why the states do not fit into the kernel, in words; empty where they do."""
    d, largest = x0.shape[-1], SPILLING // x0.element_size()
    if _rows(d) > largest:
        return f"on a GPU it keeps states in registers, up to d = {largest} in this dtype; got {_check.describe(x0)}"
    return ""


def is_quicker(flow: Inclusion, x0: Tensor, layout: Plan) -> bool:
    """Whether the kernel beats torch's loop by a factor of two and by enough to compile it; by estimates, no clock."""
    m, d = cast(ResNetField, flow.field).weights_now().A1.shape[-2:]
    samples, size = x0.numel() // d, x0.element_size()
    fits = _rows(d) * size <= STATE and 2 * m * _rows(d) * size <= CACHE
    in_torch = max(STEP, samples * (7 * d + 4 * m) * size / BANDWIDTH)
    fused = samples * 2 * m * _rows(d) * size / (4 * RATE)
    return fits and in_torch > 2 * fused and layout.steps * in_torch > WORTH


def advance(x: Tensor, points: Tensor, weights: Sequence[Tensor], stretches: Sequence[np.ndarray],
            box: Sequence[Tensor], heun: bool) -> float:
    """All samples through all steps; a sum that is finite if all went well.

    x (T, networks, batch, d), whose first row is the start, and points (T − 1, …) are written; weights A1, b1, A2, b2
    (pieces, networks, rows, columns)."""
    from .triton_kernels import march

    _, networks, batch, d = x.shape
    A1, b1, A2, b2 = weights
    rows, m = _rows(d), A1.shape[-2]
    padded = [_padded(A1, rows), b1.contiguous(), _padded(A2.mT, rows), _padded(b2, rows)]
    places = [torch.from_numpy(np.ascontiguousarray(numbers)).to(x.device) for numbers in stretches]
    samples, warps = _tile(networks * batch, batch, rows * x.element_size() // 4)
    programs = networks * -(-batch // samples)
    sums = x.new_empty(programs)
    moving = bool(stretches[1].any() or stretches[2].any())
    with torch.cuda.device_of(x):
        march[(programs,)](x, points, sums, *padded, *places,  # pyright: ignore[reportIndexIssue]
                           *(_padded(bound, rows) for bound in box),
                           len(stretches[3]), networks, batch, d, m, 1, D=rows, SAMPLES=samples, MOVING=moving,
                           HEUN=heun, num_warps=warps, enable_fp_fusion=True)
    return float(sums.sum())


def _rows(d: int) -> int:
    """Rows of a tile: the next power of two."""
    return 1 << (d - 1).bit_length()


def _padded(x: Tensor, rows: int) -> Tensor:
    """The last dimension filled up with zeros."""
    return pad(x, (0, rows - x.shape[-1])).contiguous()


def _tile(total: int, batch: int, words: int) -> tuple[int, int]:
    """Samples and warps of a program: by rule, so that a solve is always the same."""
    many = total >= MANY
    each = max(1, min(4, 16 // words)) if many else 1  # of a thread
    warps = max(1, min(4 if many else 1, (1 << (batch - 1).bit_length()) // (32 * each)))
    return 32 * warps * each, warps

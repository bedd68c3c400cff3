"""Fixed steps of library fields in one compiled loop over all of them; without derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import cast

import numpy as np
import torch
from torch import Tensor

from .. import _check
from ..curves import KNOT_TOLERANCE, Constant, Curve, PiecewiseLinear
from ..fields import ResNetField, ResNetSField
from ..functions import Box, ProxFunction
from ..inclusion import Inclusion
from ..schemes import ForwardEuler, ProxHeun, Scheme
from ..solution import OK, REASONS, STEP_FAILED, Solution, Stats
from ..steps import Plan
from . import on_gpu
from .library import misfit
from .retraced import Retraced

__all__ = ["compiler_missing", "is_quicker", "kernels_at_hand", "solve_fused", "unfit"]

SCHEMES, DTYPES = (ForwardEuler, ProxHeun), (torch.float32, torch.float64)

# Measured (benchmarks/fixed_step.py --crossover): beyond m·d the matrix products of torch are quicker; for one sample a
# network, where they are products with vectors, much later.
LARGEST, LARGEST_OF_ONE = 4096, 65536
# Seconds of torch's loop below which the import of numba is not worth it, and what they are estimated by: seconds a
# step, multiplications a second.
WORTH, STEP, RATE = 0.02, 4e-5, 5e9
# Samples of a tile, more of few rows; a few samples go one by one where weights are not small (m·d); work for a thread,
# in multiplications.
WIDE, NARROW, FEW_ROWS = 256, 128, 64
FEW, SMALL = 8, 512
WORK = 2**23


def unfit(flow: Inclusion, x0: Tensor, scheme: object) -> str:
    """What the fused loop has no code for, in words; empty where it fits."""
    if type(scheme) not in SCHEMES:
        return f"it takes ForwardEuler() and ProxHeun(); got scheme = {scheme}"
    gpu = on_gpu.is_here(x0)
    if x0.dtype not in DTYPES or not (gpu or x0.device.type == "cpu"):
        return f"it takes float32 and float64 on the CPU and on CUDA devices; got {_check.describe(x0)} on {x0.device}"
    return misfit(flow, x0) or (on_gpu.unfit(x0) if gpu else "")


def is_quicker(flow: Inclusion, x0: Tensor, layout: Plan) -> bool:
    """Whether the fused loop beats torch's by enough; no clock is looked at, so that a solve is always the same."""
    if on_gpu.is_here(x0):
        return on_gpu.is_quicker(flow, x0, layout)
    *ensemble, m, d = cast(ResNetField, flow.field).weights_now().A1.shape
    one = x0.numel() == d * math.prod(ensemble)
    seconds = layout.steps * (STEP + 2 * m * x0.numel() / RATE)
    return m * d <= (LARGEST_OF_ONE if one else LARGEST) and seconds > WORTH


def compiler_missing(x0: Tensor) -> str:
    """What would have to be installed, and how; empty where all is there."""
    if on_gpu.is_here(x0):
        return on_gpu.failure(x0.device)
    return "" if kernels_at_hand() else \
        "numba, which cannot be imported here. Install it: pip install 'diffincl[fast]'"


@cache
def kernels_at_hand() -> bool:
    """Whether numba is there."""
    try:
        from . import kernels  # noqa: F401
    except ImportError:
        return False
    return True


def solve_fused(flow: Inclusion, x0: Tensor, layout: Plan, scheme: Scheme,
                otherwise: Callable[[Tensor, Plan], Solution]) -> Solution | None:
    """The solution, or None if a value on the way was not finite: then the steps have to be looked at one by one.

    ``otherwise`` takes steps again where these fail."""
    field = cast(ResNetField, flow.field)
    ensemble = len(field.ensemble)
    networks, d = x0.shape[:ensemble].numel(), x0.shape[-1]
    x = x0.new_empty(len(layout.saved), *x0.shape).detach()
    x[0] = x0.detach()
    points = torch.empty_like(x[1:])
    shape, heun = (networks, x0.numel() // (networks * d), d), type(scheme) is ProxHeun
    advance = on_gpu.advance if on_gpu.is_here(x0) else _on_cpu
    if not np.isfinite(advance(x.reshape(-1, *shape), points.reshape(-1, *shape), _weights_of(field, networks),
                               _stretches(field, layout, x.dtype), _box(flow.g, x0), heun)):
        return None
    calls = layout.steps * (2 if heun else 1)
    t = torch.tensor(layout.times(), dtype=torch.float64)
    again = partial(_again, flow, scheme, otherwise)
    source = Retraced(scheme, layout.last_steps(), None, layout.longest, again, points)
    status = torch.full(x0.shape[:-1], OK, dtype=torch.int8, device=x0.device)
    reached = torch.full(status.shape, layout.stops[-1], dtype=torch.float64, device=x0.device)
    return Solution(t, x, status, f"success: {layout.steps} steps", Stats(layout.steps, calls, calls, engine="fused"),
                    flow, source, reached, {**REASONS, STEP_FAILED: scheme.failure})


def _again(flow: Inclusion, scheme: Scheme, otherwise: Callable[[Tensor, Plan], Solution], x: Tensor, part: Plan
           ) -> Solution:
    """Steps of a solve taken again along a part of its plan."""
    return solve_fused(flow, x, part, scheme, otherwise) or otherwise(x, part)


def _on_cpu(x: Tensor, points: Tensor, weights: Sequence[Tensor], stretches: tuple[np.ndarray, ...],
            box: Sequence[Tensor], heun: bool) -> float:
    """All tiles through all steps, in as many threads as torch uses; as ``on_gpu.advance``."""
    from .kernels import advance

    _, networks, batch, d = x.shape
    m = weights[0].shape[2]
    width = _width(batch, d, m)
    tiles = networks * -(-batch // width)
    memory, bounds = (_array(x), _array(points), tuple(map(_array, weights))), tuple(map(_array, box))
    constants = tuple(map(_NUMPY[x.dtype], (0.0, 0.5, 1.0)))

    def some(first: int, last: int) -> float:
        return advance(first, last, width, *memory, stretches, bounds, constants, heun)

    work = int(stretches[3].sum()) * networks * batch * m * d
    threads = min(torch.get_num_threads(), tiles, 1 + work // WORK)
    if threads == 1:
        return some(0, tiles)
    cuts = np.linspace(0, tiles, min(tiles, 4 * threads) + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(some, cuts[:-1], cuts[1:]))


def _width(batch: int, d: int, m: int) -> int:
    """Samples of a tile: tiles of about equal width, whole vectors where there are many samples."""
    if batch <= FEW and m * d >= SMALL:
        return 1
    widest = WIDE if d + m <= FEW_ROWS else NARROW
    width = -(-batch // -(-batch // widest))
    return width if width < 16 else -(-width // 16) * 16


def _curves(field: ResNetField) -> tuple[Curve | Constant, ...]:
    """The curves of A1, b1, A2, b2; of ResNet-S A2 is that of A, still to be transposed."""
    if isinstance(field, ResNetSField):
        return field.A, field.b1, field.A, field.b2
    return field.A1, field.b1, field.A2, field.b2


def _weights_of(field: ResNetField, networks: int) -> tuple[Tensor, ...]:
    """A1, b1, A2, b2 as (pieces, networks, rows, columns), a row for b."""
    values = []
    for name, curve in zip(("A1", "b1", "A2", "b2"), _curves(field), strict=True):
        v = curve.values.detach()
        v = v if isinstance(curve, Curve) else v.unsqueeze(0)
        v = v.unsqueeze(-2) if name.startswith("b") else v
        v = v.mT if name == "A2" and isinstance(field, ResNetSField) else v
        values.append(v.reshape(len(v), networks, *v.shape[-2:]))
    return tuple(values)


def _stretches(field: ResNetField, layout: Plan, dtype: torch.dtype) -> tuple[np.ndarray, ...]:
    """Stretches of equal steps between stops as ``advance`` reads them."""
    stops, counts = np.array(layout.stops), np.array(layout.counts or [1] * (len(layout.stops) - 1))
    starts, spans = stops[:-1], np.diff(stops)
    lengths = spans / counts
    pieces = np.zeros((len(counts), 4), np.int64)
    shares, slopes = np.zeros(pieces.shape), np.zeros(pieces.shape)
    for i, curve in enumerate(_curves(field)):
        if isinstance(curve, Curve):
            middle = (starts + 0.5 * spans - curve.t0) / curve.length
            pieces[:, i] = np.clip((middle + KNOT_TOLERANCE).astype(np.int64), 0, curve.pieces - 1)
        if isinstance(curve, PiecewiseLinear):
            shares[:, i] = (starts - (curve.t0 + pieces[:, i] * curve.length)) / curve.length
            slopes[:, i] = lengths / curve.length
    rows = np.zeros_like(counts)
    rows[np.array(layout.saved[1:]) - 1] = range(1, len(layout.saved))
    return pieces, shares, slopes, counts, lengths.astype(_NUMPY[dtype]), rows


def _box(g: ProxFunction, x: Tensor) -> tuple[Tensor, ...]:
    """Lower and upper bounds (d,) of an Orthant, a Box or the Whole space."""
    bounds = cast(Box, g).bounds(x.detach())
    return tuple(bound.detach().reshape(-1).expand(x.shape[-1]) for bound in bounds)


_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


def _array(x: Tensor) -> np.ndarray:
    return x.contiguous().numpy()

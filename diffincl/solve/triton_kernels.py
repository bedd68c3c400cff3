"""The whole time loop as one Triton kernel; imported by the first solve that runs it.

A program takes a tile (D, SAMPLES) of one network through all steps. Every thread has some samples to itself: their
states stay in its registers, and no thread waits for another. The weights, the same for all of them, are read entry by
entry from the nearest cache. Rows d … D − 1, of the weights too, are zeros.
"""

from __future__ import annotations

# pyright cannot see into the language of Triton, and need not find it installed.
# pyright: reportMissingImports=false, reportIndexIssue=false, reportOperatorIssue=false, reportArgumentType=false
import triton
import triton.language as tl

__all__ = ["march"]


@triton.jit
def entries(values, at, size, share, MOVING: tl.constexpr):
    """Some entries of a weight, on the line from the value of a piece to the next, ``size`` entries further on."""
    v = tl.load(values + at)
    if MOVING:
        # A weight that stands still has no next value: its own is read again.
        v += share.to(v.dtype) * (tl.load(values + at + tl.where(share != 0, size, 0)) - v)
    return v


@triton.jit
def field(x, A1, b1, A2, b2, at, shares, networks, m, D: tl.constexpr, MOVING: tl.constexpr):
    """A2 σ(A1 x + b1) − b2 of a tile, one hidden unit after the other; A1 and A2ᵀ have m rows of D."""
    i, size = tl.arange(0, D)[:, None], networks * m
    F = tl.zeros_like(x) - entries(b2, at[3] + i, networks * D, shares[3], MOVING)
    for k in tl.range(0, m, loop_unroll_factor=2):
        h = tl.sum(entries(A1, at[0] + k * D + i, size * D, shares[0], MOVING) * x, axis=0)
        h += entries(b1, at[1] + k, size, shares[1], MOVING)
        h = tl.where(h < 0, 0.0, h)  # NaN stays
        F += entries(A2, at[2] + k * D + i, size * D, shares[2], MOVING) * h[None, :]
    return F


@triton.jit
def project(z, lower, upper, D: tl.constexpr):
    """min(max(z, lower), upper); NaN stays."""
    i = tl.arange(0, D)[:, None]
    low, high = tl.load(lower + i), tl.load(upper + i)
    x = tl.where(z < low, low, z)
    return tl.where(x > high, high, x)


@triton.jit
def places(pieces, network, networks, m, D: tl.constexpr):
    """Where the weights of a network begin in the values of A1, b1, A2ᵀ and b2."""
    return ((tl.load(pieces) * networks + network) * m * D, (tl.load(pieces + 1) * networks + network) * m,
            (tl.load(pieces + 2) * networks + network) * m * D, (tl.load(pieces + 3) * networks + network) * D)


@triton.jit
def reached(shares, slopes, step):
    """How far A1, b1, A2 and b2 are on the way to their next values."""
    return (tl.load(shares) + step * tl.load(slopes), tl.load(shares + 1) + step * tl.load(slopes + 1),
            tl.load(shares + 2) + step * tl.load(slopes + 2), tl.load(shares + 3) + step * tl.load(slopes + 3))


@triton.jit(do_not_specialize=["stretches", "networks", "batch", "d", "m", "one"])
def march(out, points, sums, A1, b1, A2, b2, pieces, shares, slopes, counts, lengths, saves, lower, upper, stretches,
          networks, batch, d, m, one, D: tl.constexpr, SAMPLES: tl.constexpr, MOVING: tl.constexpr,
          HEUN: tl.constexpr):
    """One tile through all steps; states and the points of the proxes are written at save times.

    out (T, E, B, d) begins with the start, points (T − 1, E, B, d); values of A1 and A2ᵀ (pieces, E, m, D), of b1, b2
    (pieces, E, m or D), bounds (D,); of stretches of equal steps what ``stretches`` of the host says. The sum of a
    program is finite only if every point on its way was. ``one`` is 1, which the compiler must not know: it would give
    neighbouring threads neighbouring rows then, not samples.
    """
    tiles = tl.cdiv(batch, SAMPLES)
    network, tile = (tl.program_id(0) // tiles).to(tl.int64), (tl.program_id(0) % tiles).to(tl.int64)
    networks = networks.to(tl.int64)
    sample, i = tile * SAMPLES + tl.arange(0, SAMPLES), tl.arange(0, D)[:, None]
    real = (sample < batch)[None, :] & (i < d)
    x = tl.load(out + (network * batch + sample)[None, :] * d + i * one, mask=real, other=0.0)
    seen = tl.zeros_like(tl.sum(x, axis=0))
    for k in range(stretches):
        h, steps, save = tl.load(lengths + k).to(x.dtype), tl.load(counts + k), tl.load(saves + k)
        at, z = places(pieces + 4 * k, network, networks, m, D), x
        for n in range(steps):
            F = field(x, A1, b1, A2, b2, at, reached(shares + 4 * k, slopes + 4 * k, n), networks, m, D, MOVING)
            z = x - h * F
            if HEUN:
                seen += tl.sum(z, axis=0)
                y, share = project(z, lower, upper, D), reached(shares + 4 * k, slopes + 4 * k, n + 1)
                z = 0.5 * x + 0.5 * (y - h * field(y, A1, b1, A2, b2, at, share, networks, m, D, MOVING))
            seen += tl.sum(z, axis=0)
            x = project(z, lower, upper, D)
        if save > 0:
            row = (save * networks + network) * batch + sample
            tl.store(points + (row - networks * batch)[None, :] * d + i * one, z, mask=real)
            tl.store(out + row[None, :] * d + i * one, x, mask=real)
    tl.store(sums + tl.program_id(0), tl.sum(tl.where(sample < batch, seen, 0.0), axis=0))

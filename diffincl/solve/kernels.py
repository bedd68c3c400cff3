"""Whole time loops compiled by numba; imported by the first solve that runs one.

A tile holds w samples side by side, one row after the other, so every inner loop is one of vector instructions, and a
tile goes through all steps while it stays in the cache. Rows are padded with zeros to multiples of four.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numba import njit

__all__ = ["advance"]

# What may be rearranged: sums, and products with sums. NaN and infinities stay what they are, so failures are seen.
FAST = {"contract", "reassoc", "nsz"}


def compiled(function: Callable[..., Any], inline: Literal["never", "always"] = "never") -> Callable[..., Any]:
    """The function compiled at its first call; kept on disk where a place for that can be written."""
    try:
        return njit(function, fastmath=FAST, error_model="numpy", nogil=True, inline=inline, cache=True)
    except RuntimeError:  # numba finds no folder for its cache
        return njit(function, fastmath=FAST, error_model="numpy", nogil=True, inline=inline)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled into its callers: a call takes longer than a small tile."""
    return compiled(function, "always")


@compiled
def row(x, i, w):
    """A row of a tile."""
    return x[i * w:(i + 1) * w]


@inlined
def of_one(out, A, b, x):
    """out = A x + b of one sample."""
    for k in range(len(b)):
        total = b[k]
        for i in range(len(x)):
            total += A[k, i] * x[i]
        out[k] = total


@compiled
def of_many(out, A, b, x, w):
    """out = A x + b of w samples side by side, four rows and four columns at once."""
    for k in range(0, len(b), 4):
        p0, p1, p2, p3 = row(out, k, w), row(out, k + 1, w), row(out, k + 2, w), row(out, k + 3, w)
        b0, b1, b2, b3 = b[k], b[k + 1], b[k + 2], b[k + 3]
        for i in range(0, A.shape[1], 4):
            a00, a01, a02, a03 = A[k, i], A[k, i + 1], A[k, i + 2], A[k, i + 3]
            a10, a11, a12, a13 = A[k + 1, i], A[k + 1, i + 1], A[k + 1, i + 2], A[k + 1, i + 3]
            a20, a21, a22, a23 = A[k + 2, i], A[k + 2, i + 1], A[k + 2, i + 2], A[k + 2, i + 3]
            a30, a31, a32, a33 = A[k + 3, i], A[k + 3, i + 1], A[k + 3, i + 2], A[k + 3, i + 3]
            x0, x1, x2, x3 = row(x, i, w), row(x, i + 1, w), row(x, i + 2, w), row(x, i + 3, w)
            if i == 0:
                for s in range(w):
                    v0, v1, v2, v3 = x0[s], x1[s], x2[s], x3[s]
                    p0[s] = b0 + (a00 * v0 + a01 * v1 + a02 * v2 + a03 * v3)
                    p1[s] = b1 + (a10 * v0 + a11 * v1 + a12 * v2 + a13 * v3)
                    p2[s] = b2 + (a20 * v0 + a21 * v1 + a22 * v2 + a23 * v3)
                    p3[s] = b3 + (a30 * v0 + a31 * v1 + a32 * v2 + a33 * v3)
            else:
                for s in range(w):
                    v0, v1, v2, v3 = x0[s], x1[s], x2[s], x3[s]
                    p0[s] += a00 * v0 + a01 * v1 + a02 * v2 + a03 * v3
                    p1[s] += a10 * v0 + a11 * v1 + a12 * v2 + a13 * v3
                    p2[s] += a20 * v0 + a21 * v1 + a22 * v2 + a23 * v3
                    p3[s] += a30 * v0 + a31 * v1 + a32 * v2 + a33 * v3


@inlined
def affine(out, A, b, x, w):
    """out = A x + b of a tile."""
    if w == 1:
        of_one(out, A, b, x)
    else:
        of_many(out, A, b, x, w)


@inlined
def evaluate(F, H, A1, b1, A2, b2, x, w, zero):
    """F = A2 σ(A1 x + b1) + b2 (here b2 is that of the field with the other sign)."""
    affine(H, A1, b1, x, w)
    for s in range(len(H)):
        H[s] = zero if H[s] < zero else H[s]  # NaN stays
    affine(F, A2, b2, H, w)


@inlined
def project(x, z, lower, upper, sums):
    """x = min(max(z, lower), upper); what z is, sums keep in sight: one NaN or infinity, and they are not finite."""
    w = len(sums)
    for i in range(len(lower)):
        p, q, low, high = row(x, i, w), row(z, i, w), lower[i], upper[i]
        for s in range(w):
            v = q[s]
            sums[s] += v
            v = low if v < low else v
            p[s] = high if v > high else v


@compiled
def read(out, values, network, piece, share, sign):
    """A weight of one network, on the line from the value of a piece to the next, into a padded matrix."""
    rows, columns = values.shape[2:]
    for i in range(rows):
        for j in range(columns):
            v = values[piece, network, i, j]
            if share != 0:
                v += share * (values[piece + 1, network, i, j] - v)
            out[i, j] = sign * v


@compiled
def store(out, x, start, w):
    """A tile into rows of a batch."""
    for s in range(w):
        for i in range(out.shape[1]):
            out[start + s, i] = x[i * w + s]


@compiled
def read_all(A1, b1, A2, b2, weights, network, pieces, shares, slopes, step, now):
    """All weights of a network at a step of a stretch; ``now`` has room for their places in the dtype of the state."""
    for i in range(4):
        now[i] = shares[i] + step * slopes[i]
    read(A1, weights[0], network, pieces[0], now[0], now[4])
    read(b1, weights[1], network, pieces[1], now[1], now[4])
    read(A2, weights[2], network, pieces[2], now[2], now[4])
    read(b2, weights[3], network, pieces[3], now[3], -now[4])


@compiled
def march(x, w, start, network, out, points, weights, stretches, box, constants, heun):
    """One tile through all steps; returns a sum that is finite only if every point on the way was."""
    pieces, shares, slopes, counts, lengths, saves = stretches
    (zero, half, one), (lower, upper) = constants, box
    padded, hidden = len(x) // w, -(-weights[1].shape[3] // 4) * 4
    A1, row1 = np.zeros((hidden, padded), out.dtype), np.zeros((1, hidden), out.dtype)
    A2, row2 = np.zeros((padded, hidden), out.dtype), np.zeros((1, padded), out.dtype)
    b1, b2 = row1[0], row2[0]
    now, sums = np.full(5, one, out.dtype), np.zeros(w, out.dtype)
    F, H, y, z = np.zeros_like(x), np.zeros(hidden * w, out.dtype), np.zeros_like(x), np.zeros_like(x)
    for k in range(len(counts)):
        h, n, moving = lengths[k], counts[k], slopes[k].any()
        if k == 0 or moving or shares[k].any() or (pieces[k] != pieces[k - 1]).any():
            read_all(A1, row1, A2, row2, weights, network, pieces[k], shares[k], slopes[k], 0, now)
        for step in range(n):
            if moving and step > 0 and not heun:  # Heun's second stage has just read them
                read_all(A1, row1, A2, row2, weights, network, pieces[k], shares[k], slopes[k], step, now)
            evaluate(F, H, A1, b1, A2, b2, x, w, zero)
            for i in range(len(x)):
                z[i] = x[i] - h * F[i]
            if heun:
                project(y, z, lower, upper, sums)
                if moving:
                    read_all(A1, row1, A2, row2, weights, network, pieces[k], shares[k], slopes[k], step + 1, now)
                evaluate(F, H, A1, b1, A2, b2, y, w, zero)
                for i in range(len(x)):
                    z[i] = half * x[i] + half * (y[i] - h * F[i])
            project(x, z, lower, upper, sums)
            if step == n - 1 and saves[k] > 0:
                store(points[saves[k] - 1, network], z, start, w)
                store(out[saves[k], network], x, start, w)
    return sums.sum()


@compiled
def advance(first, last, width, out, points, weights, stretches, box, constants, heun):
    """Tiles first … last − 1 through all steps, states and points of the proxes written at save times.

    out (T, E, B, d) begins with the start, points (T − 1, E, B, d); weights A1, b1, A2, b2 (pieces, E, rows, columns).
    Of every stretch of equal steps: the piece of each weight, its place there and how far a step goes in it (S, 4),
    number and length of the steps, and the row of the save time at its end or 0. Returns a sum as ``march``.
    """
    batch, d = out.shape[2:]
    tiles, total = -(-batch // width), constants[0]
    for tile in range(first, last):
        network, start = tile // tiles, tile % tiles * width
        w = min(width, batch - start)
        x = np.zeros(-(-d // 4) * 4 * w, out.dtype)
        for s in range(w):
            for i in range(d):
                x[i * w + s] = out[0, network, start + s, i]
        total += march(x, w, start, network, out, points, weights, stretches, box, constants, heun)
    return total

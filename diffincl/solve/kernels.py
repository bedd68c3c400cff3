"""Whole time loops compiled by numba; imported by the first solve that runs one.

A tile (rows, w) holds w samples side by side, so every inner loop is one of vector instructions, and a tile goes
through all steps while it stays in the cache. Rows are padded with zeros to multiples of four.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

__all__ = ["advance"]

# What may be rearranged: sums, and products with sums. NaN and infinities stay what they are, so failures are seen.
FAST = {"contract", "reassoc", "nsz"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled at its first call; kept on disk where a place for that can be written."""
    try:
        return njit(function, fastmath=FAST, error_model="numpy", nogil=True, cache=True)
    except RuntimeError:  # numba finds no folder for its cache
        return njit(function, fastmath=FAST, error_model="numpy", nogil=True)


@compiled
def affine(out, A, b, x):
    """out = A x + b of a tile, two rows and four columns at once."""
    for k in range(0, A.shape[0], 2):
        p, q, bp, bq = out[k], out[k + 1], b[k], b[k + 1]
        for i in range(0, A.shape[1], 4):
            a0, a1, a2, a3 = A[k, i], A[k, i + 1], A[k, i + 2], A[k, i + 3]
            c0, c1, c2, c3 = A[k + 1, i], A[k + 1, i + 1], A[k + 1, i + 2], A[k + 1, i + 3]
            x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
            if i == 0:
                for s in range(x.shape[1]):
                    p[s] = bp + (a0 * x0[s] + a1 * x1[s] + a2 * x2[s] + a3 * x3[s])
                    q[s] = bq + (c0 * x0[s] + c1 * x1[s] + c2 * x2[s] + c3 * x3[s])
            else:
                for s in range(x.shape[1]):
                    p[s] += a0 * x0[s] + a1 * x1[s] + a2 * x2[s] + a3 * x3[s]
                    q[s] += c0 * x0[s] + c1 * x1[s] + c2 * x2[s] + c3 * x3[s]


@compiled
def evaluate(F, H, A1, b1, A2, b2, x, zero):
    """F = A2 σ(A1 x + b1) + b2 (here b2 is that of the field with the other sign)."""
    affine(H, A1, b1, x)
    for k in range(H.shape[0]):
        p = H[k]
        for s in range(x.shape[1]):
            p[s] = zero if p[s] < zero else p[s]  # NaN stays
    affine(F, A2, b2, H)


@compiled
def project(x, z, lower, upper, sums):
    """x = min(max(z, lower), upper); what z is, sums keep in sight: one NaN or infinity, and they are not finite."""
    for i in range(len(lower)):
        p, q, low, high = x[i], z[i], lower[i], upper[i]
        for s in range(x.shape[1]):
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
def store(out, x, start):
    """A tile into rows of a batch."""
    for s in range(x.shape[1]):
        for i in range(out.shape[1]):
            out[start + s, i] = x[i, s]


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
def march(x, start, network, out, points, weights, stretches, box, constants, heun):
    """One tile through all steps; returns a sum that is finite only if every point on the way was."""
    pieces, shares, slopes, counts, lengths, saves = stretches
    zero, half, one = constants
    (padded, w), d, hidden = x.shape, len(box[0]), -(-weights[1].shape[3] // 4) * 4
    A1, b1 = np.zeros((hidden, padded), x.dtype), np.zeros((1, hidden), x.dtype)
    A2, b2 = np.zeros((padded, hidden), x.dtype), np.zeros((1, padded), x.dtype)
    now = np.full(5, one, x.dtype)
    F, H, y, z = np.zeros_like(x), np.zeros((hidden, w), x.dtype), np.zeros_like(x), np.zeros_like(x)
    sums = np.zeros(w, x.dtype)
    for k in range(len(counts)):
        h, n, moving = lengths[k], counts[k], slopes[k].any()
        if k == 0 or moving or shares[k].any() or (pieces[k] != pieces[k - 1]).any():
            read_all(A1, b1, A2, b2, weights, network, pieces[k], shares[k], slopes[k], 0, now)
        for step in range(n):
            if moving and step > 0 and not heun:  # Heun's second stage has just read them
                read_all(A1, b1, A2, b2, weights, network, pieces[k], shares[k], slopes[k], step, now)
            evaluate(F, H, A1, b1[0], A2, b2[0], x, zero)
            for i in range(d):
                for s in range(w):
                    z[i, s] = x[i, s] - h * F[i, s]
            if heun:
                project(y, z, box[0], box[1], sums)
                if moving:
                    read_all(A1, b1, A2, b2, weights, network, pieces[k], shares[k], slopes[k], step + 1, now)
                evaluate(F, H, A1, b1[0], A2, b2[0], y, zero)
                for i in range(d):
                    for s in range(w):
                        z[i, s] = half * x[i, s] + half * (y[i, s] - h * F[i, s])
            project(x, z, box[0], box[1], sums)
            if step == n - 1 and saves[k] > 0:
                store(points[saves[k] - 1, network], z, start)
                store(out[saves[k], network], x, start)
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
        x = np.zeros((-(-d // 4) * 4, min(width, batch - start)), out.dtype)
        for s in range(x.shape[1]):
            for i in range(d):
                x[i, s] = out[0, network, start + s, i]
        total += march(x, start, network, out, points, weights, stretches, box, constants, heun)
    return total

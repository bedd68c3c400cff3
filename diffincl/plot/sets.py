"""The shape of a set in the plane, told by its projection alone: outline, corners, normal cones."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.linalg import vector_norm

from ..functions import ProxFunction

__all__ = ["Cone", "Outline", "cones_of", "corners_of", "outline_of", "spread_over"]

CELLS, REACH = 120, 6  # cells a side of the grid; the outline is looked for at a distance of so many of them
ANGLES = 720
Window = tuple[float, float, float, float]  # x from, to, y from, to


class Outline(NamedTuple):
    """Closed polygons of a set within a window, some of them holes; their vertices, and those that lie on the boundary.

    ``rings``: (n, 2) each, first point = last; ``edges``: (n, 2) runs of points on the boundary.
    """

    rings: list[Tensor]
    edges: list[Tensor]


class Cone(NamedTuple):
    """Directions of the normal cone at a point, from angle to angle (degrees, the same for a ray)."""

    at: Tensor
    spans: list[tuple[float, float]]


def outline_of(C: ProxFunction, window: Window, t: float, like: Tensor) -> Outline:
    """The part of C(t) in a window, exact up to the resolution of the grid.

    The contour at a small distance from C is smooth; its projection on C is the boundary, corners included.
    """
    from contourpy import FillType, contour_generator

    left, right, bottom, top = window
    cell = max(right - left, top - bottom) / CELLS
    reach = REACH * cell
    xs = torch.arange(left - 2 * reach, right + 2 * reach + cell, cell, dtype=torch.float64)
    ys = torch.arange(bottom - 2 * reach, top + 2 * reach + cell, cell, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1).to(like)
    away = torch.nan_to_num(vector_norm(points - _project(C, points, t), dim=-1), 2 * reach).double().cpu()
    found: Any = contour_generator(xs, ys, away, fill_type=FillType.OuterOffset).filled(-1.0, reach)
    rings, edges = [], []
    for polygon, offset in zip(*found, strict=True):
        for a, b in pairwise(offset):
            outer = torch.as_tensor(polygon[a:b]).to(like)
            ring = _project(C, outer, t)
            rings.append(ring.double().cpu())
            edges += _runs(ring.double().cpu(), vector_norm(outer - ring, dim=-1).cpu() > 0.5 * reach)
    return Outline(rings, edges)


def _project(C: ProxFunction, points: Tensor, t: float) -> Tensor:
    with torch.no_grad():
        return C.project(points.reshape(-1, 2), t).reshape(points.shape)  # type: ignore[attr-defined]


def _runs(ring: Tensor, mine: Tensor) -> list[Tensor]:
    """Consecutive points of a closed ring where ``mine`` holds, across its seam, too."""
    if bool(mine.all()):
        return [ring]
    ring, mine = ring[:-1], mine[:-1]
    if not bool(mine.any()):
        return []
    first = int((~mine).nonzero()[0])
    ring, mine = ring.roll(-first, 0), mine.roll(-first, 0)
    changes = (mine[1:] != mine[:-1]).nonzero()[:, 0] + 1
    parts = zip(torch.tensor_split(ring, changes), torch.tensor_split(mine, changes), strict=True)
    return [points for points, inside in parts if bool(inside[0])]


def corners_of(edge: Tensor, scale: float) -> list[Tensor]:
    """Points of the boundary that several neighbours on the contour project on."""
    still = vector_norm(edge.diff(dim=0), dim=-1) < 1e-5 * scale
    found = [edge[k + 1] for k in range(len(still) - 1) if bool(still[k] & still[k + 1])]
    return distinct(found, 1e-3 * scale)


def distinct(points: list[Tensor], apart: float) -> list[Tensor]:
    """Points that are apart from all before them."""
    kept: list[Tensor] = []
    for point in points:
        if all(float(vector_norm(point - other)) > apart for other in kept):
            kept.append(point)
    return kept


def spread_over(edges: list[Tensor], n: int, window: Window) -> Tensor:
    """About n points (m, 2) evenly along the parts of the boundary within the window."""
    left, right, bottom, top = window
    lengths = [vector_norm(edge.diff(dim=0), dim=-1) for edge in edges]
    shown = [(e[:-1] + e[1:]) / 2 for e in edges]
    shown = [(m[:, 0] > left) & (m[:, 0] < right) & (m[:, 1] > bottom) & (m[:, 1] < top) for m in shown]
    lengths = [length * inside for length, inside in zip(lengths, shown, strict=True)]
    total = sum(float(length.sum()) for length in lengths)
    found = []
    for edge, length in zip(edges, lengths, strict=True):
        mine = float(length.sum())
        count = round(n * mine / total) if total else 0
        along = torch.cat([torch.zeros(1, dtype=torch.float64), length.cumsum(0)])
        for s in (mine * (torch.arange(count, dtype=torch.float64) + 0.5) / max(count, 1)).tolist():
            k = min(int(torch.searchsorted(along, s, right=True)) - 1, len(length) - 1)
            part = (s - float(along[k])) / float(length[k])
            found.append(edge[k] + part * (edge[k + 1] - edge[k]))
    return torch.stack(found) if found else torch.zeros(0, 2, dtype=torch.float64)


def cones_of(C: ProxFunction, points: Tensor, t: float, radius: float, like: Tensor) -> list[Cone]:
    """Normal cones at points of the boundary: the directions n with project(x + radius n) = x."""
    theta = torch.arange(ANGLES, dtype=torch.float64) * (2 * math.pi / ANGLES)
    n = torch.stack([theta.cos(), theta.sin()], -1)
    found = []
    for x in points:
        x = _project(C, x[None].to(like), t)
        back = _project(C, x + radius * n.to(like), t)
        normal = vector_norm(back - x, dim=-1) <= 0.012 * radius
        found.append(Cone(x[0].double().cpu(), _spans(normal.cpu())))
    return found


def _spans(normal: Tensor) -> list[tuple[float, float]]:
    """Runs of true around the circle as spans of angles; narrow ones are rays."""
    if bool(normal.all()):
        return [(0.0, 360.0)]
    if not bool(normal.any()):
        return []
    first = int((~normal).nonzero()[0])
    inside = normal.roll(-first).tolist()
    spans, step, k = [], 360 / ANGLES, 0
    while k < ANGLES:
        if inside[k]:
            end = next((j for j in range(k, ANGLES) if not inside[j]), ANGLES)
            a, b = (k + first) * step, (end - 1 + first) * step
            spans.append((a, b) if b - a > 4 else ((a + b) / 2, (a + b) / 2))
            k = end
        k += 1
    return spans

"""Prox-friendly convex functions g: write ``prox`` (a set writes ``project``), get the rest.

All operators act on the last dimension of ``x`` of shape (*batch, d), keep dtype and device, and pass NaN on.
"""

from .base import ConvexSet, ProxFunction
from .boxes import Box, Orthant, Whole
from .norms import L1, L2
from .sets import Ball, HalfSpace, Simplex

__all__ = ["L1", "L2", "Ball", "Box", "ConvexSet", "HalfSpace", "Orthant", "ProxFunction", "Simplex", "Whole"]

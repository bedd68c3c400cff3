"""Prox-friendly functions g: write ``prox`` (a set writes ``project``), get the rest.

All operators act on the last dimension of ``x`` of shape (*batch, d), keep dtype and device, and pass NaN on.
"""

from .base import ConvexSet, ProxFunction
from .boxes import Box, Orthant, Whole
from .custom import CustomProx
from .linear import Affine, Polyhedron
from .moving import Moving
from .norms import L1, L2, ElasticNet, GroupL2
from .outside import OutsideBall
from .product import Product
from .sets import Ball, HalfSpace, Simplex
from .variation import TotalVariation

__all__ = [
    "L1",
    "L2",
    "Affine",
    "Ball",
    "Box",
    "ConvexSet",
    "CustomProx",
    "ElasticNet",
    "GroupL2",
    "HalfSpace",
    "Moving",
    "Orthant",
    "OutsideBall",
    "Polyhedron",
    "Product",
    "ProxFunction",
    "Simplex",
    "TotalVariation",
    "Whole",
]

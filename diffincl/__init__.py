"""diffincl: simulate, bound and train differential inclusions −x'(t) ∈ ∂g(t, x(t)) + F(t, x(t)).

A function g and a field F make an inclusion; a scheme makes one step; ``solve`` repeats it; a solution is data; a bound
reads an inclusion; a comparison reads a bound and solutions; a statement is a theorem that can be checked.
"""

from . import bounds, nn, norms, rates
from .bounds import compare
from .curves import PiecewiseConstant, PiecewiseLinear
from .fields import ResNetDField, ResNetField, ResNetSField
from .functions import L1, L2, Ball, Box, ConvexSet, HalfSpace, Orthant, ProxFunction, Simplex, Whole
from .inclusion import Inclusion
from .penalty import Penalty
from .schemes import ForwardEuler, ImplicitEuler, ProxHeun
from .solution import Solution, SolveError
from .solve import solve
from .statements import STATEMENTS as statements
from .statements import check
from .steps import Fixed

__version__ = "0.1.0"

__all__ = [
    "L1",
    "L2",
    "Ball",
    "Box",
    "ConvexSet",
    "Fixed",
    "ForwardEuler",
    "HalfSpace",
    "ImplicitEuler",
    "Inclusion",
    "Orthant",
    "Penalty",
    "PiecewiseConstant",
    "PiecewiseLinear",
    "ProxFunction",
    "ProxHeun",
    "ResNetDField",
    "ResNetField",
    "ResNetSField",
    "Simplex",
    "Solution",
    "SolveError",
    "Whole",
    "bounds",
    "check",
    "compare",
    "nn",
    "norms",
    "rates",
    "solve",
    "statements",
]

"""diffincl: simulate, bound and train differential inclusions −x'(t) ∈ ∂g(t, x(t)) + F(t, x(t)).

A function g and a field F make an inclusion; a scheme makes one step; ``solve`` repeats it; a solution is data; a bound
reads an inclusion; a comparison reads a bound and solutions; a statement is a theorem that can be checked.
"""

from . import activations, bounds, nn, norms, plot, rates
from .bounds import compare
from .curves import PiecewiseConstant, PiecewiseLinear
from .fields import (
    ConvResNetDField,
    ConvResNetField,
    ConvResNetSField,
    ResNetDField,
    ResNetField,
    ResNetSField,
)
from .functions import (
    L1,
    L2,
    Affine,
    Ball,
    Box,
    ConvexSet,
    CustomProx,
    ElasticNet,
    GroupL2,
    HalfSpace,
    Moving,
    Orthant,
    OutsideBall,
    Polyhedron,
    Product,
    ProxFunction,
    Simplex,
    TotalVariation,
    Whole,
)
from .inclusion import Inclusion
from .penalty import Penalty
from .schemes import ARS222, ForwardEuler, ImplicitEuler, ProxHeun, SemiImplicitEuler, Trapezoid
from .solution import Solution, SolveError, Switches
from .solve import KinkWarning, solve
from .statements import STATEMENTS as statements
from .statements import check
from .steps import Adaptive, Fixed
from .switching import ExactFlow, SwitchingDP5

__version__ = "0.1.0"

__all__ = [
    "ARS222",
    "L1",
    "L2",
    "Adaptive",
    "Affine",
    "Ball",
    "Box",
    "ConvResNetDField",
    "ConvResNetField",
    "ConvResNetSField",
    "ConvexSet",
    "CustomProx",
    "ElasticNet",
    "ExactFlow",
    "Fixed",
    "ForwardEuler",
    "GroupL2",
    "HalfSpace",
    "ImplicitEuler",
    "Inclusion",
    "KinkWarning",
    "Moving",
    "Orthant",
    "OutsideBall",
    "Penalty",
    "PiecewiseConstant",
    "PiecewiseLinear",
    "Polyhedron",
    "Product",
    "ProxFunction",
    "ProxHeun",
    "ResNetDField",
    "ResNetField",
    "ResNetSField",
    "SemiImplicitEuler",
    "Simplex",
    "Solution",
    "SolveError",
    "Switches",
    "SwitchingDP5",
    "TotalVariation",
    "Trapezoid",
    "Whole",
    "activations",
    "bounds",
    "check",
    "compare",
    "nn",
    "norms",
    "plot",
    "rates",
    "solve",
    "statements",
]

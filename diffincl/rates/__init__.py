"""The ladder of rates ν with ‖x − y‖' <= ν‖x − y‖, from the product of norms to the exact one-sided constant.

R1 ``uniform``, R2 ``centred``, R3 ``scaled``, R4 ``exact`` (and ``exact_estimate`` from below), R5 ``weighted``,
R6 ``measure``, R7 ``tube``; R8 ``step`` is the factor of one forward Euler step, ``chain`` that of many together.
``conv`` holds R1, R2, R3, R6 and R8 of convolutional branches.
"""

from . import conv
from .chains import chain
from .dense import ALONG, RATES, Rate, along, centred, scaled, transposed, uniform
from .factor import step, step_multipliers
from .ladder import exact, exact_estimate, measure, tube, weighted
from .norm_weights import condition, in_weights, optimise_weights
from .patterns import MOST_UNITS
from .scaling import optimise_scaling

__all__ = ["ALONG", "MOST_UNITS", "RATES", "Rate", "along", "centred", "chain", "condition", "conv", "exact",
           "exact_estimate", "in_weights", "measure", "optimise_scaling", "optimise_weights", "scaled", "step",
           "step_multipliers", "transposed", "tube", "uniform", "weighted"]

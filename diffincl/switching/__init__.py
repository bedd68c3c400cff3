"""Schemes in which every sample has its own time and step, and switches of the piece it is in are located.

``SwitchingDP5`` takes any field on orthant, box and the whole space; ``ExactFlow`` takes piecewise affine ones. Both
are made of the same parts: polynomials along a step (``polynomials``), the first zeros of event polynomials and the
mode after them (``modes``), and the contract with the loop (``attempt``).
"""

from .attempt import Attempt, Stepper, Tolerance
from .dp5 import SwitchingDP5
from .exact import ExactFlow
from .modes import Mode, Segment

__all__ = ["Attempt", "ExactFlow", "Mode", "Segment", "Stepper", "SwitchingDP5", "Tolerance"]

"""The ladder of rates ν with ‖x − y‖' <= ν‖x − y‖, from the product of norms to the scaled one-sided constant."""

from .dense import RATES, Rate, along, centred, scaled, transposed, uniform
from .scaling import optimise_scaling

__all__ = ["RATES", "Rate", "along", "centred", "optimise_scaling", "scaled", "transposed", "uniform"]

"""Training as optimal control of the inclusion."""

from .fit import accuracy, fit
from .recipe import Recipe
from .trainer import Metrics, Trainer

__all__ = ["Metrics", "Recipe", "Trainer", "accuracy", "fit"]

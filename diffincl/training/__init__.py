"""Training as optimal control of the inclusion."""

from .company import alone
from .fit import accuracy, fit
from .job import DATA, MODELS, Job, load_network
from .recipe import Recipe
from .trainer import Metrics, Trainer

__all__ = ["DATA", "MODELS", "Job", "Metrics", "Recipe", "Trainer", "accuracy", "alone", "fit", "load_network"]

"""The main job: check every statement on random instances and on three networks trained on real images."""

from .along import CONVERGED, FLOW, LAYERS, Along
from .job import DEPTH, NAMES, Outcome, run, trained_cases
from .orders import Order
from .parts import Parts, Settings, parts_of, trials_of
from .processes import Shards, shards
from .slack import Ladder

__all__ = ["CONVERGED", "DEPTH", "FLOW", "LAYERS", "NAMES", "Along", "Ladder", "Order", "Outcome", "Parts", "Settings",
           "Shards", "parts_of", "run", "shards", "trained_cases", "trials_of"]

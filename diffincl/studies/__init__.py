"""Experiments: networks trained over a grid, examined all in the same way, told in tables and figures."""

from .grids import STUDIES, Grid, Study
from .measures import examine
from .runner import run

__all__ = ["STUDIES", "Grid", "Study", "examine", "run"]

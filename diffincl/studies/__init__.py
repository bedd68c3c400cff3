"""Experiments: networks trained over a grid, examined all in the same way, told in tables and figures."""

from .examine import examine
from .grids import STUDIES, Grid, Study
from .run import run

__all__ = ["STUDIES", "Grid", "Study", "examine", "run"]

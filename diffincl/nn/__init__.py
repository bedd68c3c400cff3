"""Layers: the dynamics of an inclusion as torch modules."""

from .layer import InclusionLayer
from .network import VARIANTS, DenseResNet

__all__ = ["VARIANTS", "DenseResNet", "InclusionLayer"]

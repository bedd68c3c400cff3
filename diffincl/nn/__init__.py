"""Layers: the dynamics of an inclusion as torch modules."""

from .layer import InclusionLayer
from .network import VARIANTS, DenseResNet, ImageResNet, Network
from .stage import Stage

__all__ = ["VARIANTS", "DenseResNet", "ImageResNet", "InclusionLayer", "Network", "Stage"]

"""Layers: the dynamics of an inclusion as torch modules."""

from .base import Block, Certificate
from .layer import InclusionLayer
from .network import VARIANTS, DenseResNet
from .residual import DecayBlock, DecayBlock1d, DecayBlock2d, ResNetBlock, ResNetBlock1d, ResNetBlock2d
from .symmetric import SymmetricBlock, SymmetricBlock1d, SymmetricBlock2d

__all__ = ["VARIANTS", "Block", "Certificate", "DecayBlock", "DecayBlock1d", "DecayBlock2d", "DenseResNet",
           "InclusionLayer", "ResNetBlock", "ResNetBlock1d", "ResNetBlock2d", "SymmetricBlock", "SymmetricBlock1d",
           "SymmetricBlock2d"]

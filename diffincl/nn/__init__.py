"""Layers: the dynamics of an inclusion as torch modules, and their relatives.

``ResNetBlock``, ``DecayBlock`` and ``SymmetricBlock`` are the layers of the ResNet family with weights of their own,
``PreActivationBlock``, ``ConvexPotentialBlock``, ``SLLBlock``, ``AntisymmetricBlock`` and ``HamiltonianBlock`` are
others to compare them with; a name that ends in 1d or 2d has convolutions. All meet the contract of ``Block``.
"""

from .base import Block, Certificate
from .between import AveragePool, BatchNorm1d, BatchNorm2d, GlobalMean, PadChannels, Subsample
from .blocknet import RELATIVES, BlockNet
from .layer import InclusionLayer
from .network import VARIANTS, DenseResNet, ImageResNet, Network
from .relatives import (
    ConvexPotentialBlock,
    ConvexPotentialBlock2d,
    PreActivationBlock,
    PreActivationBlock2d,
    SLLBlock,
    SLLBlock2d,
)
from .residual import DecayBlock, DecayBlock1d, DecayBlock2d, ResNetBlock, ResNetBlock1d, ResNetBlock2d
from .rotations import AntisymmetricBlock, AntisymmetricBlock2d, HamiltonianBlock, HamiltonianBlock2d
from .stage import Stage
from .symmetric import SymmetricBlock, SymmetricBlock1d, SymmetricBlock2d

__all__ = ["RELATIVES", "VARIANTS", "AntisymmetricBlock", "AntisymmetricBlock2d", "AveragePool", "BatchNorm1d",
           "BatchNorm2d", "Block", "BlockNet", "Certificate", "ConvexPotentialBlock", "ConvexPotentialBlock2d",
           "DecayBlock", "DecayBlock1d", "DecayBlock2d", "DenseResNet", "GlobalMean", "HamiltonianBlock",
           "HamiltonianBlock2d", "ImageResNet", "InclusionLayer", "Network", "PadChannels", "PreActivationBlock",
           "PreActivationBlock2d", "ResNetBlock", "ResNetBlock1d", "ResNetBlock2d", "SLLBlock", "SLLBlock2d",
           "Stage", "Subsample", "SymmetricBlock", "SymmetricBlock1d", "SymmetricBlock2d"]

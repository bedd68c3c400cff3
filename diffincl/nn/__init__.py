"""Layers: the dynamics of an inclusion as torch modules, and their relatives.

``ResNetBlock``, ``DecayBlock`` and ``SymmetricBlock`` are the layers of the ResNet family with weights of their own,
``PreActivationBlock``, ``ConvexPotentialBlock``, ``SLLBlock``, ``AntisymmetricBlock`` and ``HamiltonianBlock`` are
others to compare them with; a name that ends in 1d or 2d has convolutions. All meet the contract of ``Block``.
"""

from .base import Block, Certificate
from .between import AveragePool, BatchNorm1d, BatchNorm2d, GlobalMean, PadChannels, Subsample
from .blocknet import BlockNet, ImageBlockNet
from .blocks import RELATIVES, Blocks
from .images import ImageResNet
from .layer import InclusionLayer
from .network import VARIANTS, DenseResNet, Network
from .relatives import (
    ConvexPotentialBlock,
    ConvexPotentialBlock1d,
    ConvexPotentialBlock2d,
    PreActivationBlock,
    PreActivationBlock1d,
    PreActivationBlock2d,
    SLLBlock,
    SLLBlock1d,
    SLLBlock2d,
)
from .residual import DecayBlock, DecayBlock1d, DecayBlock2d, ResNetBlock, ResNetBlock1d, ResNetBlock2d
from .rotations import (
    AntisymmetricBlock,
    AntisymmetricBlock1d,
    AntisymmetricBlock2d,
    HamiltonianBlock,
    HamiltonianBlock1d,
    HamiltonianBlock2d,
)
from .stage import Stage
from .symmetric import SymmetricBlock, SymmetricBlock1d, SymmetricBlock2d

__all__ = ["RELATIVES", "VARIANTS", "AntisymmetricBlock", "AntisymmetricBlock1d", "AntisymmetricBlock2d",
           "AveragePool", "BatchNorm1d", "BatchNorm2d", "Block", "BlockNet", "Blocks", "Certificate",
           "ConvexPotentialBlock", "ConvexPotentialBlock1d", "ConvexPotentialBlock2d", "DecayBlock", "DecayBlock1d",
           "DecayBlock2d", "DenseResNet", "GlobalMean", "HamiltonianBlock", "HamiltonianBlock1d", "HamiltonianBlock2d",
           "ImageBlockNet", "ImageResNet", "InclusionLayer", "Network", "PadChannels", "PreActivationBlock",
           "PreActivationBlock1d", "PreActivationBlock2d", "ResNetBlock", "ResNetBlock1d", "ResNetBlock2d", "SLLBlock",
           "SLLBlock1d", "SLLBlock2d", "Stage", "Subsample", "SymmetricBlock", "SymmetricBlock1d", "SymmetricBlock2d"]

"""Fields F(t, x), on the left of −x' ∈ ∂g + F: the ResNet family with weights in time, and any callable."""

from .base import CallableField, Field, FieldFunction, as_field
from .convolutional import ConvResNetDField, ConvResNetField, ConvResNetSField, adjoint_kernel, convolve
from .layered import LayeredField
from .pieces import Pieces, Weights
from .resnet import ResNetDField, ResNetField, ResNetSField

__all__ = ["CallableField", "ConvResNetDField", "ConvResNetField", "ConvResNetSField", "Field", "FieldFunction",
           "LayeredField", "Pieces", "ResNetDField", "ResNetField", "ResNetSField", "Weights", "adjoint_kernel",
           "as_field", "convolve"]

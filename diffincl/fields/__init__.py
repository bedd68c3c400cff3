"""Fields F(t, x), on the left of −x' ∈ ∂g + F: the ResNet family with weights in time, and any callable."""

from .base import CallableField, Field, FieldFunction, as_field
from .pieces import Pieces, Weights
from .resnet import ResNetDField, ResNetField, ResNetSField

__all__ = ["CallableField", "Field", "FieldFunction", "Pieces", "ResNetDField", "ResNetField", "ResNetSField",
           "Weights", "as_field"]

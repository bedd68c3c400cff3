"""A small dense classifier around an inclusion: linear lift, N layers, linear head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import _check
from ..curves import PiecewiseConstant
from ..fields import ResNetDField, ResNetField, ResNetSField
from ..functions import Orthant
from ..norms import dense
from .layer import InclusionLayer

__all__ = ["VARIANTS", "DenseResNet"]

VARIANTS = ("resnet", "d", "s")


class DenseResNet(nn.Module):
    """x0 = ReLU(lift(input)); ``depth`` layers of −x' ∈ N_C + A2 σ(A1 x + b1) − b2 on the orthant; a linear head.

    Parameters
    ----------
    features, classes : int
    variant : "resnet", "d" (A2 >= 0) or "s" (A2 = A1ᵀ, h‖A‖² <= 2)
    width : int
        Dimension of the state and of the hidden layer.
    depth : int
        Number of layers.
    horizon : float
        T; a layer is a step of length h = T/depth.
    generator : torch.Generator, optional
        Of the initial weights.

    Notes
    -----
    The structure is kept by projection: ``constrain_()`` after each optimiser step.

    Examples
    --------
    >>> import torch
    >>> net = DenseResNet(64, 10, variant="s", generator=torch.Generator().manual_seed(0))
    >>> net(torch.zeros(5, 64)).shape
    torch.Size([5, 10])
    """

    def __init__(self, features: int, classes: int, *, variant: str = "resnet", width: int = 32, depth: int = 10,
                 horizon: float = 1.0, generator: torch.Generator | None = None):
        super().__init__()
        _check.choice("variant", variant, VARIANTS)
        features, classes = _check.count("features", features), _check.count("classes", classes)
        width, depth = _check.count("width", width), _check.count("depth", depth)
        self.variant, self.h = variant, _check.number("horizon", horizon, above=0.0) / depth

        def weight(*shape: int, size: float) -> nn.Parameter:
            return nn.Parameter(size * torch.randn(*shape, generator=generator))

        self.lift, self.head = nn.Linear(features, width), nn.Linear(width, classes)
        with torch.no_grad():
            for layer in (self.lift, self.head):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / layer.in_features**0.5)
                layer.bias.zero_()

        def curve(*shape: int, size: float = width**-0.5, nonnegative: bool = False) -> PiecewiseConstant:
            values = weight(depth, *shape, size=size)
            return PiecewiseConstant(nn.Parameter(values.detach().abs()) if nonnegative else values, 0.0, horizon)

        b1, b2 = curve(width, size=0.0), curve(width, size=0.0)
        A1 = curve(width, width)
        if variant == "s":
            field = ResNetSField(A1, b1, b2)
        elif variant == "d":
            field = ResNetDField(A1, b1, curve(width, width, nonnegative=True), b2)
        else:
            field = ResNetField(A1, b1, curve(width, width), b2)
        self.layers = InclusionLayer(field, Orthant(), torch.linspace(0, horizon, depth + 1, dtype=torch.float64))

    def features(self, x: Tensor) -> Tensor:
        """The initial state x0 = ReLU(lift(x)), (*batch, width)."""
        return torch.relu(self.lift(x))

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (*batch, classes)."""
        return self.head(self.layers(self.features(x)))

    @torch.no_grad()
    def constrain_(self) -> None:
        """Project the weights back onto the structure: A2 >= 0 (D), h‖A_k‖² <= 2 with a thousandth to spare (S)."""
        field = self.layers.field
        if isinstance(field, ResNetDField):
            field.A2.values.clamp_(min=0)
        if isinstance(field, ResNetSField):
            A = field.A.values
            limit = (2 * 0.999 / self.h) ** 0.5
            A.mul_((limit / dense(A, status="float").value).clamp(max=1.0).to(A)[:, None, None])

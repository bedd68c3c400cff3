"""The dense fields of the ResNet family, with weights in time."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .. import _check
from .base import FieldFunction
from .layered import LayeredField, Nonnegative, Symmetric, Weight, same_kind
from .pieces import Pieces, Weights, affine

__all__ = ["ResNetDField", "ResNetField", "ResNetSField"]


class ResNetField(LayeredField):
    """F(t, x) = A2 σ(A1 x + b1) − b2 with σ = ReLU: the field of the post-activation ResNet.

    Parameters
    ----------
    A1 : Tensor (*weights, m, d), or a curve of such tensors
    b1 : Tensor (*weights, m), or a curve
    A2 : Tensor (*weights, d, m), or a curve
    b2 : Tensor (*weights, d), or a curve
        Leading dimensions ``weights`` make an ensemble: they line up with the first dimensions of the batch of x.

    Raises
    ------
    TypeError, ValueError
        If a weight is no floating-point tensor or curve, is not finite, or does not fit the others.

    Examples
    --------
    >>> import torch
    >>> F = ResNetField(torch.eye(2), torch.zeros(2), torch.eye(2), torch.ones(2))
    >>> F(0.0, torch.tensor([3.0, -1.0]))
    tensor([ 2., -1.])

    References
    ----------
    Zhang, Schaeffer, "Forward Stability of ResNet and Its Variants", 2020; theory §1.
    """

    layout = "(*batch, m, d)"

    def __init__(self, A1: Weight, b1: Weight, A2: Weight, b2: Weight):
        super().__init__()
        self.set_weights({"A1": A1, "b1": b1, "A2": A2, "b2": b2})

    def affine(self, x: Tensor, A: Tensor, b: Tensor | None) -> Tensor:
        """A x + b, of an ensemble one A for each of its first batch dimensions."""
        return affine(x, A, b)

    def adjoint(self, A: Tensor) -> Tensor:
        """Aᵀ."""
        return A.mT

    def each(self, x: Tensor, A: Tensor) -> Tensor:
        """A_k x_k, (N, m), for matrices (N, m, d) and states (N, d)."""
        return (A @ x.unsqueeze(-1)).squeeze(-1)

    def moving_on(self, a: float, b: float, at: Callable[[float | Tensor], Weights]) -> FieldFunction:
        """F on [a, b] with weights that move within it; each sample may have its own time."""
        pieces = self.pieces_on(a, b)
        return lambda t, x: pieces(t, x) if isinstance(t, Tensor) and t.ndim > 0 else self.evaluate(at(t), x)

    def pieces_on(self, a: float, b: float) -> Pieces:
        """F on [a, b] as a function of the activation pattern, each sample at its own time."""
        at = self.weights_on(a, b)
        return Pieces(a, b, at(a), at(b) if self.time_dependent_within_a_step else None)

    @property
    def features(self) -> int:
        """Dimension d of the state."""
        return self.weights_now().A1.shape[-1]

    @property
    def ensemble(self) -> tuple[int, ...]:
        """Batch dimensions of the weights."""
        return tuple(self.weights_now().A1.shape[:-2])

    def check_fit(self, weights: Weights) -> None:
        """A1 (*batch, m, d), b1 (*batch, m), A2 (*batch, d, m), b2 (*batch, d)."""
        A1 = weights.A1
        if A1.ndim < 2:
            raise ValueError(f"A1 (or A) must have shape {self.layout}; got {_check.describe(A1)}.")
        ensemble, (m, d) = tuple(A1.shape[:-2]), A1.shape[-2:]
        self.require(weights, {"b1": (*ensemble, m), "A2": (*ensemble, d, m), "b2": (*ensemble, d)})

    def validate(self, x0: Tensor) -> None:
        """x0 must have the field's dimension, dtype and device, and lead with the batch dimensions of the weights."""
        A1 = self.weights_now().A1
        if x0.shape[-1] != A1.shape[-1]:
            raise ValueError(f"x0 must have last dimension {A1.shape[-1]}, the columns of A1; got "
                             f"{_check.describe(x0)}.")
        same_kind("x0", x0, A1)
        ensemble = tuple(A1.shape[:-2])
        if tuple(x0.shape[:len(ensemble)]) != ensemble:
            raise ValueError(f"x0 must lead with the batch dimensions {ensemble} of the weights; got "
                             f"{_check.describe(x0)}. Expand it: x0.expand({', '.join(map(str, ensemble))}, ...).")


class ResNetDField(Nonnegative, ResNetField):
    """ResNet-D: the field of ResNet with A2 >= 0 entry by entry.

    Raises
    ------
    ValueError
        Besides those of ``ResNetField``: if an entry of A2 is negative, now or (checked by the bounds) later.

    Examples
    --------
    >>> import torch
    >>> F = ResNetDField(-torch.eye(2), torch.ones(2), torch.eye(2), torch.zeros(2))
    >>> F(0.0, torch.tensor([0.5, 2.0]))
    tensor([0.5000, 0.0000])
    """

    def __init__(self, A1: Weight, b1: Weight, A2: Weight, b2: Weight):
        super().__init__(A1, b1, A2, b2)
        self.check_structure()


class ResNetSField(Symmetric, ResNetField):
    """ResNet-S: F(t, x) = Aᵀ σ(A x + b1) − b2, the gradient of the convex φ = ½‖σ(Ax + b1)‖² − b2·x.

    Parameters
    ----------
    A : Tensor (*weights, m, d), or a curve
    b1 : Tensor (*weights, m), or a curve
    b2 : Tensor (*weights, d), or a curve

    Examples
    --------
    >>> import torch
    >>> F = ResNetSField(2 * torch.eye(2), torch.zeros(2), torch.zeros(2))
    >>> F(0.0, torch.tensor([1.0, -1.0]))
    tensor([4., 0.])
    """

    def __init__(self, A: Weight, b1: Weight, b2: Weight):
        LayeredField.__init__(self)
        self.set_weights({"A": A, "b1": b1, "b2": b2})

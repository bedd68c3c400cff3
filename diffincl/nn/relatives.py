"""Relatives of the ResNet family for comparison: pre-activation, convex potential, SLL, antisymmetric, Hamiltonian."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import _check, norms
from ..fields import ConvResNetField, Field, ResNetField, Weights
from .base import Block, Certificate, traced, widths
from .factors import symmetric_factor
from .maps import DENSE, Image, Maps
from .residual import Residual, ResNetBlock

__all__ = ["ConvexPotentialBlock", "ConvexPotentialBlock1d", "ConvexPotentialBlock2d", "PreActivationBlock",
           "PreActivationBlock1d", "PreActivationBlock2d", "SLLBlock", "SLLBlock1d", "SLLBlock2d"]


class PreActivationBlock(ResNetBlock):
    """x ↦ x + h A2 ReLU(A1 x + b1): the residual layer without an outer activation, a step of a plain ODE.

    Parameters
    ----------
    features, hidden, h, bias, device, dtype, generator
        As for ``ResNetBlock``; there is no b2.

    Examples
    --------
    >>> import torch
    >>> PreActivationBlock(2, 8, h=0.5)(torch.ones(7, 2)).shape
    torch.Size([7, 2])

    Notes
    -----
    F = −A2 σ(A1 x + b1), without a constraint on x. Certificate as for ``ResNetBlock``.

    References
    ----------
    He, Zhang, Ren, Sun, "Identity mappings in deep residual networks", 2016; E, "A proposal on machine learning via
    dynamical systems", 2017.
    """

    def __init__(self, features: int, hidden: int | None = None, h: float = 1.0, bias: bool = True, *,
                 device: torch.device | str | None = None, dtype: torch.dtype | None = None,
                 generator: torch.Generator | None = None):
        super().__init__(features, hidden, h, bias, device=device, dtype=dtype, generator=generator)
        self.b2 = None

    def weights(self) -> Weights:
        """A1, b1, −A2 and 0: those of F, which stands on the left."""
        A1, b1, A2, zero = super().weights()
        return Weights(A1, b1, -A2, zero)

    def forward(self, x: Tensor) -> Tensor:
        affine = self.maps.affine
        return torch.add(x, affine(torch.relu(affine(x, self.A1, self.b1)), self.A2, None), alpha=self.h)

    def plain(self) -> nn.Module:
        """x ↦ x − (−h) second(ReLU(first(x))) in torch's own classes."""
        b1 = None if self.b1 is None else self.b1.detach()
        first, second = self.maps.layer(self.A1.detach(), b1), self.maps.layer(self.A2.detach(), None)
        return traced(Residual(first, second, -self.h, clip=False))


class PreActivationBlock2d(PreActivationBlock):
    """``PreActivationBlock`` with convolutions, for states (*batch, features, H, W).

    Parameters as for ``ResNetBlock2d``.
    """

    dims = 2

    def __init__(self, features: int, hidden: int | None = None, kernel_size: Image = 3, h: float = 1.0,
                 bias: bool = True, padding_mode: str = "zeros", *, device: torch.device | str | None = None,
                 dtype: torch.dtype | None = None, generator: torch.Generator | None = None):
        maps = self.convolve(kernel_size, padding_mode)
        A1, A2 = self.begin(maps, features, hidden, h, bias, device, dtype, generator)
        self.extra_weights({"A1": A1, "A2": A2})
        self.b2 = None


class PreActivationBlock1d(PreActivationBlock2d):
    """``PreActivationBlock2d`` for signals (*batch, features, L)."""

    dims = 1


class ConvexPotentialBlock(Block):
    """CPL: x ↦ x − (2/‖A‖²) Aᵀ ReLU(A x + b), nonexpansive in ℓ2 whatever A is.

    Parameters
    ----------
    features, hidden, bias, device, dtype, generator
        As for ``ResNetBlock``.

    Examples
    --------
    >>> import torch
    >>> block = ConvexPotentialBlock(4, 8)
    >>> block.certificate()
    Certificate(value=1.0, status='certified', statement='D3: h‖A‖² <= 2')

    Notes
    -----
    ‖A‖ is taken from above by Gram iteration, differentiably, at every evaluation: the layer is nonexpansive during
    training, too, where power iteration (the original) leaves that open. For a zero A the layer is the identity.

    References
    ----------
    Meunier, Delattre, Araujo, Allauzen, "A dynamical system perspective for Lipschitz neural networks", 2022; theory
    §5, R8.
    """

    A: nn.Parameter
    b: nn.Parameter | None

    def __init__(self, features: int, hidden: int | None = None, bias: bool = True, *,
                 device: torch.device | str | None = None, dtype: torch.dtype | None = None,
                 generator: torch.Generator | None = None):
        super().__init__()
        self.begin(DENSE, features, hidden, bias, device, dtype, generator)

    def begin(self, maps: Maps, features: int, hidden: int | None, bias: bool, device: torch.device | str | None,
              dtype: torch.dtype | None, generator: torch.Generator | None) -> None:
        """Keep the arguments and draw A."""
        self.maps, (self.features, self.hidden), self.bias = maps, widths(features, hidden), bool(bias)
        A = maps.draw(self.hidden, self.features, device=device, dtype=dtype, generator=generator)
        self.extra_weights({"A": A, "b": A.new_zeros(self.hidden) if bias else None})

    def outer(self) -> Tensor:
        """The weight of (2/‖A‖²)Aᵀ."""
        square = self.maps.norm_at_any_size(self.A).square()
        return self.maps.adjoint(self.A) * torch.where(square > 0, 2 / torch.where(square > 0, square, 1.0), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        return x - self.maps.affine(torch.relu(self.maps.affine(x, self.A, self.b)), self.outer(), None)

    def field(self) -> Field:
        """F = (2/‖A‖²) Aᵀ σ(A x + b); the layer is a step of length 1 on the whole space."""
        b = self.A.new_zeros(self.hidden) if self.b is None else self.b
        A2, zero = self.outer(), self.A.new_zeros(self.features)
        if self.maps.dims == 0:
            return ResNetField(self.A, b, A2, zero)
        return ConvResNetField(self.A, b, A2, zero, padding_mode=self.maps.padding_mode)

    def certificate(self, image: Image | None = None, *, status: str = norms.CERTIFIED) -> Certificate:
        """max(1, h‖A‖² − 1) with the h of the layer (D3)."""
        norm = self.maps.norm(self.A, image, status)
        square = float(self.maps.norm_at_any_size(self.A.detach()).square())
        h = 2 / square if square > 0 else 0.0
        return symmetric_factor(h * float(norm.value) ** 2 * (1 + 8 * norms.UNIT), norm.status)

    def plain(self) -> nn.Module:
        """x ↦ x − second(ReLU(first(x))) in torch's own classes."""
        b = None if self.b is None else self.b.detach()
        first, second = self.maps.layer(self.A.detach(), b), self.maps.layer(self.outer().detach(), None)
        return traced(Residual(first, second, 1.0, clip=False))


class ConvexPotentialBlock2d(ConvexPotentialBlock):
    """``ConvexPotentialBlock`` with convolutions, for states (*batch, features, H, W); ‖A‖ is that on every size."""

    dims = 2

    def __init__(self, features: int, hidden: int | None = None, kernel_size: Image = 3, bias: bool = True,
                 padding_mode: str = "zeros", *, device: torch.device | str | None = None,
                 dtype: torch.dtype | None = None, generator: torch.Generator | None = None):
        maps = self.convolve(kernel_size, padding_mode)
        self.begin(maps, features, hidden, bias, device, dtype, generator)


class ConvexPotentialBlock1d(ConvexPotentialBlock2d):
    """``ConvexPotentialBlock2d`` for signals (*batch, features, L)."""

    dims = 1


class SLLBlock(ConvexPotentialBlock):
    """SLL: x ↦ x − 2 Aᵀ T⁻¹ ReLU(A x + b), T_i = Σ_j |AAᵀ|_ij q_j/q_i with learned q > 0: nonexpansive in ℓ2.

    Parameters
    ----------
    features, hidden, bias, device, dtype, generator
        As for ``ResNetBlock``; q begins with ones.

    Examples
    --------
    >>> import torch
    >>> SLLBlock(4, 8).certificate().value
    1.0

    Notes
    -----
    T ⪰ AAᵀ by Gershgorin's discs, so 2T⁻¹ is a multiplier of R8 with R = 0. Of a convolution AAᵀ is the one with the
    kernel's autocorrelation (on the infinite grid, of which an image is a part), and |·| the sum over its taps. The
    certificate is that of the exact T; rounding it moves the factor by a few units of the dtype, which T has in hand.

    References
    ----------
    Araujo, Havens, Delattre, Allauzen, Hu, "A unified algebraic perspective on Lipschitz neural networks", 2023;
    theory §5, R8.
    """

    def begin(self, maps: Maps, features: int, hidden: int | None, bias: bool, device: torch.device | str | None,
              dtype: torch.dtype | None, generator: torch.Generator | None) -> None:
        """Keep the arguments, draw A, q = 1."""
        super().begin(maps, features, hidden, bias, device, dtype, generator)
        self.log_q = nn.Parameter(self.A.new_zeros(self.hidden))

    def scaling(self) -> Tensor:
        """T (m,), a little above the formula: room for rounding."""
        q = self.log_q.exp()
        T = (self._overlap() @ q) / q
        room = 1 + 16 * self.A[0].numel() * torch.finfo(self.A.dtype).eps
        return torch.where(T > 0, T * room, 1.0)

    def _overlap(self) -> Tensor:
        """|AAᵀ|, (m, m); of a convolution summed over the taps of the autocorrelation."""
        if self.maps.dims == 0:
            return (self.A @ self.A.mT).abs()
        reach = [k - 1 for k in self.maps.kernel]
        correlate = nn.functional.conv1d if self.maps.dims == 1 else nn.functional.conv2d
        return correlate(self.A, self.A, padding=reach).abs().flatten(2).sum(-1)

    def outer(self) -> Tensor:
        """The weight of 2AᵀT⁻¹."""
        return self.maps.adjoint(self.A) * self.maps.spread(2 / self.scaling()).unsqueeze(0)

    def certificate(self, image: Image | None = None, *, status: str = norms.CERTIFIED) -> Certificate:
        """1, by the form of the layer; without finite weights there is none."""
        _check.choice("status", status, (norms.CERTIFIED, norms.FLOAT))
        _check.finite("A", self.A)
        _check.finite("T of the layer", self.scaling())
        return Certificate(1.0, norms.CERTIFIED, "R8 with Λ = 2T⁻¹")


class SLLBlock2d(SLLBlock):
    """``SLLBlock`` with convolutions, for states (*batch, features, H, W); parameters as ``ConvexPotentialBlock2d``."""

    dims = 2

    def __init__(self, features: int, hidden: int | None = None, kernel_size: Image = 3, bias: bool = True,
                 padding_mode: str = "zeros", *, device: torch.device | str | None = None,
                 dtype: torch.dtype | None = None, generator: torch.Generator | None = None):
        maps = self.convolve(kernel_size, padding_mode)
        self.begin(maps, features, hidden, bias, device, dtype, generator)


class SLLBlock1d(SLLBlock2d):
    """``SLLBlock2d`` for signals (*batch, features, L)."""

    dims = 1

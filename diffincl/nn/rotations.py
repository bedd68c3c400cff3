"""Layers that turn rather than pull: antisymmetric and Hamiltonian networks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .. import _check, norms
from ..fields import Weights
from .base import Block, Certificate, joint, traced, widths
from .factors import ROOM, euler_factor
from .maps import DENSE, Image, Maps

__all__ = ["AntisymmetricBlock", "AntisymmetricBlock1d", "AntisymmetricBlock2d", "HamiltonianBlock",
           "HamiltonianBlock1d", "HamiltonianBlock2d"]


class AntisymmetricBlock(Block):
    """x ↦ x + h tanh((A − Aᵀ − γI)x + b): eigenvalues near the imaginary axis.

    Parameters
    ----------
    features : int
    h : float > 0
    bias : bool
    gamma : float >= 0
        Diffusion γ, which makes up for the growth of Euler's steps.
    device, dtype, generator
        Of the initial weights: A normal with variance 2/fan, b = 0.

    Examples
    --------
    >>> import torch
    >>> block = AntisymmetricBlock(4, h=0.1, gamma=0.5)
    >>> 1.0 <= block.certificate().value < 1.5
    True

    Notes
    -----
    A step of F = −tanh(Mx + b), M = A − Aᵀ − γI; tanh has slopes in [0, 1], so D1 and R8 hold with A1 = M, A2 = −I. The
    eigenvalues of M do not bound the layer, its norms do: it may expand.

    References
    ----------
    Haber, Ruthotto, "Stable architectures for deep neural networks", 2017; Chang, Chen, Haber, Chi, "AntisymmetricRNN",
    2019.
    """

    A: nn.Parameter
    b: nn.Parameter | None

    def __init__(self, features: int, h: float = 1.0, bias: bool = True, gamma: float = 0.0, *,
                 device: torch.device | str | None = None, dtype: torch.dtype | None = None,
                 generator: torch.Generator | None = None):
        super().__init__()
        self.begin(DENSE, features, h, bias, gamma, device, dtype, generator)

    def begin(self, maps: Maps, features: int, h: float, bias: bool, gamma: float, device: torch.device | str | None,
              dtype: torch.dtype | None, generator: torch.Generator | None) -> None:
        """Keep the arguments and draw A."""
        self.maps, self.features, self.bias = maps, _check.count("features", features), bool(bias)
        self.h, self.gamma = _check.number("h", h, above=0.0), _check.number("gamma", gamma, at_least=0.0)
        A = maps.draw(self.features, self.features, device=device, dtype=dtype, generator=generator)
        self.extra_weights({"A": A, "b": A.new_zeros(self.features) if bias else None})

    def inner(self) -> Tensor:
        """The weight of M = A − Aᵀ − γI."""
        return self.A - self.maps.adjoint(self.A) - self.gamma * self.maps.identity(self.A)

    def weights(self) -> Weights:
        """M, b, −I and 0: those of F, with tanh in place of ReLU."""
        M, zero = self.inner(), self.A.new_zeros(self.features)
        return Weights(M, zero if self.b is None else self.b, -self.maps.identity(M), zero)

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, torch.tanh(self.maps.affine(x, self.inner(), self.b)), alpha=self.h)

    def certificate(self, image: Image | None = None, *, status: str = norms.CERTIFIED) -> Certificate:
        """As for ``ResNetBlock``, with A1 = M, A2 = −I."""
        weights = self.weights()
        return euler_factor(self.maps, weights.A1.detach(), weights.A2, self.h, image, status)

    def plain(self) -> nn.Module:
        """x ↦ x + h tanh(first(x)) in torch's own classes."""
        b = None if self.b is None else self.b.detach()
        return traced(Turn(self.maps.layer(self.inner().detach(), b), self.h))


class Turn(nn.Module):
    """x + h tanh(first(x))."""

    def __init__(self, first: nn.Module, h: float):
        super().__init__()
        self.first, self.h = first, h

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, torch.tanh(self.first(x)), alpha=self.h)


class AntisymmetricBlock2d(AntisymmetricBlock):
    """``AntisymmetricBlock`` with a convolution, for states (*batch, features, H, W); kernel_size odd."""

    dims = 2

    def __init__(self, features: int, kernel_size: Image = 3, h: float = 1.0, bias: bool = True, gamma: float = 0.0,
                 padding_mode: str = "zeros", *, device: torch.device | str | None = None,
                 dtype: torch.dtype | None = None, generator: torch.Generator | None = None):
        maps = self.convolve(kernel_size, padding_mode)
        self.begin(maps, features, h, bias, gamma, device, dtype, generator)


class AntisymmetricBlock1d(AntisymmetricBlock2d):
    """``AntisymmetricBlock2d`` for signals (*batch, features, L)."""

    dims = 1


class HamiltonianBlock(Block):
    """(y, z) ↦ (y⁺, z⁺), y⁺ = y + h A1ᵀ ReLU(A1 z + b1), z⁺ = z − h A2ᵀ ReLU(A2 y⁺ + b2): invertible.

    Parameters
    ----------
    features : int, even
        The first half of the features is y, the second z.
    hidden : int, optional
        Hidden units of each half; features/2 by default.
    h, bias, device, dtype, generator
        As for ``ResNetBlock``; A1 and A2 (hidden, features/2).

    Examples
    --------
    >>> import torch
    >>> block = HamiltonianBlock(4, h=0.5)
    >>> x = torch.rand(3, 4)
    >>> bool(torch.allclose(block.inverse(block(x)), x, atol=1e-5))
    True

    Notes
    -----
    With ℓ = h‖A‖² a half step has the matrix [[I, J], [0, I]], ‖J‖ <= ℓ, of norm (ℓ + √(ℓ² + 4))/2; the factor is the
    product of the two.

    References
    ----------
    Chang, Meng, Haber, Ruthotto, Begert, Holtham, "Reversible architectures for arbitrarily deep residual neural
    networks", 2018.
    """

    A1: nn.Parameter
    A2: nn.Parameter
    b1: nn.Parameter | None
    b2: nn.Parameter | None

    def __init__(self, features: int, hidden: int | None = None, h: float = 1.0, bias: bool = True, *,
                 device: torch.device | str | None = None, dtype: torch.dtype | None = None,
                 generator: torch.Generator | None = None):
        super().__init__()
        self.begin(DENSE, features, hidden, h, bias, device, dtype, generator)

    def begin(self, maps: Maps, features: int, hidden: int | None, h: float, bias: bool,
              device: torch.device | str | None, dtype: torch.dtype | None, generator: torch.Generator | None) -> None:
        """Keep the arguments and draw A1 and A2."""
        if _check.count("features", features) % 2:
            raise ValueError(f"features must be even, half of them y and half z; got {features}.")
        self.maps, self.features = maps, features
        half, self.hidden = widths(features // 2, hidden)
        self.h, self.bias = _check.number("h", h, above=0.0), bool(bias)
        A1 = maps.draw(self.hidden, half, device=device, dtype=dtype, generator=generator)
        A2 = maps.draw(self.hidden, half, device=device, dtype=dtype, generator=generator)
        zeros = {name: A1.new_zeros(self.hidden) if bias else None for name in ("b1", "b2")}
        self.extra_weights({"A1": A1, "A2": A2} | zeros)

    def forward(self, x: Tensor) -> Tensor:
        y, z = x.chunk(2, dim=self.channels)
        y = torch.add(y, self.push(z, self.A1, self.b1), alpha=self.h)
        z = torch.sub(z, self.push(y, self.A2, self.b2), alpha=self.h)
        return torch.cat([y, z], self.channels)

    def inverse(self, x: Tensor) -> Tensor:
        """The state before the layer."""
        y, z = x.chunk(2, dim=self.channels)
        z = torch.add(z, self.push(y, self.A2, self.b2), alpha=self.h)
        y = torch.sub(y, self.push(z, self.A1, self.b1), alpha=self.h)
        return torch.cat([y, z], self.channels)

    @property
    def channels(self) -> int:
        """The dimension of the features, counted from the last."""
        return -1 - self.maps.dims

    def push(self, x: Tensor, A: Tensor, b: Tensor | None) -> Tensor:
        """Aᵀ ReLU(A x + b)."""
        return self.maps.affine(torch.relu(self.maps.affine(x, A, b)), self.maps.adjoint(A), None)

    def certificate(self, image: Image | None = None, *, status: str = norms.CERTIFIED) -> Certificate:
        """The product of the norms of both half steps."""
        both = [self.maps.norm(A, image, status) for A in (self.A1, self.A2)]
        sizes = [self.h * float(norm.value) ** 2 * ROOM for norm in both]
        value = math.prod((size + math.sqrt(size * size + 4)) / 2 * ROOM for size in sizes)
        return Certificate(value, joint(*both), "product of the norms of both half steps")

    def plain(self) -> nn.Module:
        """Both half steps in torch's own classes."""
        pairs = []
        for A, b in ((self.A1, self.b1), (self.A2, self.b2)):
            A, b = A.detach(), None if b is None else b.detach()
            pairs += [self.maps.layer(A, b), self.maps.layer(self.maps.adjoint(A), None)]
        return traced(HalfSteps(pairs, self.h, self.channels))


class HalfSteps(nn.Module):
    """y + h out1(ReLU(in1(z))), then z − h out2(ReLU(in2(y)))."""

    def __init__(self, layers: list[nn.Module], h: float, channels: int):
        super().__init__()
        self.in1, self.out1, self.in2, self.out2 = layers
        self.h, self.channels = h, channels

    def forward(self, x: Tensor) -> Tensor:
        y, z = torch.chunk(x, 2, dim=self.channels)
        y = torch.add(y, self.out1(torch.relu(self.in1(z))), alpha=self.h)
        z = torch.sub(z, self.out2(torch.relu(self.in2(y))), alpha=self.h)
        return torch.cat([y, z], dim=self.channels)


class HamiltonianBlock2d(HamiltonianBlock):
    """``HamiltonianBlock`` with convolutions, for states (*batch, features, H, W); kernel_size odd.

    Notes
    -----
    The certificate is the product of the half steps' norms, as for matrices; no rung of the ladder fits a layer that
    reads its own first half step, so over many layers it is far above what is observed.
    """

    dims = 2

    def __init__(self, features: int, hidden: int | None = None, kernel_size: Image = 3, h: float = 1.0,
                 bias: bool = True, padding_mode: str = "zeros", *, device: torch.device | str | None = None,
                 dtype: torch.dtype | None = None, generator: torch.Generator | None = None):
        maps = self.convolve(kernel_size, padding_mode)
        self.begin(maps, features, hidden, h, bias, device, dtype, generator)


class HamiltonianBlock1d(HamiltonianBlock2d):
    """``HamiltonianBlock2d`` for signals (*batch, features, L)."""

    dims = 1

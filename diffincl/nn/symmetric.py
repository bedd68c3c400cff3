"""ResNet-S: one weight and its adjoint, the step kept under the limit at which the layer is nonexpansive."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import _check, norms
from ..fields import ConvResNetSField, Field, ResNetSField, Weights
from .base import Block, Certificate, traced, widths
from .factors import symmetric_factor
from .maps import DENSE, Image, Maps
from .residual import Residual

__all__ = ["SymmetricBlock", "SymmetricBlock1d", "SymmetricBlock2d"]

LIMITS = (1.0, 2.0)
MARGIN = 0.02  # share of the limit that estimates leave free: power iteration comes from below


class SymmetricBlock(Block):
    """ResNet-S: x ↦ ReLU(x − h(Aᵀ ReLU(A x + b1) − b2)) with h‖A‖² <= ``limit``, so nonexpansive in ℓ2 (D3).

    Parameters
    ----------
    features : int
        Dimension d of the state (*batch, d).
    hidden : int, optional
        Number m of hidden units; d by default.
    h : float > 0
        Step.
    bias : bool
        Whether there are b1 and b2.
    learn_h : bool
        Learn the step, from h on; then it is the step that is kept under limit/‖A‖², otherwise A is scaled.
    limit : float, 0 < limit <= 2
        The h‖A‖² that is kept. 2 is the limit of nonexpansiveness; at 1 the accuracy survives a finer time step.
    device, dtype, generator
        Of the initial weights: A normal with variance 2/fan, scaled down to the limit; b1 = b2 = 0.

    Raises
    ------
    ValueError
        If the limit is above 2, where layers expand.

    Examples
    --------
    >>> import torch
    >>> block = SymmetricBlock(4, 16, h=0.5)
    >>> block, block.certificate().value
    (SymmetricBlock(4, hidden=16, h=0.5), 1.0)

    Notes
    -----
    ``constrain_()`` estimates ‖A‖ by a power iteration from where the last one ended (buffer ``direction``) and
    keeps 2 % of the limit free; that is from below, so ``certify_()`` takes an upper bound at the end of an epoch. The
    certificate rests on upper bounds only. Theory D3, D6.
    """

    A: nn.Parameter
    b1: nn.Parameter | None
    b2: nn.Parameter | None
    step: nn.Parameter | None
    direction: Tensor

    def __init__(self, features: int, hidden: int | None = None, h: float = 1.0, bias: bool = True, *,
                 learn_h: bool = False, limit: float = 2.0, device: torch.device | str | None = None,
                 dtype: torch.dtype | None = None, generator: torch.Generator | None = None):
        super().__init__()
        self.begin(DENSE, features, hidden, h, bias, learn_h, limit, device, dtype, generator)

    def begin(self, maps: Maps, features: int, hidden: int | None, h: float, bias: bool, learn_h: bool, limit: float,
              device: torch.device | str | None, dtype: torch.dtype | None, generator: torch.Generator | None) -> None:
        """Keep the arguments, draw A and scale it down to the limit."""
        self.maps, (self.features, self.hidden) = maps, widths(features, hidden)
        self.h, self.bias, self.learn_h = _check.number("h", h, above=0.0), bool(bias), bool(learn_h)
        self.limit = _check.number("limit", limit, above=0.0)
        if self.limit > 2:
            raise ValueError(f"limit must be at most 2, above which layers with A2 = A1ᵀ expand; got {self.limit:g}.")
        d, m = self.features, self.hidden
        A = maps.draw(m, d, device=device, dtype=dtype, generator=generator)
        self.extra_weights({"A": A, "b1": A.new_zeros(m) if bias else None, "b2": A.new_zeros(d) if bias else None,
                            "step": torch.full_like(A.flatten()[0], self.h) if learn_h else None})
        start = torch.randn(maps.probe(d), device=device, dtype=dtype, generator=generator)
        self.register_buffer("direction", start / start.norm())
        with torch.no_grad():
            self._scale_A(None, norms.FLOAT)

    @classmethod
    def from_weights(cls, A: Tensor, b1: Tensor | None = None, b2: Tensor | None = None, *, h: float = 1.0,
                     limit: float = 2.0) -> SymmetricBlock:
        """A block with copies of given weights, A (m, d); refused where h is over the certified limit/‖A‖².

        Examples
        --------
        >>> import torch
        >>> SymmetricBlock.from_weights(torch.eye(2), h=1.5)
        SymmetricBlock(2, h=1.5, bias=False)
        >>> SymmetricBlock.from_weights(torch.eye(2), h=2.5)
        Traceback (most recent call last):
            ...
        ValueError: h must be at most limit/‖A‖² = 2; got 2.5 with ‖A‖ = 1. Take a smaller h, or scale A by 0.894.
        """
        if _check.finite("A", _check.tensor("A", A)).ndim != 2:
            raise ValueError(f"A must have shape (m, d); got {_check.describe(A)}.")
        block = cls(A.shape[1], len(A), h, b1 is not None or b2 is not None, limit=limit, device=A.device,
                    dtype=A.dtype)
        return block.with_weights(A, b1, b2, None)

    def with_weights(self, A: Tensor, b1: Tensor | None, b2: Tensor | None, image: Image | None) -> SymmetricBlock:
        """The block itself, the weights replaced; refused where they are over the limit."""
        size = float(self.maps.norm(A, image, norms.CERTIFIED).value)
        if self.h * size * size * (1 - 1e-9) > self.limit:
            most = self.limit / size**2
            raise ValueError(f"h must be at most limit/‖A‖² = {most:.6g}; got {self.h:g} with ‖A‖ = {size:.6g}. Take a "
                             f"smaller h, or scale A by {(most / self.h) ** 0.5:.3f}.")
        with torch.no_grad():
            self.A.copy_(A)
            for name, own, b in (("b1", self.b1, b1), ("b2", self.b2, b2)):
                if b is not None and own is not None:
                    if b.shape != own.shape:
                        raise ValueError(f"{name} must have shape {tuple(own.shape)}; got {_check.describe(b)}.")
                    own.copy_(b)
            self._scale_A(image, norms.CERTIFIED)  # by rounding, if it is at the limit
        return self

    def weights(self) -> Weights:
        """A1 = A, A2 = Aᵀ; biases that are left out as zeros."""
        A = self.A
        b1 = A.new_zeros(self.hidden) if self.b1 is None else self.b1
        return Weights(A, b1, self.maps.adjoint(A), A.new_zeros(self.features) if self.b2 is None else self.b2)

    def forward(self, x: Tensor) -> Tensor:
        A1, b1, A2, b2 = self.weights()
        affine = self.maps.affine
        F = affine(torch.relu(affine(x, A1, b1)), A2, -b2)
        return torch.relu(torch.sub(x, F, alpha=self.h) if self.step is None else x - self.step * F)

    def field(self) -> Field:
        """F = Aᵀσ(A x + b1) − b2 with the present weights (parameters are shared)."""
        A, b1, _, b2 = self.weights()
        if self.maps.dims == 0:
            return ResNetSField(A, b1, b2)
        return ConvResNetSField(A, b1, b2, padding_mode=self.maps.padding_mode)

    def plain(self) -> nn.Module:
        """x ↦ ReLU(x − h(second(ReLU(first(x))))) in torch's own classes."""
        A1, b1, A2, b2 = (w.detach() for w in self.weights())
        return traced(Residual(self.maps.layer(A1, b1), self.maps.layer(A2, -b2), self.length, clip=True))

    @property
    def length(self) -> float:
        """The present step."""
        return self.h if self.step is None else float(self.step.detach())

    def certificate(self, image: Image | None = None, *, status: str = norms.CERTIFIED) -> Certificate:
        """max(1, h‖A‖² − 1) (D3): 1 under the limit."""
        exact = self.maps.dims == 0 or image is not None
        return symmetric_factor(self._size(image, status), status if exact else norms.FLOAT)

    def _size(self, image: Image | None, status: str) -> float:
        """h‖A‖² from above."""
        return self.length * float(self.maps.norm(self.A, image, status).value) ** 2 * (1 + 8 * norms.UNIT)

    @torch.no_grad()
    def constrain_(self) -> None:
        """Scale A down (or the learned step) by an estimate from below, with a margin."""
        size = self._estimate()
        if self.step is None:
            self.A.mul_((size * (self.h / (self.limit * (1 - MARGIN)))).clamp_(min=1.0).rsqrt_())
        else:
            self.step.clamp_(min=0.0).copy_(torch.minimum(self.step, self.limit * (1 - MARGIN) / size))

    def _estimate(self) -> Tensor:
        """‖A‖² from below, by one power iteration."""
        pushed = self.maps.pushed(self.A, self.direction)
        size = pushed.norm()
        # A direction that A does not see at all is left for the next time.
        torch.where(size > 0, pushed / size, self.direction, out=self.direction)
        return size

    @torch.no_grad()
    def certify_(self, image: Image | None = None, *, status: str = norms.FLOAT) -> Certificate:
        """Scale A down (or the learned step) where an upper bound of h‖A‖² is over the limit; the certificate."""
        if self.step is None:
            self._scale_A(image, status)
        else:
            norm = self.maps.norm(self.A, image, status)
            most = self.limit / max(float(norm.value) ** 2, 1e-30)
            down = most * (1 - 4 * torch.finfo(self.dtype).eps)  # rounding to the dtype of the step
            self.step.copy_(self.step.clamp(min=0.0, max=down))
        return self.certificate(image, status=status)

    def _scale_A(self, image: Image | None, status: str) -> None:
        """Until the bound is under the limit: scaling rounds, so once may leave it a little over."""
        eps = torch.finfo(self.A.dtype).eps
        while (size := self._size(image, status)) > self.limit:
            self.A.mul_((self.limit / size) ** 0.5 * (1 - 8 * eps))


class SymmetricBlock2d(SymmetricBlock):
    """``SymmetricBlock`` with a convolution and its exact adjoint, for states (*batch, features, H, W).

    Parameters
    ----------
    features, hidden, h, bias, learn_h, limit, device, dtype, generator
        As for ``SymmetricBlock``.
    kernel_size : int or pair, odd
    padding_mode : "zeros" or "circular"

    Examples
    --------
    >>> import torch
    >>> block = SymmetricBlock2d(3, 8, limit=1.0)
    >>> block.certificate(image=8)
    Certificate(value=1.0, status='certified', statement='D3: h‖A‖² <= 2')
    """

    dims = 2

    def __init__(self, features: int, hidden: int | None = None, kernel_size: Image = 3, h: float = 1.0,
                 bias: bool = True, padding_mode: str = "zeros", *, learn_h: bool = False, limit: float = 2.0,
                 device: torch.device | str | None = None, dtype: torch.dtype | None = None,
                 generator: torch.Generator | None = None):
        maps = self.convolve(kernel_size, padding_mode)
        self.begin(maps, features, hidden, h, bias, learn_h, limit, device, dtype, generator)

    @classmethod
    def from_weights(cls, A: Tensor, b1: Tensor | None = None, b2: Tensor | None = None, *, h: float = 1.0,
                     limit: float = 2.0, padding_mode: str = "zeros", image: Image | None = None) -> SymmetricBlock:
        """A block with copies of given weights, A (m, d, *k); refused where h is over limit/‖A‖² on such images."""
        if _check.finite("A", _check.tensor("A", A)).ndim != cls.dims + 2:
            raise ValueError(f"A must have shape (m, d, {', '.join('k' * cls.dims)}); got {_check.describe(A)}.")
        block = cls(A.shape[1], len(A), tuple(A.shape[2:]), h, b1 is not None or b2 is not None, padding_mode,
                    limit=limit, device=A.device, dtype=A.dtype)
        return block.with_weights(A, b1, b2, image)


class SymmetricBlock1d(SymmetricBlock2d):
    """``SymmetricBlock2d`` for signals (*batch, features, L)."""

    dims = 1

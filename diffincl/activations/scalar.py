"""An activation of each coordinate as the function g whose prox it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm

from ..functions import ProxFunction
from .root import Parts, attach, solve, step_length, with_value

__all__ = ["ScalarActivation"]


@dataclass(frozen=True, eq=False, repr=False)
class ScalarActivation(ProxFunction):
    """g(x) = Σ φ(x_i) with prox_φ = ρ, a nondecreasing 1-Lipschitz activation ρ; φ' = ρ⁻¹ − id.

    The constructors of ``diffincl.activations`` make one for each activation; ``from_callable`` makes one of any ρ.

    Parameters
    ----------
    name : str
    rho : callable
        ρ, torch's own function where there is one: the prox at h = 1.
    parts : callable
        s ↦ ρ(s), s − ρ(s), ρ'(s), float64, each without cancellation.
    phi : callable
        φ(y) on the domain, float64.
    lower, upper : float
        Ends of the domain of φ, the closure of the range of ρ.
    closed : callable, optional
        (x, h) ↦ prox_h(x) where there is a formula.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> g = di.activations.tanh()
    >>> x = torch.tensor([-2.0, 0.5, 30.0])
    >>> bool((g.prox(x, 1.0) == x.tanh()).all()), g.prox(x, 0.1)
    (True, tensor([-1.0000,  0.4952,  1.0000]))

    Notes
    -----
    prox_h(x) is the y = ρ(s) with ρ(s) + h(s − ρ(s)) = x; h = 0 projects onto the domain. The equation is solved in
    float64 whatever the dtype of ``x``, and differentiated implicitly, twice. Inside torch.func transforms and
    torch.compile all of the allowed iterations are run, as no value can be looked at there.

    References
    ----------
    Combettes, Pesquet, "Deep neural network structures solving variational inequalities", 2020, §2; theory §8.
    """

    name: str
    rho: Callable[[Tensor], Tensor]
    parts: Parts
    phi: Callable[[Tensor], Tensor]
    lower: float = -torch.inf
    upper: float = torch.inf
    closed: Callable[[Tensor, float | Tensor], Tensor] | None = None
    coordinatewise = True

    def __repr__(self) -> str:
        return f"activations.{self.name}"

    def prox(self, x: Tensor, h: float | Tensor, t: float | Tensor = 0.0) -> Tensor:
        """ρ(x) at h = 1, the projection onto the domain at h = 0, the root of y + hφ'(y) = x between and beyond."""
        if not isinstance(h, Tensor) and h == 1.0:
            return self.rho(x)
        step = step_length(h, x)
        if self.closed is not None:
            y = self.closed(x.double(), step).to(x.dtype)
        else:
            y = self._root(x.double(), step).to(x.dtype)
        return with_value(y, torch.where(step == 1, self.rho(x), y)) if isinstance(h, Tensor) else y

    def _root(self, x: Tensor, h: Tensor) -> Tensor:
        """prox_h(x) in float64 by the equation in s; the h = 0 is kept out of its derivatives."""
        positive = torch.where(h == 0, 1.0, h)
        s = attach(self.parts, solve(self.parts, x, positive), x, positive)
        return torch.where((h == 0) | x.isinf(), x, self.parts(s)[0]).clamp(self.lower, self.upper)

    def value(self, x: Tensor, t: float | Tensor = 0.0) -> Tensor:
        """Σ φ(x_i), infinite outside the domain."""
        y = x.double()
        outside = (y < self.lower) | (y > self.upper)
        inner = torch.where(outside, self.parts(torch.zeros_like(y))[0], y)
        return torch.where(outside, torch.inf, self.phi(inner)).sum(-1).to(x.dtype)

    def normal_distance(self, x: Tensor, v: Tensor, t: float | Tensor = 0.0) -> Tensor:
        """Exact: v_i must lie in ∂φ(x_i); infinite outside the domain.

        Each x_i counts as known to four rounding units: tanh(40) is stored as 1, where ∂φ is empty.
        """
        y, v64 = x.double(), v.double()
        room = 4 * torch.finfo(x.dtype).eps * y.abs().clamp_min(torch.finfo(x.dtype).tiny)
        below, above = self._derivative(y - room), self._derivative(y + room)
        return vector_norm(torch.relu(below - v64) + torch.relu(v64 - above), dim=-1).to(x.dtype)

    def _derivative(self, y: Tensor) -> Tensor:
        """φ'(y) = ρ⁻¹(y) − y, ∓∞ at the ends of the domain and beyond."""
        gap = self.parts(solve(self.parts, y, torch.zeros_like(y[..., :1])))[1]
        return torch.where(y >= self.upper, torch.inf, torch.where(y <= self.lower, -torch.inf, gap))

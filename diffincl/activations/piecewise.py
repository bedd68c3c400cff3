"""The piecewise linear rows of the table: φ is piecewise quadratic and the prox has a formula."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as nnf

from .. import _check
from ..functions.base import like, parameter
from .root import Quadruple
from .scalar import ScalarActivation

__all__ = ["hardsigmoid", "leaky_relu"]


def leaky_relu(negative_slope: float | Tensor = 0.01) -> ScalarActivation:
    """Leaky ReLU: x for x > 0, ax for x <= 0, 0 < a <= 1.

    φ(y) = 0 for y > 0, (1/a − 1)y²/2 for y <= 0; prox_h has the slope 1/(1 + h(1/a − 1)) on the negative side.

    Parameters
    ----------
    negative_slope : float, or Tensor broadcasting against (*batch, d)

    Raises
    ------
    ValueError
        For a slope outside (0, 1]: below 0 it is not monotone, above 1 not nonexpansive; 0 is ``Orthant()``.

    Examples
    --------
    >>> import torch
    >>> leaky_relu(0.5).prox(torch.tensor([-3.0, 2.0]), h=2.0)
    tensor([-1.,  2.])
    """
    a = parameter("negative_slope", negative_slope)
    _check.finite("negative_slope", a)
    if bool((bad := (a <= 0) | (a > 1)).any()):
        i = _check.first(bad)
        raise ValueError(f"negative_slope must lie in (0, 1]; entry {i} is {float(a[i]):g}. A negative slope is not "
                         f"monotone, one above 1 expands, neither is a prox map; 0 is ReLU, Orthant().")
    a = a if isinstance(negative_slope, Tensor) else float(a)
    name = f"leaky_relu({a:g})" if isinstance(a, float) else "leaky_relu(tensor)"
    return ScalarActivation(name, partial(_leaky, a=a), partial(_leaky_parts, a=a), partial(_leaky_phi, a=a),
                            closed=partial(_leaky_prox, a=a))


def _leaky(x: Tensor, a: float | Tensor) -> Tensor:
    return nnf.leaky_relu(x, a) if isinstance(a, float) else torch.where(x > 0, x, like(a, x) * x)


def _leaky_parts(s: Tensor, a: float | Tensor) -> Quadruple:
    a = like(a, s)
    return (torch.where(s > 0, s, a * s), torch.where(s > 0, 0.0, (1 - a) * s),
            torch.where(s > 0, 1.0, a * torch.ones_like(s)), torch.where(s > 0, 0.0, (1 - a) * torch.ones_like(s)))


def _leaky_phi(y: Tensor, a: float | Tensor) -> Tensor:
    return torch.where(y > 0, 0.0, (1 / like(a, y) - 1) * y * y / 2)


def _leaky_prox(x: Tensor, h: float | Tensor, a: float | Tensor) -> Tensor:
    return torch.where(x > 0, x, x / (1 + h * (1 / like(a, x) - 1)))


def hardsigmoid() -> ScalarActivation:
    """Hard sigmoid clip((x + 3)/6, 0, 1): φ(y) = 5y²/2 − 3y on [0, 1], prox_h(x) = clip((x + 3h)/(1 + 5h), 0, 1)."""
    return ScalarActivation("hardsigmoid", nnf.hardsigmoid, _hardsigmoid_parts, _hardsigmoid_phi, 0.0, 1.0,
                            _hardsigmoid_prox)


def _hardsigmoid_parts(s: Tensor) -> Quadruple:
    rho = ((s + 3) / 6).clamp(0, 1)
    slope = (s.abs() < 3).to(s) / 6
    return rho, s - rho, slope, 1 - slope


def _hardsigmoid_phi(y: Tensor) -> Tensor:
    return 2.5 * y * y - 3 * y


def _hardsigmoid_prox(x: Tensor, h: float | Tensor) -> Tensor:
    return ((x + 3 * h) / (1 + 5 * h)).clamp(0, 1)

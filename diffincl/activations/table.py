"""The smooth rows of the table: the parts of ρ, its φ and the ends of its range; the prox is a root."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as nnf

from .. import _check
from . import series
from .root import Quadruple, attach, solve
from .scalar import ScalarActivation
from .series import dilogarithm, horner, s_minus_expm1, s_minus_log1p, s_minus_tanh

__all__ = ["arctan", "celu", "elu", "isru", "logsigmoid", "sigmoid", "softplus", "softsign", "symlog", "tanh",
           "tanhshrink"]


def tanh() -> ScalarActivation:
    """tanh: φ(y) = y artanh y + ½(ln(1 − y²) − y²) on [−1, 1], ln 2 − ½ at ±1.

    Examples
    --------
    >>> import torch
    >>> tanh().value(torch.tensor([1.0]))
    tensor(0.1931)
    """
    return ScalarActivation("tanh", torch.tanh, _tanh_parts, _tanh_phi, -1.0, 1.0)


def _tanh_parts(s: Tensor) -> Quadruple:
    return s.tanh(), s_minus_tanh(s), _sech2(s), s.tanh() ** 2


def _sech2(s: Tensor) -> Tensor:
    """1 − tanh² s, without cancellation for large s."""
    e = torch.exp(-2 * s.abs())
    return 4 * e / (1 + e) ** 2


def _tanh_phi(y: Tensor) -> Tensor:
    # ½((1 + y) ln(1 + y) + (1 − y) ln(1 − y) − y²): finite at ±1.
    return (torch.xlogy(1 + y, 1 + y) + torch.xlogy(1 - y, 1 - y) - y * y) / 2


def tanhshrink() -> ScalarActivation:
    """x − tanh x: φ is the convex conjugate of tanh's, y·tanh s − φ_tanh(tanh s) where s − tanh s = y (Moreau)."""
    return ScalarActivation("tanhshrink", nnf.tanhshrink, _tanhshrink_parts, _tanhshrink_phi)


def _tanhshrink_parts(s: Tensor) -> Quadruple:
    return s_minus_tanh(s), s.tanh(), s.tanh() ** 2, _sech2(s)


def _tanhshrink_phi(y: Tensor) -> Tensor:
    zero = torch.zeros_like(y)
    s = attach(_tanhshrink_parts, solve(_tanhshrink_parts, y, zero), y, zero)
    return y * s.tanh() - _tanh_phi(s.tanh())


def sigmoid() -> ScalarActivation:
    """The logistic function 1/(1 + e^{−x}): φ(y) = y ln y + (1 − y) ln(1 − y) − y²/2 on [0, 1]."""
    return ScalarActivation("sigmoid", torch.sigmoid, _sigmoid_parts, _sigmoid_phi, 0.0, 1.0)


def _sigmoid_parts(s: Tensor) -> Quadruple:
    rho = series.sigmoid(s)
    slope = rho * series.sigmoid(-s)
    return rho, s - rho, slope, 1 - slope


def _sigmoid_phi(y: Tensor) -> Tensor:
    return torch.xlogy(y, y) + torch.xlogy(1 - y, 1 - y) - y * y / 2


def softsign() -> ScalarActivation:
    """x/(1 + |x|): φ(y) = −|y| − ln(1 − |y|) − y²/2 on (−1, 1)."""
    return ScalarActivation("softsign", nnf.softsign, _softsign_parts, _softsign_phi, -1.0, 1.0)


def _softsign_parts(s: Tensor) -> Quadruple:
    size = 1 + s.abs()
    rho = s.abs() / size
    return s / size, s * rho, 1 / size**2, rho * (2 - rho)


def _softsign_phi(y: Tensor) -> Tensor:
    return -y.abs() - torch.log1p(-y.abs()) - y * y / 2


def isru() -> ScalarActivation:
    """The inverse square root unit x/√(1 + x²): φ(y) = −y²/2 − √(1 − y²) on [−1, 1]."""
    return ScalarActivation("isru", _isru, _isru_parts, _isru_phi, -1.0, 1.0)


def _isru(x: Tensor) -> Tensor:
    return x / torch.hypot(x, torch.ones_like(x))


def _isru_parts(s: Tensor) -> Quadruple:
    size = torch.hypot(s, torch.ones_like(s))
    rho = s / size
    return rho, s * rho * (s / (size + 1)), 1 / size**3, rho * rho * (1 + 1 / (size * (size + 1)))


def _isru_phi(y: Tensor) -> Tensor:
    return -y * y / 2 - ((1 - y) * (1 + y)).sqrt()


def arctan(scale: float = 2 / math.pi) -> ScalarActivation:
    """scale·arctan x, 0 < scale <= 1: φ(y) = −scale·ln cos(y/scale) − y²/2 on |y| < scale·π/2.

    The default reaches ±1; ``arctan(1.0)`` is torch.atan.
    """
    scale = _in_unit_interval("scale", scale, "the slope at 0")
    rho = torch.atan if scale == 1 else partial(_arctan, scale=scale)
    end = scale * (math.pi / 2)
    return ScalarActivation(f"arctan({scale:g})", rho, partial(_arctan_parts, scale=scale),
                            partial(_arctan_phi, scale=scale), -end, end)


def _arctan(x: Tensor, scale: float) -> Tensor:
    return scale * x.atan()


def _arctan_parts(s: Tensor, scale: float) -> Quadruple:
    # s − arctan s = s³/3 − … cancels near 0 for scale 1; the rest (1 − scale)·arctan s does not.
    near = s.clamp(-0.5, 0.5)
    gap = torch.where(s.abs() < 0.5, near**3 * horner(_ATAN, near * near), s - s.atan())
    size = torch.hypot(s, torch.ones_like(s))
    return (scale * s.atan(), gap + (1 - scale) * s.atan(), scale / size**2,
            (s / size) ** 2 + (1 - scale) / size**2)


_ATAN = [(-1) ** k / (2 * k + 3) for k in range(26)]  # s − arctan s = s³ Σ (−s²)^k/(2k + 3)


def _arctan_phi(y: Tensor, scale: float) -> Tensor:
    # cos(y/c) = sin(π/2 − |y|/c), exactly 0 at the ends.
    return -scale * torch.log(torch.sin((scale * (math.pi / 2) - y.abs()) / scale)) - y * y / 2


def elu(alpha: float = 1.0) -> ScalarActivation:
    """ELU: x for x > 0, α(e^x − 1) for x <= 0, 0 < α <= 1.

    φ(y) = 0 for y >= 0, (y + α) ln((y + α)/α) − y − y²/2 for −α <= y < 0.

    Raises
    ------
    ValueError
        For α > 1 (the slope at 0 from the left is α) and α <= 0 (0 is ReLU, ``Orthant()``).
    """
    alpha = _in_unit_interval("alpha", alpha, "the slope at 0 from the left")
    return ScalarActivation(f"elu({alpha:g})", partial(nnf.elu, alpha=alpha),
                            partial(_exponential_parts, height=alpha, rate=1.0),
                            partial(_exponential_phi, height=alpha, rate=1.0), -alpha)


def celu(alpha: float = 1.0) -> ScalarActivation:
    """CELU: x for x > 0, α(e^{x/α} − 1) for x <= 0, α > 0.

    φ(y) = 0 for y >= 0, α((y + α) ln(1 + y/α) − y) − y²/2 for −α <= y < 0.
    """
    alpha = _check.number("alpha", alpha, above=0.0)
    return ScalarActivation(f"celu({alpha:g})", partial(nnf.celu, alpha=alpha),
                            partial(_exponential_parts, height=alpha, rate=1 / alpha),
                            partial(_exponential_phi, height=alpha, rate=1 / alpha), -alpha)


def _exponential_parts(s: Tensor, height: float, rate: float) -> Quadruple:
    """Of s for s > 0, height·(e^{rate·s} − 1) for s <= 0."""
    z = rate * s.clamp_max(0)
    slope = height * rate
    gap = (1 / rate - height) * z + height * s_minus_expm1(z)
    return (torch.where(s > 0, s, height * torch.expm1(z)), torch.where(s > 0, 0.0, gap),
            torch.where(s > 0, 1.0, slope * torch.exp(z)), torch.where(s > 0, 0.0, 1 - slope - slope * torch.expm1(z)))


def _exponential_phi(y: Tensor, height: float, rate: float) -> Tensor:
    z = y.clamp_max(0)
    return (torch.xlogy(z + height, 1 + z / height) - z) / rate - z * z / 2


def softplus(beta: float = 1.0) -> ScalarActivation:
    """Softplus ln(1 + e^{βx})/β, β > 0: φ(y) = Li₂(e^{−βy})/β² for y >= 0.

    At h = 1 the prox is torch's softplus, which jumps to x at βx = 20, by 2e-9/β; at other h it is exact.
    """
    beta = _check.number("beta", beta, above=0.0)
    return ScalarActivation(f"softplus({beta:g})", partial(nnf.softplus, beta=beta),
                            partial(_softplus_parts, beta=beta), partial(_softplus_phi, beta=beta), 0.0)


def _softplus_parts(s: Tensor, beta: float) -> Quadruple:
    z = beta * s
    return series.softplus(z) / beta, -series.softplus(-z) / beta, series.sigmoid(z), series.sigmoid(-z)


def _softplus_phi(y: Tensor, beta: float) -> Tensor:
    return dilogarithm(beta * y) / beta**2


def logsigmoid() -> ScalarActivation:
    """−ln(1 + e^{−x}): φ(y) = Li₂(e^y) for y <= 0."""
    return ScalarActivation("logsigmoid", nnf.logsigmoid, _logsigmoid_parts, _logsigmoid_phi, upper=0.0)


def _logsigmoid_parts(s: Tensor) -> Quadruple:
    return -series.softplus(-s), series.softplus(s), series.sigmoid(-s), series.sigmoid(s)


def _logsigmoid_phi(y: Tensor) -> Tensor:
    return dilogarithm(-y)


def symlog() -> ScalarActivation:
    """sgn(x) ln(1 + |x|): φ(y) = e^{|y|} − |y| − 1 − y²/2."""
    return ScalarActivation("symlog", _symlog, _symlog_parts, _symlog_phi)


def _symlog(x: Tensor) -> Tensor:
    # Two sides instead of sign(x): the derivative at 0 is 1.
    return torch.where(x >= 0, torch.log1p(x.clamp_min(0)), -torch.log1p(-x.clamp_max(0)))


def _symlog_parts(s: Tensor) -> Quadruple:
    gap = torch.where(s >= 0, s_minus_log1p(s.clamp_min(0)), -s_minus_log1p(-s.clamp_max(0)))
    return _symlog(s), gap, 1 / (1 + s.abs()), s.abs() / (1 + s.abs())


def _symlog_phi(y: Tensor) -> Tensor:
    return torch.expm1(y.abs()) - y.abs() - y * y / 2


def _in_unit_interval(name: str, value: float, meaning: str) -> float:
    """A number in (0, 1]."""
    value = _check.number(name, value, above=0.0)
    if value > 1:
        raise ValueError(f"{name} must be at most 1; got {value:g}. It is {meaning}: above 1 the activation expands "
                         f"and is no prox map.")
    return value

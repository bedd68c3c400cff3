"""Rates of convolutional residual branches x ↦ A2 σ(A1 x + b1), with one scaling or multiplier a hidden channel.

A1 and A2 are torch's convolutions of stride 1 with padding="same", zeros or circular; b1 may be anything, also one
number a pixel. As for dense layers R1 is ``uniform``, R2 ``centred``, R3 ``scaled``, R6 ``measure`` and R8 ``step``;
for the other rungs a small image is written out: ``ConvResNetField.dense``. Theory §5, §7.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import _check, norms
from ..norms.geometry import ZEROS
from .dense import Rate
from .factor import certified_factor, positive
from .frequencies import optimised_multipliers, scaling_of
from .kernels import Branch, branch

__all__ = ["centred", "measure", "optimise_scaling", "scaled", "step", "step_multipliers", "uniform"]

def uniform(K1: Tensor, K2: Tensor, image: Sequence[int], *, padding_mode: str = ZEROS, transposed: bool = False,
            status: str = norms.CERTIFIED) -> Rate:
    """R1 "global": ‖A1‖₂‖A2‖₂ of two convolutions.

    Parameters
    ----------
    K1 : Tensor (*batch, hidden, channels, *k)
        Kernel of A1 in torch's layout.
    K2 : Tensor (*batch, channels, hidden, *k)
        Kernel of A2; with ``transposed`` (*batch, hidden, channels, *k).
    image : (length,) or (height, width)
    padding_mode : "zeros" or "circular"
    transposed : bool
        A2 is the adjoint of the convolution with K2 (conv_transpose): with K2 = K1 the branch of ResNet-S.
    status : "certified" or "float"

    Returns
    -------
    Rate
        ``value`` of shape (*batch,), float64.

    Raises
    ------
    TypeError, ValueError
        If the kernels do not fit each other or hold NaN or infinity, or for reflect and replicate padding.

    Examples
    --------
    >>> import torch
    >>> K = torch.tensor([[[0.0, 2.0, 0.0]]])
    >>> round(float(uniform(K, K, (8,)).value), 9)
    4.0
    """
    both = _checked(K1, K2, image, padding_mode, transposed, status)
    value = _norm(both, both.adjoint1, status) * _norm(both, both.kernel2, status)
    return Rate(value * (1 + 4 * norms.UNIT), status)


def scaled(K1: Tensor, K2: Tensor, image: Sequence[int], *, scaling: Tensor | None = None, padding_mode: str = ZEROS,
           transposed: bool = False, status: str = norms.CERTIFIED) -> Rate:
    """R3 "scaled": ¼‖A2Q − A1ᵀQ⁻¹‖₂², one number of Q > 0 a hidden channel, optimised; zero for A2 = A1ᵀ.

    Parameters
    ----------
    K1, K2, image, padding_mode, transposed, status
        As for `uniform`.
    scaling : Tensor (*batch, hidden), positive, optional
        The diagonal of Q. Any is a certificate.

    Returns
    -------
    Rate
        ``value`` of shape (*batch,), float64.

    Raises
    ------
    TypeError, ValueError
        As `uniform`; or if ``scaling`` is not positive.

    Examples
    --------
    >>> import torch
    >>> K = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    >>> float(scaled(K, K, (8, 8), transposed=True).value), float(scaled(K, -K, (8, 8), transposed=True).value) > 20
    (0.0, True)

    Notes
    -----
    A2Q − A1ᵀQ⁻¹ is a convolution, whose kernel is that of A2 and the mirrored one of A1 combined; its norm is enclosed
    by ``norms.conv1d`` or ``conv2d``. Theory §5, R3 and Convolutions.
    """
    both = _checked(K1, K2, image, padding_mode, transposed, status)
    q = scaling_of(both) if scaling is None else _by_hidden("scaling", scaling, both)
    value = _scaled(both, q, status)
    return Rate(torch.where(both.transposed, 0.0, value) if scaling is None else value, status)


def centred(K1: Tensor, K2: Tensor, image: Sequence[int], *, padding_mode: str = ZEROS, transposed: bool = False,
            status: str = norms.CERTIFIED) -> Rate:
    """R2 "centred", or less: ¼‖qA2 − A1ᵀ/q‖₂² with one number q for all channels, q² = ‖A1‖₂/‖A2‖₂.

    Parameters and the result are those of `uniform`.

    Examples
    --------
    >>> import torch
    >>> K = torch.tensor([[[0.0, 1.0, 0.0]]])
    >>> [round(float(centred(K, s * K, (8,)).value), 9) for s in (1.0, -1.0)]
    [0.0, 1.0]

    Notes
    -----
    ¼‖qA2 − A1ᵀ/q‖² <= ¼(q²‖A2‖² + ‖A1‖²/q²) + ½λmax(−sym A2A1), for this q the rate R2 of dense layers. That one is not
    computed: with zero padding A2A1 is no convolution, and its symbol does not bound λmax(−sym A2A1). `scaled` has a
    number for every channel, and is the one to use.
    """
    both = _checked(K1, K2, image, padding_mode, transposed, status)
    size1, size2 = _norm(both, both.adjoint1, status), _norm(both, both.kernel2, status)
    some = (size1 > 0) & (size2 > 0)
    q = torch.where(some, size1.sqrt() / size2.sqrt(), 1.0)  # the quotient of the norms may overflow
    value = _scaled(both, q.unsqueeze(-1).expand(both.alive.shape), status)
    return Rate(torch.where(both.transposed | ~some, 0.0, value), status)


def measure(K1: Tensor, K2: Tensor, image: Sequence[int], p: float, *, padding_mode: str = ZEROS,
            transposed: bool = False) -> Rate:
    """R6 "measure": a bound of the matrix measure of −A2DA1 in ℓ1 (p = 1) or ℓ∞ (p = inf) for all D in [0, 1]^m.

    For sets whose projection acts coordinate by coordinate (orthant, box). The same for every image.

    Parameters
    ----------
    K1, K2, image, padding_mode, transposed
        As for `uniform`.
    p : 1 or inf

    Examples
    --------
    >>> import torch
    >>> K = torch.tensor([[[0.25, 1.0, 0.0]]])
    >>> [round(float(measure(K, s * K, (8,), float("inf")).value), 9) for s in (1.0, -1.0)]
    [0.3125, 1.5625]

    Notes
    -----
    ℓ∞: the sum over hidden channels k and taps o of (−uv + |u|(Σ|V_k| − |v|))₊ with the taps u = U_cko of A2 and
    v = V_cko of A1ᵀ that join the same two pixels, the largest of it over the channels c; ℓ1 with U and V exchanged. It
    is R6 of a pixel all of whose taps lie in the image. Near a border zero padding leaves out whole terms, which are
    not negative, or some of the |V| that are added, never v: both pixels that v joins are in the image. Where taps of a
    circular convolution meet, a = Σa_o and b = Σb_o, −ab + |a|s <= Σ_o(−a_o b_o + |a_o|(s + Σ_{r≠o}|b_r|)).
    """
    if p not in (1, torch.inf):
        raise ValueError(f"rates.conv.measure (R6) bounds ℓ1 and ℓ∞; got p = {p}. Use rates.conv.scaled for p = 2.")
    both = _checked(K1, K2, image, padding_mode, transposed, norms.CERTIFIED)
    U, V = (K.flatten(-both.dims) for K in ((both.kernel2, both.adjoint1) if p == torch.inf else
                                            (both.adjoint1, both.kernel2)))
    size = V.abs().sum((-3, -1)).unsqueeze(-1).unsqueeze(-3)
    room = norms.gamma(V.shape[-1] * V.shape[-3] + 8) * size
    terms = -U * V + U.abs() * ((size - V.abs()).clamp_min(0) + room) + norms.UNDERFLOW
    return Rate(norms.row_sum(terms.relu().flatten(-2)), norms.CERTIFIED)


def _scaled(both: Branch, q: Tensor, status: str) -> Tensor:
    """¼‖A2Q − A1ᵀQ⁻¹‖₂², (*batch,)."""
    alive = both.by_channel(both.alive)
    plus, minus = both.kernel2 * alive * both.by_channel(q), both.adjoint1 * alive / both.by_channel(q)
    # Of a kernel of errors: the norm is at most the sum over the taps of ‖·‖_F.
    rounding = torch.linalg.matrix_norm((plus.abs() + minus.abs()).flatten(-both.dims).movedim(-1, 0)).sum(0)
    norm = _norm(both, plus - minus, status) + 4.04 * norms.UNIT * rounding
    return 0.25 * norm * norm * (1 + 8 * norms.UNIT)


def step(K1: Tensor, K2: Tensor, image: Sequence[int], h: float | Tensor, *, multiplier: Tensor | None = None,
         padding_mode: str = ZEROS, transposed: bool = False) -> Tensor:
    """R8 "step": a Lipschitz factor ρ of x ↦ x − hA2σ(A1x + b1), with one multiplier a hidden channel.

    Parameters
    ----------
    K1, K2, image, padding_mode, transposed
        As for `uniform`.
    h : float or Tensor (*batch,), positive
    multiplier : Tensor (*batch, hidden), positive, optional
        The diagonal Λ; optimised if it is not given. Any Λ is a certificate.

    Returns
    -------
    Tensor (*batch,), float64
        Certified from above; infinite where 2Λ − hÂ2ᴴÂ2 is not certified positive definite at every frequency.

    Raises
    ------
    TypeError, ValueError
        As `uniform`; or if h or Λ is not positive.

    Examples
    --------
    >>> import torch
    >>> K = torch.tensor([[[0.0, 1.0, 0.0]]])
    >>> [round(float(step(K, s * K, (8,), 0.5)), 9) for s in (1.0, -1.0)]
    [1.0, 1.5]

    Notes
    -----
    ρ² = 1 + h max over θ of λmax(R̂ᴴ(2Λ − hÂ2ᴴÂ2)⁻¹R̂), R̂ = ΛÂ1 − Â2ᴴ, over the frequencies of the torus. For circular
    padding these are the blocks of the dense factor. With zero padding A1 = Eᵀ𝒜1E and A2 = Eᵀ𝒜2E, E the embedding of
    the image into the torus and 𝒜 circular. As EEᵀ ⪯ I, A2ᵀA2 ⪯ Eᵀ𝒜2ᵀ𝒜2E, so [[cI, Rᵀ], [R, 2Λ − hA2ᵀA2]] lies above
    Eᵀ[[cI, ℛᵀ], [ℛ, 2Λ − h𝒜2ᵀ𝒜2]]E ⪰ 0: what holds at every frequency holds for the image. Theory §5, R8, and §7.
    """
    both = _checked(K1, K2, image, padding_mode, transposed, norms.CERTIFIED).without_dead()
    h = _step_length(h, both)
    given = None if multiplier is None else _by_hidden("multiplier", multiplier, both)
    lam = optimised_multipliers(both, h) if given is None else given
    found = [_step_of(*one) for one in zip(both.members(), h.flatten(), lam.reshape(-1, lam.shape[-1]), strict=True)]
    return torch.stack(found).reshape(both.batch)


def _step_of(one: Branch, h: Tensor, lam: Tensor) -> Tensor:
    """R8 of one branch, (), over the frequencies of its torus."""
    E1, E2 = (error.repeat(2, 2) for error in one.rounding())
    largest = torch.ones_like(h)
    for adjoint1, A2 in one.symbols(one.axes()):
        rho = certified_factor(real(adjoint1).mT, real(A2), h.expand(len(A2)), lam.repeat(2).expand(len(A2), -1),
                               E1.T, E2)
        largest = torch.maximum(largest, rho.amax())
    return largest


def optimise_scaling(K1: Tensor, K2: Tensor, image: Sequence[int], *, padding_mode: str = ZEROS,
                     transposed: bool = False) -> Tensor:
    """The diagonal Q (*batch, hidden) that `scaled` takes: a proposal, the best on some or all frequencies.

    Examples
    --------
    >>> import torch
    >>> K = torch.tensor([[[0.0, 1.0, 0.0]]])
    >>> optimise_scaling(K, 4 * K, (8,)).round(decimals=4)
    tensor([0.5000], dtype=torch.float64)
    """
    return scaling_of(_checked(K1, K2, image, padding_mode, transposed, norms.CERTIFIED))


def step_multipliers(K1: Tensor, K2: Tensor, image: Sequence[int], h: float | Tensor, *, padding_mode: str = ZEROS,
                     transposed: bool = False) -> Tensor:
    """The diagonal Λ (*batch, hidden) that `step` takes: a proposal, the best on some or all frequencies.

    Examples
    --------
    >>> import torch
    >>> K = torch.tensor([[[0.0, 1.0, 0.0]]])
    >>> step_multipliers(K, K, (8,), 0.5).round(decimals=3)
    tensor([1.], dtype=torch.float64)
    """
    both = _checked(K1, K2, image, padding_mode, transposed, norms.CERTIFIED).without_dead()
    return optimised_multipliers(both, _step_length(h, both))


def _checked(K1: Tensor, K2: Tensor, image: Sequence[int], padding_mode: str, transposed: bool, status: str) -> Branch:
    _check.choice("status", status, (norms.CERTIFIED, norms.FLOAT))
    return branch(K1, K2, image, padding_mode, transposed)


def _by_hidden(name: str, value: Tensor, both: Branch) -> Tensor:
    value = positive(name, _check.tensor(name, value))
    if value.shape != both.alive.shape:
        raise ValueError(f"{name} must have shape {tuple(both.alive.shape)}, one a hidden channel; got "
                         f"{_check.describe(value)}.")
    return value


def _step_length(h: float | Tensor, both: Branch) -> Tensor:
    return positive("h", torch.as_tensor(h, dtype=torch.float64)).expand(both.alive.shape[:-1])


def _norm(both: Branch, K: Tensor, status: str) -> Tensor:
    """Norm of the convolution with a kernel over the window of the branch."""
    if both.dims == 1:
        return norms.conv1d(K, both.image[0], 1, both.padding, padding_mode=both.mode, status=status).value
    return norms.conv2d(K, both.image, 1, both.padding, padding_mode=both.mode, status=status).value


def real(Z: Tensor) -> Tensor:
    """[[Re, −Im], [Im, Re]], of the same singular values."""
    return torch.cat([torch.cat([Z.real, -Z.imag], -1), torch.cat([Z.imag, Z.real], -1)], -2)

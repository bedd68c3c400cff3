"""The rungs R4 to R7 at one time, each as a function of A1 and A2."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _check, norms
from .dense import Rate, along, at_one_time
from .known import tube_rate
from .norm_weights import in_weights, require_powers_of_two
from .patterns import exact_from_below

__all__ = ["exact", "exact_estimate", "measure", "tube", "weighted"]


def exact(A1: Tensor, A2: Tensor, p: float = 2, *, status: str = norms.CERTIFIED) -> Rate:
    """R4 "exact": the largest λmax(−sym A2DA1) over D in {0, 1}^m, by enumeration; the yardstick of the ladder.

    Parameters
    ----------
    A1 : Tensor (*batch, m, d), m <= 16
    A2 : Tensor (*batch, d, m)
    p : 2, or 1 or inf: the matrix measure of −A2DA1 in that norm

    Raises
    ------
    ValueError
        For m > 16: with the rates to use instead.

    Examples
    --------
    >>> import torch
    >>> A = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    >>> float(exact(A, A.T).value), round(float(exact(A, -A.T).value), 9)
    (0.0, 5.828427125)
    """
    weights = at_one_time(A1, A2)
    return Rate(along(weights, weights, "exact", p, status=status)[..., 0], status)


def exact_estimate(A1: Tensor, A2: Tensor, *, restarts: int = 32, iterations: int = 30, seed: int = 0) -> Rate:
    """A value of R4 from below, at any width: no bound, but a measure of how far a bound may be off.

    Notes
    -----
    D and z maximise −z·A2DA1z in turn (δ_k = 1 where (u_k·z)(v_k·z) < 0, z the top eigenvector), from random z.

    Examples
    --------
    >>> import torch
    >>> A = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    >>> estimate = exact_estimate(A, -A.T)
    >>> round(float(estimate.value), 9), estimate.status
    (5.828427125, 'estimate')
    """
    weights = at_one_time(A1, A2)
    restarts, iterations = _check.count("restarts", restarts), _check.count("iterations", iterations)
    return Rate(exact_from_below(weights.A1, weights.A2, restarts, iterations, seed), norms.ESTIMATE)


def measure(A1: Tensor, A2: Tensor, p: float) -> Rate:
    """R6 "measure": a bound of the matrix measure of −A2DA1 in ℓ1 (p = 1) or ℓ∞ (p = inf) for all D in [0, 1]^m.

    For sets whose projection acts coordinate by coordinate (orthant, box); costs O(md), loose for dense nets.

    Examples
    --------
    >>> import torch
    >>> A = torch.tensor([[1.0, 0.25], [0.0, 1.0]])
    >>> round(float(measure(A, A.T, float("inf")).value), 9), round(float(measure(A, -A.T, 1).value), 9)
    (0.1875, 1.3125)
    """
    weights = at_one_time(A1, A2)
    return Rate(along(weights, weights, "measure", p)[..., 0], norms.CERTIFIED)


def weighted(A1: Tensor, A2: Tensor, W: Tensor, p: float = 2, *, status: str = norms.CERTIFIED) -> Rate:
    """R5 "weighted": a rate in the norm ‖Wz‖_p, for sets whose projection acts coordinate by coordinate.

    Parameters
    ----------
    A1 : Tensor (*batch, m, d)
    A2 : Tensor (*batch, d, m)
    W : Tensor (*batch, d), powers of two
        The same at all times. Back in ‖·‖_p the factor is κ(W) = max W/min W times larger.
    p : 1, 2 or inf

    Notes
    -----
    p = 2: ¼‖WA2Q − W⁻¹A1ᵀQ⁻¹‖², Q optimised; p = 1, inf: R6 for WA2 and A1W⁻¹. Theory C11, R5.

    Examples
    --------
    >>> import torch
    >>> A1, A2 = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0], [8.0]])
    >>> [round(float(weighted(A1, A2, torch.tensor(W)).value), 3) for W in ([1.0, 1.0], [8.0, 1.0])]
    [4.0, 0.5]
    """
    weights = at_one_time(A1, A2)
    weights = in_weights(weights._replace(b2=weights.A1[..., 0, :]), require_powers_of_two(W, A1.shape[-1]))
    return Rate(along(weights, weights, "scaled" if p == 2 else "measure", p, status=status)[..., 0], status)


def tube(A1: Tensor, A2: Tensor, on: Tensor, unknown: Tensor, clipped: Tensor | None = None, *,
         status: str = norms.CERTIFIED) -> Rate:
    """R7 "tube": the rate where the pattern of most hidden units is known; may be negative.

    Parameters
    ----------
    A1 : Tensor (*batch, m, d)
    A2 : Tensor (*batch, d, m)
    on : bool Tensor (*batch, m)
        Units that are active in both trajectories throughout.
    unknown : bool Tensor (*batch, m)
        Units that may be either; those neither ``on`` nor ``unknown`` are inactive in both.
    clipped : bool Tensor (*batch, d), optional
        Coordinates that are held at the boundary in **both** trajectories throughout: their difference is constant
        zero. Must not be claimed of one trajectory alone.

    Returns
    -------
    Rate
        Minus infinity where every coordinate is clipped.

    Examples
    --------
    >>> import torch
    >>> A, on, off = torch.eye(2), torch.tensor([True, True]), torch.tensor([False, False])
    >>> round(float(tube(A, A, on, off).value), 9), round(float(tube(A, A, off, on).value), 9)
    (-1.0, 0.0)
    """
    weights = at_one_time(A1, A2)
    for name, mask, size in (("on", on, A1.shape[-2]), ("unknown", unknown, A1.shape[-2]),
                             ("clipped", clipped, A1.shape[-1])):
        if mask is not None and (mask.dtype != torch.bool or mask.shape[-1:] != (size,)):
            raise ValueError(f"{name} must be a bool tensor with last dimension {size}; got {_check.describe(mask)}.")
    if bool((on & unknown).any()):
        raise ValueError(f"a unit is on or unknown, not both; got both at {_check.first(on & unknown)}.")
    kept = torch.ones(A1.shape[-1], dtype=torch.bool, device=A1.device) if clipped is None else ~clipped
    batch = torch.broadcast_shapes(A1.shape[:-2], on.shape[:-1], unknown.shape[:-1], kept.shape[:-1])
    weights = [w.expand(*batch, *w.shape[-2:]) for w in (weights.A1, weights.A2)]
    masks = [mask.expand(*batch, mask.shape[-1]) for mask in (on, unknown, kept)]
    return Rate(tube_rate(*weights, *masks, status=status), status)

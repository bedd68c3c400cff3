"""R7 along the layers of a network: the ball around a trajectory that holds all that start near it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import _check, norms
from ..fields import ResNetField, Weights
from ..functions import Box, Orthant, ProxFunction, Whole
from ..inclusion import Inclusion
from ..rates.definite import schur_bound
from ..rates.interior import Inequality, multipliers
from ..steps import Fixed, plan
from .discrete import step_constants
from .pieces import DISTANCE, Bound, pieces_of, require_hypothesis

__all__ = ["radius_of", "require_one_network", "tube"]


def tube(flow: Inclusion, t: Tensor | list[float], x0: Tensor, radius: float | Tensor, *,
         steps: Fixed | None = None) -> Bound:
    """‖x_k − y_k‖ from above for the layers started at ``x0`` and at any y_0 within ``radius`` of it (R7).

    Parameters
    ----------
    flow : Inclusion
        With a ResNet field without ensemble and a convex g. On the orthant, a box and the whole space it is known where
        the projection is linear; elsewhere only that it expands nothing.
    t, steps
        As for ``solve`` with ``ForwardEuler``, whose steps are the layers.
    x0 : Tensor (*batch, d)
        Starts of the trajectories in the middle of the tubes.
    radius : float or Tensor (*batch,), nonnegative

    Returns
    -------
    Bound
        ``curve`` (T, *batch) of kind "distance": ``compare`` takes it with both solutions. Certified; the tube of a
        small radius is far below ``discrete_sensitivity`` times the radius, and never above it (but for rounding).

    Raises
    ------
    ValueError, TypeError
        For a plain callable, an ensemble, a start outside C or of another dimension, a negative radius.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> A, zero, t = 2 * torch.eye(1), torch.zeros(1), torch.linspace(0, 1, 6)
    >>> flow = di.Inclusion(di.ResNetSField(A, zero, zero), di.Orthant())
    >>> tube(flow, t, torch.ones(1), 0.1).curve.round(decimals=3)
    tensor([0.1000, 0.0200, 0.0040, 0.0010, 0.0000, 0.0000], dtype=torch.float64)
    >>> di.bounds.discrete_sensitivity(flow, t).curve[-1]
    tensor(1., dtype=torch.float64)

    Notes
    -----
    In the tube most hidden units are known to be on (K) or off: |A1_k x + b_k| is at least what A1_k·(y − x) can be.
    The others (U) have slopes in [0, 1], with a multiplier each, as in R8:

        ‖(I − hA2_K A1_K)z − hA2_U w‖² <= ρ²‖z‖² for w_k(w_k − (A1z)_k) <= 0, k ∈ U.

    Rows are dropped for coordinates that both trajectories have at the boundary, for all y of the tube. As long as U is
    empty and the projection is linear, y − x = Mz with the product M of the transition matrices, and ‖M‖ replaces the
    product of the factors; at the first layer where it is not, the factor is taken of M and a new ball begins. The
    rounding of the trajectory in the middle and of M counts as errors of the layers (D8). Theory §5, R7.
    """
    require_hypothesis(flow)
    require_one_network(flow)
    layout = plan(flow.field, t, steps)
    flow.validate(x0, layout.stops[0])
    batch, x = x0.shape[:-1], x0.detach().to("cpu", torch.float64).reshape(-1, x0.shape[-1])
    pieces = pieces_of(flow, layout, "step", 2)
    assert pieces.left is not None
    one = torch.eye(x.shape[-1], dtype=torch.float64).expand(len(x), -1, -1)
    ball = _Ball(x, one, radius_of(radius, batch), torch.zeros(len(x), dtype=torch.float64))
    rows = [ball.size]
    constants, ends = step_constants(pieces, "step", torch.zeros_like(pieces.rate)), layout.boundaries()[1:]
    for k, (c, t_next) in enumerate(zip(constants, ends, strict=True)):
        layer = _Layer(Weights(*(w[k] for w in pieces.left)), c.h, c.euler, flow.g)
        ball = layer(ball, t_next)
        rows.append(ball.size)
    return pieces.bound(torch.stack(rows).reshape(-1, *batch), "D1 with rate R7 (tube)", DISTANCE, 2)


def require_one_network(flow: Inclusion) -> None:
    """A tube follows one trajectory at a time through one set of weights."""
    if not isinstance(flow.field, ResNetField) or flow.field.ensemble:
        raise ValueError("a tube needs the weights of one network: a ResNet field without leading dimensions. Take the "
                         "networks of an ensemble one by one, and small images with ConvResNetField.dense.")


def radius_of(radius: float | Tensor, batch: torch.Size) -> Tensor:
    value = torch.as_tensor(radius, dtype=torch.float64).detach().cpu()
    if not bool(((value >= 0) & torch.isfinite(value)).all()):
        raise ValueError(f"radius must be finite and nonnegative; got {float(value.min()):g} as its least entry.")
    try:
        return value.expand(batch).reshape(-1)
    except RuntimeError as error:
        raise ValueError(f"radius must be one number or have the batch shape {tuple(batch)} of x0; got "
                         f"{_check.describe(value)}.") from error


@dataclass(frozen=True, eq=False)
class _Ball:
    """All y = x + Mz + e with ‖z‖ <= r and ‖e‖ <= s: x (n, d), M (n, d, d), r and s (n,); e is what rounding adds."""

    x: Tensor
    M: Tensor
    r: Tensor
    s: Tensor

    @property
    def size(self) -> Tensor:
        """The largest ‖y − x‖, (n,)."""
        return (norms.dense(self.M).value * self.r + self.s) * (1 + 8 * norms.UNIT)


@dataclass(frozen=True, eq=False)
class _Layer:
    """x ↦ P(x − h(A2 σ(A1 x + b1) − b2)), and a Lipschitz factor of the argument of P."""

    weights: Weights
    h: float
    factor: Tensor
    g: ProxFunction

    def __call__(self, ball: _Ball, t_next: float) -> _Ball:
        """The ball that holds the image of a ball."""
        A1, b1, A2, b2 = self.weights
        h, (m, d) = self.h, A1.shape
        room = 1 + 2 * norms.gamma(m + d + 16)
        a, a_error = ball.x @ A1.T + b1, norms.gamma(d + 4) * (ball.x.abs() @ A1.abs().T + b1.abs())
        AM, AM_error = A1 @ ball.M, norms.gamma(d + 4) * (A1.abs() @ ball.M.abs())
        reach = room * ((_rows(AM) + _rows(AM_error)) * ball.r[:, None] + _rows(A1) * ball.s[:, None] + a_error)
        on, unknown = a >= reach, (a.abs() < reach) & (AM_error > 0).any(-1)
        hidden = torch.relu(a)
        v = ball.x - h * (hidden @ A2.T - b2)
        v_error = room * (h * a_error @ A2.abs().T + norms.gamma(m + 8) * (
            ball.x.abs() + h * (hidden @ A2.abs().T + b2.abs())))
        T = ball.M - h * (A2 @ (AM * on.unsqueeze(-1)))
        T_error = norms.gamma(m + d + 16) * (ball.M.abs() + h * (A2.abs() @ (A1.abs() @ ball.M.abs())))
        s = room * (self.factor * ball.s + vector_norm(v_error, dim=-1))
        spread = room * ((_rows(T) + _rows(T_error)) * ball.r[:, None] + h * (reach * unknown) @ A2.abs().T
                         + s[:, None] + v_error)
        clipped, free = self._clipped(v - spread, v + spread, v)
        kept = (~clipped).to(v)
        T, T_error = T * kept.unsqueeze(-1), T_error * kept.unsqueeze(-1)
        linear = ~unknown.any(-1) & (clipped | free).all(-1)
        r, M = ball.r.clone(), T.clone()
        s = torch.where(linear, s + room * torch.linalg.matrix_norm(T_error) * ball.r, s)
        i = (~linear).nonzero()[:, 0]
        if len(i):
            inside = self._inside(T[i], T_error[i], AM[i], AM_error[i], unknown[i], kept[i])
            r[i] = torch.minimum(inside * ball.r[i], self.factor * norms.dense(ball.M[i]).value * ball.r[i]) * room
            M[i] = torch.diag_embed(kept[i])
        return _Ball(self.g.prox(v, h, t_next), M, r, s)

    def _clipped(self, low: Tensor, high: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates that are at the boundary for all y of the ball, and those that the projection leaves alone."""
        if not isinstance(self.g, Orthant | Box | Whole):
            nowhere = torch.zeros_like(v, dtype=torch.bool)
            return nowhere, nowhere
        lower, upper = self.g.bounds(v)
        return (high <= lower) | (low >= upper), (low >= lower) & (high <= upper)

    def _inside(self, T: Tensor, T_error: Tensor, AM: Tensor, AM_error: Tensor, unknown: Tensor,
                kept: Tensor) -> Tensor:
        """The least ρ found, (n,), with ‖Tz − hA2_U w‖ <= ρ‖z‖ where w_k(w_k − (A1Mz)_k) <= 0; rounding enclosed.

        [[(ρ²I − TᵀT)/h, ·], [ΛA1_U M − A2_Uᵀ T, 2Λ − hA2_Uᵀ A2_U]] ⪰ 0, with ρ² = 1 + hc.
        """
        h, d = self.h, T.shape[-1]
        A2 = self.weights.A2 * unknown.unsqueeze(-2) * kept.unsqueeze(-1)
        A, A_error = AM * unknown.unsqueeze(-1), AM_error * unknown.unsqueeze(-1)
        B = A2.mT @ T
        B_error = norms.gamma(d + 4) * (A2.abs().mT @ T.abs()) + 1.01 * (A2.abs().mT @ T_error)
        identity = torch.eye(d, dtype=T.dtype)
        gram, size = T.mT @ T, T.abs().mT @ T.abs()
        gram_error = norms.gamma(d + 4) * size + 1.01 * (
            T.abs().mT @ T_error + T_error.mT @ T.abs() + T_error.mT @ T_error)
        S, S_error = (identity - 0.5 * (gram + gram.mT)) / h, (gram_error + 8 * norms.UNIT * (identity + size)) / h
        H = A2.mT @ A2
        H, H_error = 0.5 * h * (H + H.mT), h * norms.gamma(d + 8) * (A2.abs().mT @ A2.abs())
        lam = self._multipliers(A, B, S, H)
        scaled = lam.unsqueeze(-1) * A
        R, R_error = scaled - B, 1.01 * (lam.unsqueeze(-1) * A_error + B_error) + 4 * norms.UNIT * (
            scaled.abs() + B.abs()) + norms.UNDERFLOW
        low = torch.diag_embed(2 * lam) - H
        low_error = H_error + 4 * norms.UNIT * (low.abs() + torch.diag_embed(lam)) + norms.UNDERFLOW
        c = schur_bound(S, R, low, (S_error, R_error, low_error))
        return torch.sqrt((1 + h * c).clamp_min(0) + 8 * norms.UNIT * (1 + h * c.abs())) * (1 + 8 * norms.UNIT)

    def _multipliers(self, A: Tensor, B: Tensor, S: Tensor, H: Tensor) -> Tensor:
        """Λ (n, m) of the unknown units, 1 for the others."""
        rows, columns = _rows(A), H.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt() / self.h**0.5
        alive = (rows > 0) & (columns > 0)
        start = torch.where(alive, columns / rows, 1.0).clamp(1e-24, 1e24)
        A, B = A * alive.unsqueeze(-1), B * alive.unsqueeze(-1)
        H = H * alive.unsqueeze(-1) * alive.unsqueeze(-2)
        problem = Inequality(A[None], B[None], S[None], H[None], alive)
        return torch.where(alive, multipliers(problem, start, accuracy=1e-4), 1.0)


def _rows(A: Tensor) -> Tensor:
    """Euclidean norms of the rows."""
    return vector_norm(A, dim=-1)

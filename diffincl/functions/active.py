"""Projection onto {u : G u <= h} for rows of unit length: which rows hold with equality, then one linear solve.

The rows are found by the dual active-set method, batched over samples; the solve on them is what is differentiated.

References: Goldfarb, Idnani, "A numerically stable dual method for solving strictly convex quadratic programs", 1983.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.linalg import solve_triangular, vector_norm

from .decision import decide

__all__ = ["nearest"]

EPS = torch.finfo(torch.float64).eps
EMPTY, FAILED = -1, -2  # in place of a row: no row in this slot; no answer for this sample
FEASIBLE = 1e-9  # violation, relative to the sizes around, that rounding can leave in a set that is not empty


def nearest(x: Tensor, G: Tensor, h: Tensor) -> Tensor:
    """The point of {u : G u <= h} nearest to ``x``; NaN in samples that are not finite or did not converge.

    x (*batch, d), G (k, d) with rows of length 1, h (k,) or (*batch, k), inf for a row that does not count; float64.
    """
    if not len(G):
        return x
    for _ in range(2):  # seen from far away the first answer is off by rounding of ``x``; the second look is from near
        rows = decide(partial(active_rows, G), x, h.expand(*x.shape[:-1], len(G)))
        x = solve_on(rows, x, G, h)
    return x


def solve_on(rows: Tensor, x: Tensor, G: Tensor, h: Tensor) -> Tensor:
    """x − Aᵀ(AAᵀ)⁻¹(Ax − b) with the listed rows A of G and b of h."""
    used = rows >= 0
    listed = rows.clamp_min(0)
    A, b = G[listed] * used.unsqueeze(-1), torch.where(used, h.expand(*x.shape[:-1], len(G)).gather(-1, listed), 0.0)
    Q, R = factor(A, used)
    u = x
    for _ in range(2):  # the second pass removes the rounding that the size of ``x`` left in the rows
        y = solve_triangular(R.mT, (A @ u.unsqueeze(-1)) - b.unsqueeze(-1), upper=False)
        u = u - (Q @ y).squeeze(-1)
    return torch.where((rows == FAILED).any(-1, keepdim=True), torch.nan, u)


def factor(A: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Q (d, m), R (m, m) with Aᵀ = QR on the slots in use; the others get a zero column and a unit of their own."""
    d = A.shape[-1]
    Q, R = torch.linalg.qr(torch.cat([A.mT, torch.diag_embed((~used).to(A))], dim=-2))
    return Q[..., :d, :], R


def active_rows(G: Tensor, x: Tensor, h: Tensor) -> Tensor:
    """Rows of G that carry the projection of each sample, int64 (*batch, min(k, d)), independent of each other."""
    shape = torch.broadcast_shapes(x.shape[:-1], h.shape[:-1])
    flat, h = (value.expand(*shape, -1).reshape(-1, value.shape[-1]) for value in (x, h))
    found = torch.full((len(flat), min(G.shape)), FAILED, device=x.device)
    running = torch.isfinite(flat).all(-1).nonzero()[:, 0]
    search = _Search(flat[running], G, h[running])
    for _ in range(100 + 20 * len(G)):
        search.choose()
        done = search.entering == EMPTY
        found[running[done]] = search.rows[done]
        if bool(done.all()):
            break
        running = running[~done]
        search.keep(~done)
        search.advance()
    return found.reshape(*shape, found.shape[-1])


class _Search:
    """Samples on the way: u = x − Σ λ_j g_j − λ_p g_p minimises the Lagrangian, rows in use hold, p is on its way in.

    Each step raises the dual objective until p holds (p joins the rows) or a multiplier reaches 0 (its row leaves).
    """

    def __init__(self, x: Tensor, G: Tensor, h: Tensor):
        n, m = len(x), min(G.shape)
        self.G, self.x, self.u, self.h = G, x, x, h.clone()
        self.rows = torch.full((n, m), EMPTY, device=x.device)
        self.Q, self.R = factor(x.new_zeros(n, m, G.shape[1]), self.rows >= 0)
        self.multipliers, self.multiplier = x.new_zeros(n, m), x.new_zeros(n)
        self.entering = torch.full((n,), EMPTY, device=x.device)

    def keep(self, samples: Tensor) -> None:
        """Go on with these samples alone."""
        for name in ("x", "u", "h", "rows", "Q", "R", "multipliers", "multiplier", "entering"):
            setattr(self, name, getattr(self, name)[samples])

    def choose(self) -> None:
        """Where no row is on its way in, take the one violated most, beyond rounding."""
        violation = self.u @ self.G.mT - self.h
        size = vector_norm(self.x, dim=-1, keepdim=True) + vector_norm(self.u, dim=-1, keepdim=True) + self.h.abs()
        violation = torch.where(violation > 16 * EPS * size, violation, -torch.inf)
        held = torch.where(self.rows >= 0, self.rows, len(self.G))
        violation = torch.nn.functional.pad(violation, (0, 1)).scatter(-1, held, -torch.inf)[:, :-1]
        worst, row = violation.max(-1)
        new = (self.entering == EMPTY) & (worst > 0)
        self.entering = torch.where(new, row, self.entering)
        self.multiplier = torch.where(new, 0.0, self.multiplier)

    def advance(self) -> None:
        """One step: as far as the entering row allows or the first multiplier reaches 0."""
        g = self.G[self.entering]
        along = _times(self.Q.mT, g)
        across = g - _times(self.Q, along)
        more = _times(self.Q.mT, across)  # a second projection: orthogonal up to rounding
        along, across = along + more, across - _times(self.Q, more)
        weights = solve_triangular(self.R, along.unsqueeze(-1), upper=True).squeeze(-1)  # g = Σ weights_j g_j + across
        length = vector_norm(across, dim=-1)
        gap = (g * self.u).sum(-1) - self.h.gather(-1, self.entering.unsqueeze(-1))[:, 0]
        dependent = length <= 64 * EPS * (1 + weights.abs().sum(-1))
        to_row = torch.where(dependent, torch.inf, gap.clamp_min(0) / length**2)
        ratios = torch.where((self.rows >= 0) & (weights > 0), self.multipliers.clamp_min(0) / weights, torch.inf)
        to_zero, leaving = ratios.min(-1)
        t = torch.minimum(to_row, to_zero)
        stuck = torch.isinf(t)
        step = torch.where(stuck, 0.0, t)
        self.multipliers = self.multipliers - step.unsqueeze(-1) * weights
        self.multiplier = self.multiplier + step
        joins = ~stuck & (to_row <= to_zero)
        self._join(joins, along, across, length)
        self._leave(~stuck & ~joins, leaving)
        self._give_up(stuck, gap)

    def _join(self, who: Tensor, along: Tensor, across: Tensor, length: Tensor) -> None:
        """The entering row holds now; u and the multipliers are computed anew from the rows."""
        i = who.nonzero()[:, 0]
        slot = (self.rows[i] >= 0).sum(-1)
        self.rows[i, slot] = self.entering[i]
        self.Q[i, :, slot] = across[i] / length[i].unsqueeze(-1)
        self.R[i, :, slot] = along[i]
        self.R[i, slot, slot] = length[i]
        self.entering[i] = EMPTY
        self._refresh(i)

    def _refresh(self, i: Tensor) -> None:
        """u and the multipliers of samples i, from x and the rows."""
        used, listed = self.rows[i] >= 0, self.rows[i].clamp_min(0)
        excess = torch.where(used, _times(self.G[listed], self.x[i]) - self.h[i].gather(-1, listed), 0.0)
        y = solve_triangular(self.R[i].mT, excess.unsqueeze(-1), upper=False)
        self.u[i] = self.x[i] - (self.Q[i] @ y).squeeze(-1)
        self.multipliers[i] = solve_triangular(self.R[i], y, upper=True).squeeze(-1)

    def _leave(self, who: Tensor, leaving: Tensor) -> None:
        """One row leaves; the entering one goes on."""
        i = who.nonzero()[:, 0]
        slots = torch.arange(self.rows.shape[1], device=who.device)
        order = (slots + (slots >= leaving[i].unsqueeze(-1))) % len(slots)  # the slots behind move up, the last is free
        rows, multipliers = self.rows[i].gather(-1, order), self.multipliers[i].gather(-1, order)
        rows[:, -1], multipliers[:, -1] = EMPTY, 0.0
        used, A = rows >= 0, self.G[rows.clamp_min(0)]
        self.rows[i], self.multipliers[i] = rows, multipliers
        self.Q[i], self.R[i] = factor(A * used.unsqueeze(-1), used)
        pull = _times(A.mT, multipliers * used) + self.multiplier[i].unsqueeze(-1) * self.G[self.entering[i]]
        self.u[i] = self.x[i] - pull

    def _give_up(self, who: Tensor, gap: Tensor) -> None:
        """The rows in use rule the entering one out. As the set is not empty it is violated by rounding alone: drop it
        for this sample; else the sample fails."""
        i = who.nonzero()[:, 0]
        row = self.entering[i]
        size = 1 + vector_norm(self.u[i], dim=-1) + self.h[i, row].abs()
        self.h[i, row] = torch.inf
        failed = i[gap[i] > FEASIBLE * size]
        self.entering[i] = EMPTY
        self._refresh(i)
        self.rows[failed] = FAILED
        self.h[failed] = torch.inf


def _times(A: Tensor, v: Tensor) -> Tensor:
    """A v, sample by sample."""
    return (A @ v.unsqueeze(-1)).squeeze(-1)

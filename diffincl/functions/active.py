"""Projection onto {u : G u <= h} for rows of unit length: which rows hold with equality, then one linear solve.

The rows are found by the dual active-set method, batched over samples; the solve on them is what is differentiated.

References: Goldfarb, Idnani, "A numerically stable dual method for solving strictly convex quadratic programs", 1983.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.linalg import solve_triangular, vector_norm

from .. import _check
from .decision import decide

__all__ = ["Nearest", "nearest"]

EPS = torch.finfo(torch.float64).eps
EMPTY, FAILED = -1, -2  # in place of a row: no row in this slot; no answer for this sample
ROUNDING = 16 * EPS  # relative to the sizes around, what a row may be violated by
FEASIBLE = 1e-9  # violation, relative to the sizes around, that rounding can leave in a set that is not empty


class Held(NamedTuple):
    """Rows A (*batch, m, d) of G and b of h that hold at a point, and Aᵀ = QR. A slot without a row has a zero row and
    column, and in R a unit of its own."""

    rows: Tensor
    A: Tensor
    b: Tensor
    Q: Tensor
    R: Tensor


def nearest(x: Tensor, G: Tensor, h: Tensor) -> Tensor:
    """The point of {u : G u <= h} nearest to ``x``; NaN in samples that are not finite or did not converge.

    x (*batch, d), G (k, d) with rows of length 1, h (k,) or (*batch, k), inf for a row that does not count; float64.
    """
    return _searched(x, G, h)[0] if len(G) else x


class Nearest:
    """``nearest`` for the calls of one solve: the rows that carried the last projection of a sample are tried first.

    They carry this one if the conditions of Karush, Kuhn and Tucker hold on them, which make the point the nearest
    whatever it was guessed from; only the other samples are searched, from those rows on. So what is kept saves work,
    and changes values by rounding alone. Where values cannot be read (torch.func, torch.compile) all samples are
    searched from no row.
    """

    def __init__(self) -> None:
        self.held: Held | None = None  # replaced, never changed in place: backward passes read what they were given

    def __call__(self, x: Tensor, G: Tensor, h: Tensor) -> Tensor:
        if not len(G) or not _check.concrete(x):
            return nearest(x, G, h)
        flat, held = x.reshape(-1, x.shape[-1]), self.held
        if held is None or len(held.rows) != len(flat) or held.rows.device != x.device:
            held = hold(torch.full((len(flat), min(G.shape)), EMPTY, device=x.device), G, h)
        inside = _feasible(flat.detach(), G, h)
        u, carried = _carried(held, flat, G, h)
        u = torch.where(inside.unsqueeze(-1), flat, u)  # rows of a sample that rests inside are kept for its return
        i = (~(inside | carried)).nonzero()[:, 0]
        if len(i):
            found, rows = _searched(flat[i], G, h, held.rows[i])
            u = u.index_put((i,), found)
            held = Held(*(old.index_put((i,), new) for old, new in zip(held, hold(rows, G, h), strict=True)))
        self.held = held
        return u.reshape(x.shape)


def _searched(x: Tensor, G: Tensor, h: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The nearest point, and the rows that carry it, seen from ``x``; searched from the rows ``start`` on."""
    first = None
    for _ in range(2):  # seen from far away the first answer is off by rounding of ``x``; the second look is from near
        rows = decide(partial(active_rows, G, start if first is None else None), x, h.expand(*x.shape[:-1], len(G)))
        first = rows if first is None else first
        if _check.concrete(rows) and bool((rows == EMPTY).all()):
            break  # all samples are in the set
        x = torch.where((rows == FAILED).any(-1, keepdim=True), torch.nan, x - _pull(hold(rows, G, h), x)[0])
    assert first is not None
    return x, first


def _carried(held: Held, x: Tensor, G: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """The point u nearest to ``x`` on the rows held, and in which samples it is the nearest of the set: no row is
    violated beyond rounding, and every multiplier is positive beyond rounding (at zero the row would only decide the
    derivative, by what came before)."""
    way, y = _pull(held, x)
    near = x - way
    with torch.no_grad():
        way, more = _pull(held, near.detach())  # from near: off by rounding of u, no longer by that of x
    u = near - way
    at, multipliers = u.detach(), solve_triangular(held.R, y.detach() + more, upper=True).squeeze(-1)
    optimal = pulling(multipliers, x.detach(), at, held.b) | (held.rows < 0)
    return u, _feasible(at, G, h) & optimal.all(-1)


def _feasible(u: Tensor, G: Tensor, h: Tensor) -> Tensor:
    """In which samples no row is violated beyond rounding."""
    return torch.isfinite(u).all(-1) & (violation(u, u, G, h) <= 0).all(-1)


def hold(rows: Tensor, G: Tensor, h: Tensor) -> Held:
    """The listed rows of G and of h (k,) or (*batch, k), ready to be solved with."""
    used, listed = rows >= 0, rows.clamp_min(0)
    A = G[listed] * used.unsqueeze(-1)
    b = torch.where(used, h.expand(*rows.shape[:-1], len(G)).gather(-1, listed), 0.0)
    return Held(rows, A, b, *factor(A, used))


def _pull(held: Held, x: Tensor) -> tuple[Tensor, Tensor]:
    """Aᵀλ, the way from the rows held to ``x``, and y = R λ, λ = (AAᵀ)⁻¹(Ax − b)."""
    y = solve_triangular(held.R.mT, (_times(held.A, x) - held.b).unsqueeze(-1), upper=False)
    return (held.Q @ y).squeeze(-1), y


def factor(A: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Q (d, m), R (m, m) with Aᵀ = QR on the slots in use; the others get a zero column and a unit of their own."""
    d = A.shape[-1]
    Q, R = torch.linalg.qr(torch.cat([A.mT, torch.diag_embed((~used).to(A))], dim=-2))
    return Q[..., :d, :], R


def violation(x: Tensor, u: Tensor, G: Tensor, h: Tensor) -> Tensor:
    """By how much ``u``, computed from ``x``, violates each row; −inf where rounding explains it."""
    size = x.abs().amax(-1, keepdim=True) + u.abs().amax(-1, keepdim=True) + h.abs()
    gap = u @ G.mT - h
    return torch.where(gap > ROUNDING * size, gap, -torch.inf)


def pulling(multipliers: Tensor, x: Tensor, u: Tensor, b: Tensor) -> Tensor:
    """Which multipliers on the way from ``u`` to ``x`` are positive beyond rounding."""
    return multipliers > ROUNDING * (x.abs().amax(-1, keepdim=True) + u.abs().amax(-1, keepdim=True) + b.abs())


def active_rows(G: Tensor, start: Tensor | None, x: Tensor, h: Tensor) -> Tensor:
    """Rows of G that carry the projection of each sample, int64 (*batch, min(k, d)), independent of each other; the
    search starts from none, or from those rows in ``start`` (n, min(k, d)), independent too, that pull."""
    shape = torch.broadcast_shapes(x.shape[:-1], h.shape[:-1])
    flat, h = (value.expand(*shape, -1).reshape(-1, value.shape[-1]) for value in (x, h))
    found = torch.full((len(flat), min(G.shape)), FAILED, device=x.device)
    running = torch.isfinite(flat).all(-1).nonzero()[:, 0]
    search = _Search(flat[running], G, h[running])
    if start is not None:
        search.start(start[running])
    for _ in range(100 + 20 * len(G)):
        search.choose()
        done = search.entering == EMPTY
        found[running[done]] = search.rows[done]
        if bool(done.all()):
            break
        running = running[~done]
        search.keep(~done)
        search.advance()
    if start is not None and len(lost := ((found == FAILED).any(-1) & torch.isfinite(flat).all(-1)).nonzero()[:, 0]):
        found[lost] = active_rows(G, None, flat[lost], h[lost])  # where a search starts must not decide that it fails
    return found.reshape(*shape, found.shape[-1])


class _Search:
    """Samples on the way: u = x − Σ λ_j g_j − λ_p g_p minimises the Lagrangian, rows in use hold, p is on its way in.

    Each step raises the dual objective until p holds (p joins the rows) or a multiplier reaches 0 (its row leaves).
    """

    def __init__(self, x: Tensor, G: Tensor, h: Tensor):
        n, m = len(x), min(G.shape)
        self.G, self.x, self.u, self.h = G, x, x.clone(), h.clone()
        self.rows = torch.full((n, m), EMPTY, device=x.device)
        self.Q, self.R = x.new_zeros(n, G.shape[1], m), torch.eye(m).to(x).repeat(n, 1, 1)
        self.multipliers, self.multiplier = x.new_zeros(n, m), x.new_zeros(n)
        self.entering = torch.full((n,), EMPTY, device=x.device)

    def start(self, rows: Tensor) -> None:
        """From these rows, without those whose multipliers are not positive; that can turn other signs over."""
        everyone = torch.arange(len(rows), device=rows.device)
        rows = rows.clamp_min(EMPTY)
        while bool((rows != self.rows).any()):
            self.rows = rows.gather(-1, (rows < 0).long().argsort(dim=-1, stable=True))  # free slots come last
            used, listed = self.rows >= 0, self.rows.clamp_min(0)
            self.Q, self.R = factor(self.G[listed] * used.unsqueeze(-1), used)
            self._refresh(everyone)
            pulls = pulling(self.multipliers, self.x, self.u, self.h.gather(-1, listed))
            rows = torch.where(pulls, self.rows, EMPTY)

    def keep(self, samples: Tensor) -> None:
        """Go on with these samples alone."""
        for name in ("x", "u", "h", "rows", "Q", "R", "multipliers", "multiplier", "entering"):
            setattr(self, name, getattr(self, name)[samples])

    def choose(self) -> None:
        """Where no row is on its way in, take the one violated most, beyond rounding."""
        gap = violation(self.x, self.u, self.G, self.h)
        held = torch.where(self.rows >= 0, self.rows, len(self.G))
        worst, row = torch.nn.functional.pad(gap, (0, 1)).scatter(-1, held, -torch.inf)[:, :-1].max(-1)
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
        if not len(i):
            return
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
        if not len(i):
            return
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
        if not len(i):
            return
        row = self.entering[i]
        size = 1 + self.u[i].abs().amax(-1) + self.h[i, row].abs()
        self.h[i, row] = torch.inf
        failed = i[gap[i] > FEASIBLE * size]
        self.entering[i] = EMPTY
        self._refresh(i)
        self.rows[failed] = FAILED
        self.h[failed] = torch.inf


def _times(A: Tensor, v: Tensor) -> Tensor:
    """A v, sample by sample."""
    return (A @ v.unsqueeze(-1)).squeeze(-1)

"""Sets that linear equations or inequalities describe."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import _check
from .active import Nearest, nearest
from .base import ConvexSet, Time

__all__ = ["Affine", "Polyhedron"]

EMPTY = 1e-12  # contradiction of unit rows, relative to the largest offset, from which on it is not rounding


@dataclass(frozen=True, eq=False, repr=False)
class Affine(ConvexSet):
    """The affine subspace {x : A x = b}.

    Parameters
    ----------
    A : Tensor (k, d), of any rank
    b : Tensor (k,)
        Constants: neither may require gradients.

    Raises
    ------
    ValueError
        If A x = b has no solution.

    Examples
    --------
    >>> import torch
    >>> Affine(torch.ones(1, 2), torch.tensor([2.0])).project(torch.tensor([3.0, 0.0]))
    tensor([ 2.5000, -0.5000])

    Notes
    -----
    With V an orthonormal basis of the row space (rank by singular values of the rows scaled to length 1) and c = V x of
    any solution, the projection is x − Vᵀ(V x − c), computed in float64.
    """

    A: Tensor
    b: Tensor
    polyhedral = True

    def __post_init__(self) -> None:
        rows, offsets, size = _unit_rows("A", self.A, "b", self.b)
        U, S, V = torch.linalg.svd(rows, full_matrices=False)
        rank = int((S / S[0] > 4 * max(rows.shape) * torch.finfo(torch.float64).eps).sum())
        V, c = V[:rank], (U.mT @ offsets)[:rank] / S[:rank]
        excess = (rows @ (V.mT @ c) - offsets).abs()
        room = 64 * max(rows.shape) * torch.finfo(self.A.dtype).eps * (vector_norm(c) + offsets.abs())
        if bool((bad := excess > room).any()):
            i = int((excess * bad).argmax())
            raise ValueError(f"A x = b has no solution: the best x leaves row {i} a residual of "
                             f"{float(excess[i] * size[i]):.4g}. Correct b, or drop a row that contradicts the others.")
        object.__setattr__(self, "_basis", V)
        object.__setattr__(self, "_level", c)

    def project(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """x − Vᵀ(V x − c), twice: the second pass removes the rounding that the size of x leaves."""
        _require_dimension(x, self.A.shape[1], "A")
        V, c = self._basis.to(x.device), self._level.to(x.device)  # type: ignore[attr-defined]
        u = x.double()
        for _ in range(2):
            u = u - (u @ V.mT - c) @ V
        return u.to(x.dtype)

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Exact: the normal cone is the row space, so ‖v − VᵀV v‖."""
        _require_dimension(x, self.A.shape[1], "A")
        V, across = self._basis.to(v.device), v.double()  # type: ignore[attr-defined]
        for _ in range(2):
            across = across - (across @ V.mT) @ V
        return vector_norm(across, dim=-1).to(x.dtype)


@dataclass(frozen=True, eq=False, repr=False)
class Polyhedron(ConvexSet):
    """The polyhedron {x : G x <= h}; rows may repeat, be redundant, parallel, opposite or zero.

    Parameters
    ----------
    G : Tensor (k, d)
    h : Tensor (k,)
        Constants: neither may require gradients.

    Raises
    ------
    ValueError
        If no x satisfies G x <= h: the message names rows that contradict each other.

    Examples
    --------
    >>> import torch
    >>> C = Polyhedron(torch.tensor([[1.0, 1.0], [-1.0, 0.0]]), torch.tensor([1.0, 0.0]))  # x + y <= 1, x >= 0
    >>> C.project(torch.tensor([[2.0, 2.0], [-1.0, 3.0]]))
    tensor([[0.5000, 0.5000],
            [0.0000, 1.0000]])

    Notes
    -----
    A dual active-set method in float64 finds rows A of G that hold at the nearest point; with them it is
    x − Aᵀ(AAᵀ)⁻¹(A x − b), which is what is differentiated. ``project`` starts from no row, so the
    result depends on the input alone. A solve tries the rows that carried a sample's last projection first, and takes
    them if they are optimal (no row violated, multipliers positive): its states depend on that by rounding alone. A
    sample that is not finite, or that did not converge, gives NaN. A set that is empty by no more than rounding counts
    as the thin set next to it.

    References
    ----------
    Goldfarb, Idnani, "A numerically stable dual method for solving strictly convex quadratic programs", 1983.
    """

    G: Tensor
    h: Tensor
    polyhedral = True

    def __post_init__(self) -> None:
        rows, offsets, size = _unit_rows("G", self.G, "h", self.h)
        empty = (size == 0) & (offsets < 0)
        if bool(empty.any()):
            i = _check.first(empty)[0]
            raise ValueError(f"G x <= h has no solution: row {i} of G is zero and h[{i}] is {float(self.h[i]):g}. "
                             f"Drop the row, or make h[{i}] nonnegative.")
        kept = (size > 0).nonzero()[:, 0]
        object.__setattr__(self, "_rows", rows[kept])
        object.__setattr__(self, "_offsets", offsets[kept])
        object.__setattr__(self, "_nearest", nearest)
        against = _contradiction(rows[kept], offsets[kept])
        if len(against):
            raise ValueError(f"G x <= h has no solution: rows {kept[against].tolist()} contradict each other. Raise "
                             f"their entries of h, or drop one of them.")

    def project(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """The nearest point with G x <= h."""
        _require_dimension(x, self.G.shape[1], "G")
        return self._nearest(x.double(), *self._on(x)).to(x.dtype)  # type: ignore[attr-defined]

    def with_memory(self) -> Polyhedron:
        """The same set for the calls of one solve: the rows that held last are tried first."""
        same = copy.copy(self)
        object.__setattr__(same, "_nearest", Nearest())
        return same

    def normal_distance(self, x: Tensor, v: Tensor, t: Time = 0.0) -> Tensor:
        """Exact: the normal cone is spanned by the rows that hold (1e-9 or 64 rounding units count as held), and v is
        as far from it as v's projection on the polar cone, {y : g_i·y <= 0 for these rows}, is long."""
        _require_dimension(x, self.G.shape[1], "G")
        G, h = self._on(x)
        slack = max(1e-9, 64 * torch.finfo(x.dtype).eps) * (1 + vector_norm(x.double(), dim=-1, keepdim=True))
        cone = torch.where(h - x.double() @ G.mT <= slack, 0.0, torch.inf).double()
        return vector_norm(nearest(v.double(), G, cone), dim=-1).to(x.dtype)

    def _on(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of length 1 and their offsets on the device of ``x``."""
        return self._rows.to(x.device), self._offsets.to(x.device)  # type: ignore[attr-defined]


def _unit_rows(matrix: str, G: Tensor, vector: str, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of length 1 (zero rows stay), their right-hand sides and the lengths they had, float64."""
    for name, value in ((matrix, G), (vector, h)):
        _check.finite(name, _check.tensor(name, value))
        if value.requires_grad:
            raise ValueError(f"{name} must not require gradients, since none flow to it; got {_check.describe(value)}. "
                             f"Write {name}.detach().")
    if G.ndim != 2 or h.shape != G.shape[:1]:
        raise ValueError(f"{matrix} must have shape (k, d) and {vector} shape (k,); got {_check.describe(G)} and "
                         f"{_check.describe(h)}.")
    rows, offsets = G.double(), h.double()
    largest = rows.abs().amax(-1)
    safe = torch.where(largest > 0, largest, 1.0)
    length = vector_norm(rows / safe.unsqueeze(-1), dim=-1)
    unit = torch.where(length > 0, length, 1.0)
    level = offsets / safe / unit
    if bool(torch.isinf(level).any()):
        i = _check.first(torch.isinf(level))[0]
        raise ValueError(f"row {i} of {matrix} is too short beside {vector}[{i}] = {float(h[i]):g}: scaled to length 1 "
                         f"it overflows. Make the row zero, or scale it up.")
    return rows / safe.unsqueeze(-1) / unit.unsqueeze(-1), level, length * largest


def _contradiction(G: Tensor, h: Tensor) -> Tensor:
    """Rows of which no point satisfies all; none if there is a point. Offsets of one order of magnitude after another
    are looked at, so that a large one does not hide a contradiction between small ones."""
    orders: list[tuple[float, float]] = []  # smallest and largest of each
    for size in sorted(set(h.abs().tolist()) - {0.0}):
        if orders and size <= 1e3 * orders[-1][0]:
            orders[-1] = (orders[-1][0], size)
        else:
            orders.append((size, size))
    for _, largest in orders:
        rows = (h.abs() <= largest).nonzero()[:, 0]
        against = rows[_certificate(G[rows], h[rows] / largest)]
        if len(against):
            return against
    return torch.zeros(0, dtype=torch.int64)


def _certificate(G: Tensor, h: Tensor) -> Tensor:
    """Rows with a certificate y > 0, Gᵀy = 0, h·y < 0 that no point satisfies them; none if none is found."""
    from scipy.optimize import linprog  # slow to import, and needed for polyhedra only

    k, d = G.shape
    # Least s with G u − s <= h; its multipliers y have Σy = 1, Gᵀy = 0 and s = −h·y.
    least = linprog([0.0] * d + [1.0], A_ub=torch.cat([G, -torch.ones(k, 1).double()], 1).numpy(), b_ub=h.numpy(),
                    bounds=[(None, None)] * d + [(0, None)], options={"primal_feasibility_tolerance": 1e-10})
    none = torch.zeros(0, dtype=torch.int64)
    if least.status != 0 or least.fun <= 0.0:
        return none
    rows = (torch.as_tensor(-least.ineqlin.marginals) > 1e-9).nonzero()[:, 0]
    # The tolerances of the programme are coarse: solve for the certificate anew.
    system = torch.cat([G[rows].mT, torch.ones(1, len(rows)).double()])
    target = torch.zeros(d + 1).double()
    target[-1] = 1.0
    y = torch.linalg.lstsq(system, target.unsqueeze(-1), driver="gelsd").solution[:, 0]
    proven = bool((y > 0).all()) and float((system @ y - target).abs().max()) < EMPTY
    return rows if proven and -float(h[rows] @ y) > EMPTY else none


def _require_dimension(x: Tensor, d: int, matrix: str) -> None:
    if x.shape[-1] != d:
        raise ValueError(f"x must have last dimension {d}, the columns of {matrix}; got {_check.describe(x)}.")

"""Problems with exact solutions (numbers as in the theory), as flow, initial state, horizon and solution x(t)."""

import math

import torch

import diffincl as di

F64 = torch.float64


def half_line():
    """1: constant field on the half line, max(x0 − ct, 0); catching-up reproduces it."""
    c, x0 = 0.7, torch.tensor([[1.0], [2.5], [0.0]], dtype=F64)
    return di.Inclusion(lambda t, x: torch.full_like(x, c), di.Orthant()), x0, 3.0, lambda t: (x0 - c * t).clamp(min=0)


def skorokhod():
    """2: F = cos t, x0 = ½ on the half line; hit at π/6, leave at π/2."""
    def exact(t):
        low = max(0.0, math.sin(min(t, math.pi / 2)) - 0.5)
        return torch.tensor([0.5 - math.sin(t) + low], dtype=F64)

    return (di.Inclusion(lambda t, x: torch.cos(t).expand_as(x), di.Orthant()), torch.tensor([0.5], dtype=F64), 3.0,
            exact)


def spiral():
    """3: affine field on the orthant; hits x1, leaves, hits x2, leaves."""
    A, x0 = torch.tensor([[0.3, 2.0], [-2.0, 0.3]], dtype=F64), torch.tensor([2.0, 1.0], dtype=F64)
    b = A @ torch.tensor([0.8, 0.5], dtype=F64)
    switches = (0.0, 1.1022954858, 1.3165041522, 1.7869608997, 2.1729370577, 4.0)
    fixed = (None, 0, None, 1, None)  # coordinate that rests at zero in each piece

    def advance(x, length, i):
        """x' = −(Ax − b) with coordinate i held, by the matrix exponential."""
        keep = torch.ones(2, dtype=F64)
        if i is not None:
            keep[i] = 0.0
            x = x * keep
        M = torch.zeros(3, 3, dtype=F64)
        M[:2, :2], M[:2, 2] = -A * keep[:, None], b * keep
        return (torch.linalg.matrix_exp(M * length) @ torch.cat([x, torch.ones(1, dtype=F64)]))[:2]

    def exact(t):
        x = x0
        for a, b_, i in zip(switches, switches[1:], fixed, strict=False):
            if t <= a:
                break
            x = advance(x, min(t, b_) - a, i)
        return x

    return di.Inclusion(lambda t, x: x @ A.T - b, di.Orthant()), x0, 4.0, exact


def disk():
    """6: −F = (1, 0) in the unit disk: straight to the circle, then along it, tan(p/2) = tan(p0/2)·e^{−(t − t*)}."""
    x0 = torch.tensor([-0.5, 0.6], dtype=F64)
    reached, p0 = 0.5 + 0.8, math.atan2(0.6, 0.8)

    def exact(t):
        if t <= reached:
            return x0 + torch.tensor([t, 0.0], dtype=F64)
        p = 2 * math.atan(math.tan(p0 / 2) * math.exp(reached - t))
        return torch.tensor([math.cos(p), math.sin(p)], dtype=F64)

    return di.Inclusion(lambda t, x: torch.tensor([-1.0, 0.0], dtype=F64).expand_as(x), di.Ball()), x0, 3.0, exact


def norm_flow():
    """11: F = 0, g = ‖x‖₂."""
    x0 = torch.tensor([[3.0, 4.0], [0.3, -0.4]], dtype=F64)
    return di.Inclusion(lambda t, x: 0 * x, di.L2()), x0, 2.0, lambda t: x0 * (
        1 - t / x0.norm(dim=-1, keepdim=True)).clamp(min=0)


def l1_flow():
    """11: F = 0, g = ‖x‖₁."""
    x0 = torch.tensor([[3.0, -0.7], [0.3, -4.0]], dtype=F64)
    return di.Inclusion(lambda t, x: 0 * x, di.L1()), x0, 2.0, lambda t: x0.sign() * (x0.abs() - t).clamp(min=0)


def elastic():
    """15 split: g = |x|, F = x: (x0 + 1)e^{−t} − 1 until ln(1 + x0), then 0."""
    x0 = torch.tensor([2.0], dtype=F64)
    return di.Inclusion(lambda t, x: x, di.L1()), x0, 2.0, lambda t: ((x0 + 1) * math.exp(-t) - 1).clamp(min=0)


def sup_error(problem, scheme, n):
    """Largest error over all steps; the steps are not aligned with the switches."""
    flow, x0, horizon, exact = problem()
    sol = di.solve(flow, x0, torch.linspace(0, horizon, n + 1, dtype=F64), scheme=scheme)
    return float((sol.x - torch.stack([exact(t) for t in sol.t.tolist()])).abs().max())


def observed_order(problem, scheme, numbers):
    """Slope of log error against log n, least squares."""
    errors = torch.tensor([sup_error(problem, scheme, n) for n in numbers], dtype=F64).log()
    n = torch.tensor(numbers, dtype=F64).log()
    n, errors = n - n.mean(), errors - errors.mean()
    return -float((n @ errors) / (n @ n))

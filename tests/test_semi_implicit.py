"""The scheme with a frozen activation pattern: its complementarity problem, its growth, its jumps."""

import torch

import diffincl as di

F64 = torch.float64


def test_growth_of_the_frozen_pattern_under_attack_and_sharp():
    """Ascent over weights and starts comes near the bound and never above it."""
    gen = torch.Generator().manual_seed(0)
    A, b1, b2, x0 = (torch.randn(*s, generator=gen, dtype=F64) for s in
                     ((3, 40, 3, 2), (3, 40, 3), (3, 40, 2), (40, 1, 2)))
    A, b1, b2, x0 = weights = [(2 * w).requires_grad_() for w in (A, b1, b2, x0)]
    optimiser = torch.optim.Adam(weights, lr=0.05)
    for _ in range(40):
        field = di.ResNetSField(*(di.PiecewiseConstant(w, 0.0, 3.0) for w in (A, b1, b2)))
        start = torch.relu(x0)
        x = di.solve(di.Inclusion(field, di.Orthant()), start, [0.0, 1.0, 2.0, 3.0], scheme=di.SemiImplicitEuler()).x
        bound = (start.norm(dim=-1).square() + 0.5 * b1.square().sum((0, -1))[:, None] + 1e-12).sqrt() \
            + torch.relu(b2).norm(dim=-1).sum(0)[:, None]
        ratio = x[-1].norm(dim=-1) / bound
        assert float(ratio.detach().max()) <= 1 + 1e-9
        optimiser.zero_grad()
        (-ratio).sum().backward()
        optimiser.step()
    assert float(ratio.detach().max()) > 0.9


def test_growth_of_the_frozen_pattern_needs_b1_not_its_positive_part():
    """The unit is active at x and its argument negative at x⁺: with (b1)₊ = 0 and (b2)₊ = 0 the norm would not grow."""
    A, b1, b2 = (torch.tensor(v, dtype=F64) for v in ([[1.3, 5.6]], [-1.45], [0.0, -4.0]))
    x0 = torch.tensor([0.0, 0.26], dtype=F64)
    flow = di.Inclusion(di.ResNetSField(A, b1, b2), di.Orthant())
    x, y = (di.solve(flow, x0, [0.0, 1.0], scheme=s).x[-1] for s in (di.SemiImplicitEuler(), di.ImplicitEuler()))
    assert float(x.norm()) > 2.5 * float(x0.norm())
    assert float(x.norm()) < (float(x0.square().sum()) + 0.5 * 1.45**2) ** 0.5
    assert float(y.norm()) <= float(x0.norm())


def test_the_frozen_pattern_jumps_so_it_has_no_factor():
    """The step is not continuous at a change of the pattern: two starts as near as you like leave far apart."""
    A, b1, b2 = (torch.tensor(v, dtype=F64) for v in ([[1.3, 5.6]], [-1.45], [0.0, -4.0]))
    flow = di.Inclusion(di.ResNetSField(A, b1, b2), di.Orthant())
    x0 = torch.tensor([[0.0, 1.45 / 5.6 + 1e-12], [0.0, 1.45 / 5.6 - 1e-12]], dtype=F64)
    x = di.solve(flow, x0, [0.0, 1.0], scheme=di.SemiImplicitEuler()).x[-1]
    assert float((x[0] - x[1]).norm()) > 0.5
    factor = di.bounds.discrete_sensitivity(flow, [0.0, 1.0], di.SemiImplicitEuler())
    assert factor.curve.tolist() == [1.0, torch.inf]
    growth = di.bounds.discrete_growth(flow, [0.0, 1.0], x0, di.SemiImplicitEuler())
    assert growth.curve[1].tolist() == [torch.inf, torch.inf]


def test_semi_implicit_solves_its_complementarity_problem():
    """0 <= u ⊥ (I + hJ)u − q >= 0 with J = A2DA1 and q = x − h(F(x) − Jx), also where J is not symmetric."""
    gen = torch.Generator().manual_seed(1)
    B, x0 = torch.randn(7, 7, generator=gen, dtype=F64), 3 * torch.rand(200, 7, generator=gen, dtype=F64)
    A1, A2 = 30 * torch.eye(7, dtype=F64), 30 * (B @ B.T / 7 + 2 * (B - B.T))
    b1, b2 = 20 * torch.randn(7, generator=gen, dtype=F64), 20 * torch.randn(7, generator=gen, dtype=F64)
    field = di.ResNetField(A1, b1, A2, b2)
    u = di.SemiImplicitEuler().step(field, di.Orthant(), *torch.tensor([0.0, 1.0]).unbind(), 1.0, x0)[0]
    D = (x0 @ A1.T + b1 > 0).to(F64)
    slack = u - x0 + ((u @ A1.T + b1) * D) @ A2.T - b2
    assert float((torch.minimum(u, slack).abs() / slack.abs().amax(-1, keepdim=True)).max()) < 1e-12
    assert bool(((u > 0).any(0) & (u == 0).any(0)).any())

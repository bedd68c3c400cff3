"""Pairs of trajectories that drift apart: what no bound may fall below.

A bound from A1 and A2 alone holds for all biases. So there are two worst pairs: that of the network as it is, by
gradient ascent over both starts, and that of the network with the worst biases. The biases can switch every hidden
unit of every layer on or off along a trajectory that stands still at (1, …, 1) and moves no coordinate to the boundary;
nearby trajectories then follow ∏(I − hA2DA1), whose norm is maximised over the patterns D of all layers in turn.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

import diffincl as di

from .nets import F64, Net

SUBSTEPS, TERMS = 8, 4  # of the flow: the pattern may change eight times a layer, whose exponential is a Taylor sum


def worst_over_biases(net: Net, *, flow: bool, restarts: int, sweeps: int, seed: int) -> float:
    """Growth factor of a pair of the network with the worst biases found, measured by `solve`."""
    n, terms = (SUBSTEPS, TERMS) if flow else (1, 1)
    A1, A2 = net.A1.repeat_interleave(n, 0), net.A2.repeat_interleave(n, 0)
    D, u = _patterns(A1, A2, 1 / len(A1), terms, restarts, sweeps, seed)
    b1 = 2 * D - 1 - A1.sum(-1)  # at x = (1, …, 1): A1x + b1 = ±1
    b2 = (A2 @ D.unsqueeze(-1)).squeeze(-1)
    fine = Net(net.title, net.kind, A1, b1, A2, b2)
    x0 = torch.ones_like(u)
    start = torch.stack([x0, x0 + 1e-4 * u])
    return float(_growth(fine, start, flow=flow, steps=8).max())


def _patterns(A1: Tensor, A2: Tensor, h: float, terms: int, restarts: int, sweeps: int,
              seed: int) -> tuple[Tensor, Tensor]:
    """Patterns D (N, m) of all layers and a direction (d,) along which the product of the layers is large.

    Forward with the patterns, backward with the adjoint, every unit on where that helps, and again: the product grows
    in every sweep, up to the terms of second order of a layer.
    """
    generator = torch.Generator().manual_seed(seed)
    N, m, d = A1.shape
    D = (torch.rand(restarts, N, m, generator=generator, dtype=F64) < 0.5).to(F64)
    u = torch.randn(restarts, d, generator=generator, dtype=F64)
    best, best_D, best_u = 0.0, D[0], u[0]
    for _ in range(sweeps):
        u = u / vector_norm(u, dim=-1, keepdim=True)
        x = [u]
        for k in range(N):
            x.append(_layer(x[-1], A1[k], A2[k], D[:, k], h, terms))
        size = vector_norm(x[-1], dim=-1)
        if float(size.max()) > best:
            best, best_D, best_u = float(size.max()), D[size.argmax()].clone(), u[size.argmax()].clone()
        p = x[-1] / size.unsqueeze(-1)
        for k in reversed(range(N)):
            D[:, k] = ((p @ A2[k]) * (x[k] @ A1[k].T) < 0).to(F64)
            p = _layer(p, A2[k].T, A1[k].T, D[:, k], h, terms)
        u = p
    return best_D, best_u


def _layer(x: Tensor, A1: Tensor, A2: Tensor, D: Tensor, h: float, terms: int) -> Tensor:
    """(I − hJ)x, or with more terms the Taylor sum of e^{−hJ}x, J = A2DA1."""
    total, term = x, x
    for j in range(1, terms + 1):
        term = -h / j * ((term @ A1.T) * D) @ A2.T
        total = total + term
    return total


def worst_pair(net: Net, *, flow: bool, pairs: int, iterations: int, seed: int) -> float:
    """Growth factor of the worst pair of the network as it is: Adam on the logarithm, kept in the orthant."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(2, pairs, net.A1.shape[-1], generator=generator, dtype=F64).relu()
    if net.starts is not None:
        some = torch.randperm(len(net.starts), generator=generator)[:pairs // 2]
        z[0, :len(some)] = net.starts[some]
        z[1, :len(some)] = (z[0, :len(some)] + 0.3 * z[1, :len(some)])
    z.requires_grad_()
    optimiser = torch.optim.Adam([z], lr=0.2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations, eta_min=0.002)
    best = torch.zeros(())
    for _ in range(iterations):
        growth = _growth(net, z, flow=flow, steps=4)
        best = torch.maximum(best, growth.detach().max())
        optimiser.zero_grad()
        (-(growth + 1e-9).log().sum()).backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            z.relu_()
    return float(best)


def _growth(net: Net, z: Tensor, *, flow: bool, steps: int) -> Tensor:
    """‖x(T) − y(T)‖/‖x0 − y0‖ of pairs (2, ..., d): of the layers, or of prox-Heun with ``steps`` to a layer."""
    scheme = di.ProxHeun() if flow else di.ForwardEuler()
    finer = di.Fixed(n=steps * len(net.A1)) if flow else None
    end = di.solve(net.flow(), z, net.t[[0, -1]] if flow else net.t, scheme=scheme, steps=finer).x[-1]
    apart = vector_norm(z[0] - z[1], dim=-1)
    return torch.where(apart > 1e-9, vector_norm(end[0] - end[1], dim=-1) / apart.clamp_min(1e-9), 0.0)

"""Statements on gradients: C14 (flow) and D5 (layers)."""

from __future__ import annotations

import warnings
from functools import partial

import torch
from torch import Tensor
from torch.linalg import matrix_norm

from ..bounds.discrete import product_of_factors
from ..bounds.pieces import Pieces, lead
from ..fields import ResNetSField, Weights
from ..inclusion import Inclusion
from ..schemes import ForwardEuler, ProxHeun
from ..solve import KinkWarning, solve
from ..steps import Fixed
from ..switching import ExactFlow
from . import controls, draws, keeps
from .case import Case, Look, Run, Sides, Statement
from .draws import HORIZON, LAYERS, NETWORK
from .hypotheses import above, all_of, no_box, not_convex, not_resnet, steps_of
from .paths import COARSE, FINE, coarse, is_exact
from .quantities import is_searched, norm, pieces, rates_of

__all__ = ["STATEMENTS"]

EXACT = 1e-8  # relative error of a gradient through located switches


def states_and_gradients(case: Case, x0: Tensor, target: Tensor, follow) -> tuple[list[Tensor], list[Tensor]]:
    """The states at the save times, and the gradients of ½‖x(T) − target‖² with respect to each."""
    with torch.enable_grad():
        searched = x0.requires_grad or is_searched(case.flow.field)
        states = [x0 if x0.requires_grad else x0.clone().requires_grad_()]
        for k in range(len(case.t) - 1):
            states.append(follow(case.flow, states[-1], case.t[k:k + 2]))
        loss = 0.5 * (states[-1] - target).square().sum()
        found = torch.autograd.grad(loss, states, create_graph=searched, retain_graph=True)
    return states, list(found)


def follow_layer(flow: Inclusion, x: Tensor, t: Tensor) -> Tensor:
    """One layer; the claim speaks of its own derivatives, whatever those of the flow are at a kink of g."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KinkWarning)
        return solve(flow, x, t, scheme=ForwardEuler()).x[-1]


def follow_flow(searching: bool, flow: Inclusion, x: Tensor, t: Tensor) -> Tensor:
    """One layer of the flow, differentiable."""
    if searching or not is_exact(flow):
        n = (COARSE if searching else FINE) // LAYERS
        return solve(flow, x, t, scheme=ProxHeun(), steps=Fixed(n=n)).x[-1]
    return solve(flow, x, t, scheme=ExactFlow()).x[-1]


# ------------------------------------------------------------------------------------------------------------------ D5


def layer_gradients(case: Case) -> Look:
    by_rate = {rate: _to_end(product_of_factors(pieces(case, rate), ForwardEuler(), rate)) for rate in rates_of(case)}

    def look(x0: Tensor, y0: Tensor, run: Run) -> dict[str, Sides]:
        _, found = states_and_gradients(case, x0, y0, follow_layer)
        size = norm(torch.stack(found))
        noise = 64 * torch.finfo(size.dtype).eps * (1 + size[:-1].detach())
        sides = {f"gradient, {rate} rate": Sides(size[:-1], lead(factor, size[1:]) * size[-1], noise)
                 for rate, factor in by_rate.items()}
        if isinstance(case.flow.field, ResNetSField):
            sides["never more than at the end"] = Sides(size[:-1], size[-1:].expand_as(noise), noise)
        return sides

    return look


def _to_end(curve: Tensor) -> Tensor:
    """From products from the start the products from each boundary to the end, with room for rounding."""
    return curve[-1] / curve[:-1] * (1 + 1e-12)


def above_limit_if_symmetric(case: Case) -> str:
    return above(2.0)(case) if isinstance(case.flow.field, ResNetSField) else ""


# ----------------------------------------------------------------------------------------------------------------- C14


def flow_gradients(case: Case) -> Look:
    by_rate = {rate: pieces(case, rate) for rate in rates_of(case)}

    def look(x0: Tensor, y0: Tensor, run: Run) -> dict[str, Sides]:
        searching = run is coarse
        found_in = case
        if not is_searched(case.flow.field) and not searching:
            found_in = case.with_weights({name: w.clone().requires_grad_() for name, w in case.weights.items()})
        states, found = states_and_gradients(found_in, x0, y0, partial(follow_flow, searching))
        size = norm(torch.stack(found))
        sides = {f"state, {rate} rate": _side(size[:-1], lead(_factor(p), size[1:]) * size[-1])
                 for rate, p in by_rate.items()}
        return sides if searching else sides | _of_weights(found_in, states, y0, size[-1], by_rate["global"])

    return look


def _side(observed: Tensor, bound: Tensor) -> Sides:
    return Sides(observed, bound, EXACT * observed.detach())


def _factor(p: Pieces) -> Tensor:
    """E_ν(t_k, T) for every k."""
    z = p.weighted(p.rate.amax(-1))
    return z.flip(0).cumsum(0).flip(0).exp() * (1 + 1e-12)


def _of_weights(case: Case, states: list[Tensor], target: Tensor, last: Tensor, p: Pieces) -> dict[str, Sides]:
    """Gradients of the weights of each layer against ∫‖p‖·(what multiplies it), one pair a network."""
    loss = 0.5 * (states[-1] - target).square().sum()
    found = dict(zip(case.weights, torch.autograd.grad(loss, list(case.weights.values())), strict=True))
    z = p.weighted(p.rate.amax(-1))
    phi = torch.where(z == 0, 1.0, torch.expm1(z) / torch.where(z == 0, 1.0, z))
    after = _factor(p) / z.exp()  # from the end of the layer to T
    adjoint = p.weighted(phi * after) * last.squeeze(-1)  # ∫ of the bound of ‖∂ℓ/∂x‖ over the layer
    parts = [_sizes(weights, x, follow_dense(case, x, k))
             for k, ((_, weights), x) in enumerate(zip(steps_of(case), states[:-1], strict=True))]
    sides = {}
    for name, factor in zip(("b2", "A2", "b1", "A1"), map(torch.stack, zip(*parts, strict=True)), strict=True):
        observed = found[name].flatten(2).norm(dim=-1)
        sides[name] = _side(observed.unsqueeze(-1), (factor * adjoint).unsqueeze(-1).detach())
    return sides


def follow_dense(case: Case, x: Tensor, k: int) -> Tensor:
    """States along a layer, (times, *batch, d)."""
    t = torch.linspace(float(case.t[k]), float(case.t[k + 1]), 33, dtype=torch.float64)
    with torch.no_grad():
        return solve(case.flow, x, t, scheme=ExactFlow()).x if is_exact(case.flow) else \
            solve(case.flow, x, t, scheme=ProxHeun()).x


def _sizes(weights: Weights, x: Tensor, along: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Largest 1, ‖σ(A1x + b1)‖, ‖A2‖ and ‖A2‖‖x‖ along a layer, (*weights,)."""
    A1, b1, A2, _ = (w.detach() for w in weights)
    hidden = torch.relu((A1.unsqueeze(-3) @ along.unsqueeze(-1)).squeeze(-1) + b1.unsqueeze(-2))
    outer = matrix_norm(A2, 2)
    return torch.ones_like(outer), _largest(norm(hidden)), outer, outer * _largest(norm(along))


def _largest(values: Tensor) -> Tensor:
    """The largest of values along time, with what it may exceed the grid by."""
    return (values.amax(0) + values.diff(dim=0).abs().amax(0)).squeeze(-1)


STATEMENTS = (
    Statement(
        "C14", "gradients through the flow", "C the orthant, a box or the whole space",
        "‖∂ℓ/∂x(t)‖ ≤ E_ν(t,T)‖∂ℓ/∂x(T)‖; for the weights of a layer ∫ of that times 1 (b₂), ‖σ(A₁x + b₁)‖ (A₂), ‖A₂‖ "
        "(b₁), ‖A₂‖‖x‖ (A₁)", "theory C14",
        all_of(not_convex, not_resnet, no_box), flow_gradients,
        draws.RandomNetworks((draws.free,), draws.boxes, HORIZON, pairs=1), controls.one_past_an_obstacle,
        keeps.modest),
    Statement(
        "D5", "gradients through the layers", "g convex; for ResNet-S h‖A‖² ≤ 2",
        "‖∂ℓ/∂x_n‖ ≤ ∏_{k ≥ n}ρ_k‖∂ℓ/∂x_N‖; for ResNet-S ‖∂ℓ/∂x_n‖ ≤ ‖∂ℓ/∂x_N‖", "theory D5",
        all_of(not_convex, not_resnet, above_limit_if_symmetric), layer_gradients,
        draws.RandomNetworks((draws.free, draws.symmetric_under_limit), draws.convex, NETWORK),
        controls.above_the_limit),
)

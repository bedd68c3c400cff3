"""Check a statement: random instances, an attack by gradient ascent, and a control that must be violated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import _check
from ..functions import ConvexSet, ProxFunction
from .case import Case, Claim, Statement
from .catalogue import STATEMENTS

__all__ = ["CheckResult", "Finding", "Witness", "attack", "check", "examine"]

# Steps of prox-Heun for converged trajectories, and for those inside the attack.
FINE, COARSE = 256, 24


@dataclass(frozen=True, eq=False)
class Witness:
    """The worst instance met: everything needed to look at it again.

    ``weights`` are the constant or per-layer values of the field by name, (layers, ...) or (...); ``x0`` and ``y0``
    (d,) the initial points; ``form`` the form of the claim and ``time`` when it was worst.
    """

    origin: str
    form: str
    time: float
    ratio: float
    x0: Tensor
    y0: Tensor
    weights: dict[str, Tensor]
    g: str


@dataclass(frozen=True, eq=False)
class Finding:
    """What one case showed.

    ``worst_ratio`` is the largest observed/bound at times after the first; ``violations`` counts instances in which
    observed exceeds the bound by more than rounding and, for flows, twice the step-doubling error.
    """

    origin: str
    instances: int
    worst_ratio: float
    violations: int
    witness: Witness


@dataclass(frozen=True, eq=False)
class CheckResult:
    """Verdict on a statement.

    Attributes
    ----------
    label : str
    holds : bool
        No violation in any case inside the hypothesis.
    worst_ratio : float
        Largest observed/bound inside the hypothesis, 1 where the bound is attained.
    trials : int
        Pairs of trajectories looked at, those of the attack included.
    witness : Witness
        Where the worst ratio was found.
    control : Finding
        The instances outside the hypothesis.
    control_violated : bool
        Whether the claim was refuted there, as it must be.
    findings : tuple of Finding
    """

    label: str
    holds: bool
    worst_ratio: float
    trials: int
    witness: Witness
    control: Finding
    control_violated: bool
    findings: tuple[Finding, ...]


def check(label: str, trials: int = 1000, seed: int = 0, *, ascent: int = 40) -> CheckResult:
    """Check a statement on random instances, attack it by gradient ascent, and put it to its control.

    Parameters
    ----------
    label : str
        One of ``diffincl.statements``: C2 C3 C5 C6 D1 D2 D3.
    trials : int
        Pairs of trajectories drawn (at least; every set of the hypothesis gets whole networks of 8 pairs).
    seed : int
    ascent : int
        Steps of the attack on every pair.

    Returns
    -------
    CheckResult

    Raises
    ------
    ValueError
        If the label is not known or a number is out of range.

    Examples
    --------
    >>> import diffincl as di
    >>> r = di.check("D3", trials=64, seed=0)
    >>> r.holds, r.control_violated, r.worst_ratio < 1 + 1e-9
    (True, True, True)
    """
    _check.choice("label", label, tuple(STATEMENTS))
    _check.count("trials", trials)
    statement, generator = STATEMENTS[label], torch.Generator().manual_seed(seed)
    cases = statement.draw(generator, trials)
    control = statement.control(generator, max(64, trials // 8))
    findings = [examine(statement, case, ascent=ascent) for case in cases]
    return verdict(statement, findings, examine_control(statement, control, ascent))


def examine_control(statement: Statement, case: Case, ascent: int) -> Finding:
    """The claim put to a case that must lie outside the hypothesis."""
    if not statement.outside(case):
        raise AssertionError(f"the control of {statement.label} lies inside its hypothesis")
    return examine(statement, case, ascent=ascent, inside=False)


def verdict(statement: Statement, findings: list[Finding], control: Finding) -> CheckResult:
    """Findings put together."""
    worst = max(findings, key=lambda f: f.worst_ratio)
    return CheckResult(statement.label, not any(f.violations for f in findings), worst.worst_ratio,
                       sum(f.instances for f in findings), worst.witness, control, control.violations > 0,
                       tuple(findings))


def examine(statement: Statement, case: Case, *, ascent: int = 40, inside: bool = True) -> Finding:
    """Look at a case as drawn and after an attack on its initial points; both count as instances.

    Raises
    ------
    ValueError
        If ``inside`` and the case is outside the hypothesis.
    """
    if inside and (reason := statement.outside(case)):
        raise ValueError(f"{case.origin} is outside the hypothesis of {statement.label}: {reason}.")
    claim = statement.claim(case)
    found = [_look(statement, case, claim, case.x0, case.y0, "")]
    if ascent:
        worse = attack(case, claim, ascent, steps=COARSE if statement.continuous else None)
        found.append(_look(statement, case, claim, *worse, ", attacked"))
    worst = max(found, key=lambda f: f.worst_ratio)
    return Finding(case.origin, sum(f.instances for f in found), worst.worst_ratio, sum(f.violations for f in found),
                   worst.witness)


def attack(case: Case, claim: Claim, ascent: int = 40, *, steps: int | None = None,
           rate: float = 0.1) -> tuple[Tensor, Tensor]:
    """Initial points that make observed/bound large: projected ascent (Adam) on the logarithm of the worst ratio.

    ``steps`` is that of ``Case.solve``. The best pair of every instance along the way is returned. Pairs are kept at
    least 1e-3 apart, so that rounding does not pass for expansion.
    """
    z = torch.stack([case.x0, case.y0]).clone().requires_grad_()
    optimiser = torch.optim.Adam([z], lr=rate)
    best, best_value = z.detach().clone(), torch.full(case.x0.shape[:-1], -torch.inf, dtype=z.dtype)
    for _ in range(ascent + 1):
        x, y = case.solve(z[0], z[1], steps)
        value = torch.stack([_log_ratio(o, b) for o, b in claim(x, y).values()]).amax(0)
        better = value.detach() > best_value
        best_value = torch.where(better, value.detach(), best_value)
        best = torch.where(better.unsqueeze(-1), z.detach(), best)
        optimiser.zero_grad()
        (-value).sum().backward()
        optimiser.step()
        with torch.no_grad():
            z.copy_(_apart(case, z))
    return best[0], best[1]


def _log_ratio(observed: Tensor, bound: Tensor) -> Tensor:
    """Logarithm of the worst ratio over time, one number an instance."""
    return (torch.log(observed.clamp_min(1e-30)) - torch.log(bound.clamp_min(1e-30))).amax(0)


def _apart(case: Case, z: Tensor) -> Tensor:
    """Back into the set, and at least 1e-3 apart."""
    x, y = _inside(case.flow.g, z[0]), _inside(case.flow.g, z[1])
    gap = y - x
    size = vector_norm(gap, dim=-1, keepdim=True)
    direction = torch.where(size > 0, gap / size.clamp_min(1e-300), torch.ones_like(gap))
    return torch.stack([x, torch.where(size < 1e-3, _inside(case.flow.g, x + 1e-3 * direction), y)])


def _inside(g: ProxFunction, x: Tensor) -> Tensor:
    """The nearest point of the domain of g, for the sets (convex or not) that the draws use."""
    return g.prox(x, 1.0) if isinstance(g, ConvexSet) or not g.convex else x


def _look(statement: Statement, case: Case, claim: Claim, x0: Tensor, y0: Tensor, how: str) -> Finding:
    """Observed against bound, with the numerical error of the trajectories taken off before a violation is called."""
    with torch.no_grad():
        x, y, error = _trajectories(statement, case, x0, y0)
        worst, violated = -torch.inf, torch.zeros(x0.shape[:-1], dtype=torch.bool)
        place: tuple[str, int, tuple[int, ...]] = ("", 0, ())
        for form, (observed, bound) in claim(x, y).items():
            if not bool((torch.isfinite(observed) & ~bound.isnan()).all()):
                raise ArithmeticError(f"{statement.label}, {case.origin}, {form}: observed or bound is not a number")
            ratio = torch.where(observed == 0, 0.0, observed / bound)
            violated |= (observed > bound + error).any(0)
            if float(ratio.max()) > worst:
                worst = float(ratio.max())
                k, *i = _check.first(ratio == ratio.max())
                place = (form, k, tuple(i))
    form, k, i = place
    witness = Witness(case.origin + how, form, float(case.t[k + 1]), worst, x0[i].clone(), y0[i].clone(),
                      _weights_of(case, i), type(case.flow.g).__name__)
    return Finding(case.origin, case.instances, worst, int(violated.sum()), witness)


def _trajectories(statement: Statement, case: Case, x0: Tensor, y0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Trajectories of a pair and a bound (ℓ1, so of every norm) of their numerical error at t[1:]."""
    if statement.continuous:
        x, y = case.solve(x0, y0, 2 * FINE)
        rough = case.solve(x0, y0, FINE)
        halving = 2 * ((x - rough[0]).abs().sum(-1) + (y - rough[1]).abs().sum(-1))
        steps = 2 * FINE
    else:
        x, y = case.solve(x0, y0, None)
        halving, steps = torch.zeros_like(x[..., 0]), len(case.t)
    size = (x.abs().sum(-1) + y.abs().sum(-1)).cummax(0).values
    rounding = 8 * torch.finfo(x.dtype).eps * steps * size
    return x, y, (halving.cummax(0).values + rounding)[1:]


def _weights_of(case: Case, i: tuple[int, ...]) -> dict[str, Tensor]:
    """The weights of the network that instance ``i`` belongs to, by name."""
    field = case.flow.field
    depth = len(getattr(field, "ensemble", ()))
    member = i[:depth]
    found = {}
    for name, curve in field.named_children():
        values = cast(Tensor, curve.values)
        found[name] = values[(slice(None), *member) if getattr(curve, "knots", ()) else member].detach().clone()
    return found

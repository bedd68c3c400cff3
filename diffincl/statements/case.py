"""What is looked at and what is claimed: cases, observed and bound, statements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, cast

import torch
from torch import Generator, Tensor

from ..curves import Constant, Curve, PiecewiseConstant, PiecewiseLinear
from ..fields import ResNetField
from ..inclusion import Inclusion

__all__ = ["Case", "Claim", "Draw", "Keep", "Look", "Path", "Run", "Sides", "Statement"]


@dataclass(frozen=True, eq=False)
class Case:
    """Instances that are looked at together.

    Attributes
    ----------
    origin : str
        Where the instances come from, in words.
    flow : Inclusion
        It may hold an ensemble of networks.
    t : Tensor (T,)
        Save times; for layers also their ends.
    x0, y0 : Tensor (*weights, pairs, d), float64
        Pairs of points.
    other : Inclusion, optional
        A second inclusion, where the statement compares two.
    given : mapping
        What else the hypothesis speaks of: words, and tensors that lead with the dimensions of the ensemble.
    fixed : bool
        ``y0`` belongs to the weights (an equilibrium, say), so an attack moves neither.
    """

    origin: str
    flow: Inclusion
    t: Tensor
    x0: Tensor
    y0: Tensor
    other: Inclusion | None = None
    given: Mapping[str, Tensor | str] = field(default_factory=dict)
    fixed: bool = False

    @property
    def instances(self) -> int:
        """Number of pairs."""
        return self.x0[..., 0].numel()

    @property
    def weights(self) -> dict[str, Tensor]:
        """The values of the curves of the field by name; nothing for a plain callable."""
        if not isinstance(self.flow.field, ResNetField):
            return {}
        return {name: cast(Tensor, curve.values) for name, curve in self.flow.field.named_children()}

    def number(self, name: str) -> Tensor:
        """A given tensor."""
        return cast(Tensor, self.given[name])

    def with_weights(self, values: Mapping[str, Tensor]) -> Case:
        """The same case with other values in the curves of its field."""
        return replace(self, flow=_with_values(self.flow, dict(values)))

    def select(self, networks: Tensor, pairs: slice = slice(None)) -> Case:
        """Some networks of the ensemble and some of their pairs (without an ensemble: pairs ``networks``)."""
        flow = self.flow
        if not (isinstance(flow.field, ResNetField) and flow.field.ensemble):
            return replace(self, x0=self.x0[networks], y0=self.y0[networks])
        given = {name: value[networks] if isinstance(value, Tensor) and value.ndim else value
                 for name, value in self.given.items()}
        other = None if self.other is None else _of_networks(self.other, networks)
        return replace(self, flow=_of_networks(flow, networks), other=other, given=given,
                       x0=self.x0[networks][:, pairs], y0=self.y0[networks][:, pairs])


def _of_networks(flow: Inclusion, networks: Tensor) -> Inclusion:
    values = {}
    for name, curve in flow.field.named_children():
        value = cast(Tensor, curve.values)
        values[name] = value[:, networks] if isinstance(curve, Curve) else value[networks]
    return _with_values(flow, values)


def _with_values(flow: Inclusion, values: dict[str, Tensor]) -> Inclusion:
    curves = {}
    for name, curve in flow.field.named_children():
        if isinstance(curve, PiecewiseConstant | PiecewiseLinear):
            curves[name] = type(curve)(values[name], curve.t0, curve.t1)
        elif isinstance(curve, Constant):
            curves[name] = values[name]
    return Inclusion(type(flow.field)(**curves), flow.g)


class Path(NamedTuple):
    """Trajectories (T, *batch, d) and a bound, in ℓ1 and so in every ℓp, of their numerical error (T, *batch)."""

    x: Tensor
    error: Tensor


class Run(Protocol):
    """How a flow is followed: from x0 to the times t."""

    def __call__(self, flow: Inclusion, x0: Tensor, t: Tensor) -> Path: ...


class Sides(NamedTuple):
    """Both sides of an inequality, observed <= bound, at t[1:] or at one time, (times, *batch), and the numerical error
    of the observed side."""

    observed: Tensor
    bound: Tensor
    error: Tensor


# The pairs of a case, and how flows are followed, to both sides of every form of the claim.
Look = Callable[[Tensor, Tensor, Run], dict[str, Sides]]
Claim = Callable[[Case], Look]

# The nearest weights inside a hypothesis, from a case and weights by name.
Keep = Callable[[Case, dict[str, Tensor]], dict[str, Tensor]]


class Draw(Protocol):
    """Random instances inside a hypothesis, of several ``kinds``, ``pairs`` for each network."""

    @property
    def kinds(self) -> int: ...

    @property
    def pairs(self) -> int: ...

    def __call__(self, generator: Generator, kind: int, networks: int) -> Case: ...


@dataclass(frozen=True)
class Statement:
    """A theorem that can be checked.

    Attributes
    ----------
    label, title, hypothesis, bound, source : str
        For people: label of the theory and the statement in words and formulas.
    outside : Case -> str
        The hypothesis as code: which part of it a case misses and by how much; empty inside.
    claim : Case -> Look
        The bound as code: reads the weights of a case once, then gives observed and bound for pairs of points. It does
        not look at the hypothesis, so that a control can be put to it.
    draw : Draw
        Random instances inside the hypothesis.
    control : (generator, networks) -> Case
        Instances outside it, of which some must violate the claim.
    keep : (Case, weights by name) -> weights, optional
        The nearest weights inside the hypothesis, for the ascent over weights; None where they stay as drawn.
    trained : bool
        Whether trained networks with pairs of images are cases of it, where they are inside the hypothesis.
    """

    label: str
    title: str
    hypothesis: str
    bound: str
    source: str
    outside: Callable[[Case], str]
    claim: Claim
    draw: Draw
    control: Callable[[Generator, int], Case]
    keep: Keep | None = None
    trained: bool = False


def one_instance(case: Case, index: tuple[int, ...]) -> Case:
    """A case of one pair."""
    if len(index) == 2:
        return case.select(torch.tensor([index[0]]), slice(index[1], index[1] + 1))
    return case.select(torch.tensor([index[0]]))

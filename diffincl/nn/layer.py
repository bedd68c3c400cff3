"""An inclusion as a layer: x(0) in, x(T) out."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from .. import _check, norms
from ..bounds import discrete_sensitivity
from ..fields import (
    ConvResNetDField,
    ConvResNetField,
    ConvResNetSField,
    Field,
    FieldFunction,
    ResNetDField,
    ResNetField,
    ResNetSField,
    as_field,
)
from ..fields.layered import LayeredField
from ..functions import Box, ConvexSet, Orthant, ProxFunction, Whole
from ..inclusion import Inclusion
from ..schemes import ARS222, ForwardEuler, ProxHeun, Scheme
from ..solve import solve
from ..steps import plan
from .base import Certificate
from .factors import ROOM, euler_factor, symmetric_factor
from .maps import Image, Maps

__all__ = ["InclusionLayer"]

QUICK_FIELDS = (ResNetField, ResNetDField, ResNetSField, ConvResNetField, ConvResNetDField, ConvResNetSField)
QUICK_SETS = (Whole, Orthant, Box)
QUICK_SCHEMES = (ForwardEuler, ProxHeun, ARS222)
STACKED = 2**14  # states of up to so many entries are looked at in one stack, larger ones one by one, without a copy


class InclusionLayer(nn.Module):
    """x(0) ↦ x(T) for −x' ∈ ∂g + F, one step of the scheme between successive times.

    Parameters
    ----------
    field : Field or callable F(t, x)
        Its parameters are learned.
    g : ProxFunction
    t : Tensor (N + 1,) or sequence
        Ends of the N layers.
    scheme : Scheme, optional
        ``ForwardEuler()`` by default: N residual layers.
    gradient : "backprop" or "checkpoint"
        See ``solve``; it may be set later, too.

    Notes
    -----
    With a fixed-step scheme the layer works under torch.func and torch.compile(fullgraph=True).

    Examples
    --------
    >>> import torch, diffincl as di
    >>> field = di.ResNetSField(torch.eye(2), torch.zeros(2), torch.ones(2))
    >>> InclusionLayer(field, di.Orthant(), [0.0, 1.0])(torch.tensor([[2.0, 0.5]]))
    tensor([[1., 1.]])
    """

    field: Field

    def __init__(self, field: Field | FieldFunction, g: ProxFunction, t: Tensor | list[float],
                 scheme: Scheme | None = None, *, gradient: str = "backprop"):
        super().__init__()
        self.gradient = gradient
        self._fitting: object = None  # what the field took last
        self.field, self.g = as_field(field), g
        self.scheme = ForwardEuler() if scheme is None else scheme
        # In the dtype it came in, which says how near a knot of the weights a time must be to count as that knot.
        self.set_times(t.detach().cpu() if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64))

    def set_times(self, t: Tensor) -> None:
        """Lay out the steps."""
        layout = plan(self.flow.field, t)
        self.t = t
        self.times = layout.times()  # floats, which torch.compile can read
        self.ends = layout.boundaries()
        self.instants = torch.tensor(self.ends, dtype=torch.float64).unbind()

    @property
    def flow(self) -> Inclusion:
        """The inclusion with the present weights."""
        return Inclusion(self.field, self.g)

    def forward(self, x0: Tensor) -> Tensor:
        """State at the last time, shape of ``x0`` (*batch, d), which must lie in the domain of g."""
        if torch.is_autocast_enabled(x0.device.type):  # states keep the precision of the weights
            x0 = x0.to(next((p.dtype for p in self.field.parameters()), x0.dtype))
        keeps = self.gradient == "backprop" or not x0.numel()  # of no samples solve makes nothing
        x = self._quick(x0) if keeps and self._is_quick() else None
        if x is None:
            x = solve(self.flow, x0, self.times, scheme=self.scheme, gradient=self.gradient).x[-1]
        return x

    def states(self, x0: Tensor) -> Tensor:
        """The states before the first and after each layer, (N + 1, *batch, d); no gradients."""
        with torch.no_grad():
            return solve(self.flow, x0, self.times, scheme=self.scheme).x

    def _is_quick(self) -> bool:
        """Whether nothing can go wrong on the way but values that are not finite."""
        return type(self.field) in QUICK_FIELDS and type(self.g) in QUICK_SETS and type(self.scheme) in QUICK_SCHEMES

    def _quick(self, x0: Tensor) -> Tensor | None:
        """What ``solve`` does, the states on the way not kept and the weights read once; None where ``solve`` would
        complain, which it then may."""
        self._validate(x0)
        if _check.concrete(x0) and not _inside(self.g, x0):
            return None
        step, x, points, look, small = self.scheme.step, x0, [], _check.concrete(x0), x0.numel() <= STACKED
        assert isinstance(self.field, LayeredField)
        for F, (a, b), (t, t_next) in zip(self.field.along(self.ends), pairwise(self.ends), pairwise(self.instants),
                                          strict=True):
            x, z = step(F, self.g, t, t_next, b - a, x)
            if look:  # a sum is finite only if its terms are, and the prox of a finite z is
                points.append(z.detach() if small else z.detach().sum())
        return x if not look or math.isfinite(float(torch.stack(points).sum())) else None

    def _validate(self, x0: Tensor) -> None:
        """``field.validate``, once for states of one kind."""
        assert isinstance(self.field, LayeredField)
        weight = self.field.b2.values
        kind = (x0.shape, x0.dtype, x0.device, weight.dtype, weight.device)
        if torch.compiler.is_compiling():  # what is remembered would have to be what it was when this was compiled
            self.field.validate(x0)
        elif self._fitting != kind:
            self.field.validate(x0)
            self._fitting = kind

    def certificate(self, image: Image | None = None, *, status: str = norms.CERTIFIED) -> Certificate:
        """The ℓ2 Lipschitz factor of x(0) ↦ x(T) with the present weights.

        Of a dense field the bound ``discrete_sensitivity`` with rate "step"; of a convolutional one the product of the
        factors of its layers, on images of that size or, without ``image``, of every size (``ForwardEuler`` only).
        """
        field = self.flow.field
        if isinstance(field, ConvResNetField):
            return self._product(field, image, status)
        if image is not None:
            raise ValueError(f"a layer with a {type(field).__name__} has no image; got image = {image!r}.")
        bound = discrete_sensitivity(self.flow, self.times, self.scheme, rate="step")
        return Certificate(float(bound.curve[-1]), bound.status, bound.statement)

    def _product(self, field: ConvResNetField, image: Image | None, status: str) -> Certificate:
        """The product of the factors of the steps of forward Euler, each with the weights at its start."""
        if not (isinstance(self.scheme, ForwardEuler) and self.g.convex):
            raise ValueError(f"the factor of convolutional layers is that of ForwardEuler() with a convex g; got "
                             f"{self.scheme} and {self.g}.")
        layers = []
        for a, b in pairwise(plan(field, self.t).stops):
            weights = field.weights_on(a, b)(a)
            A1, A2, h = weights.A1.detach(), weights.A2.detach(), b - a
            maps = Maps(A1.ndim - 2, tuple(A1.shape[2:]), field.padding_mode)
            if isinstance(field, ConvResNetSField):
                norm = maps.norm(A1, image, status)
                layers.append(symmetric_factor(h * float(norm.value) ** 2 * ROOM, norm.status))
            else:
                layers.append(euler_factor(maps, A1, A2, h, image, status))
        value = 1.0
        for layer in layers:
            value = value if layer.value == 1 else value * layer.value * ROOM
        return Certificate(value, layers[0].status, f"product of {len(layers)} factors")

    def extra_repr(self) -> str:
        first, last, steps = self.times[0], self.times[-1], len(self.times) - 1
        return f"g={self.g}, {steps} steps from t = {first:g} to {last:g}, scheme={self.scheme}"


def _inside(C: ProxFunction, x: Tensor) -> bool:
    """Whether all states lie in C; False if one is NaN."""
    if isinstance(C, Orthant):  # in one pass, without the tolerance that ``solve`` has
        return not x.numel() or float(x.detach().amin()) >= 0
    return isinstance(C, ConvexSet) and bool(C.contains(x).all())

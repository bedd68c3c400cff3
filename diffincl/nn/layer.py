"""An inclusion as a layer: x(0) in, x(T) out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..fields import Field, FieldFunction, as_field
from ..functions import ProxFunction
from ..inclusion import Inclusion
from ..schemes import ForwardEuler, Scheme
from ..solve import solve
from ..steps import plan

__all__ = ["InclusionLayer"]


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

    def __init__(self, field: Field | FieldFunction, g: ProxFunction, t: Tensor | list[float],
                 scheme: Scheme | None = None, *, gradient: str = "backprop"):
        super().__init__()
        self.gradient = gradient
        # In the dtype it came in, which says how near a knot of the weights a time must be to count as that knot.
        self.t = t.detach().cpu() if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64)
        self.field, self.g = as_field(field), g
        self.scheme = ForwardEuler() if scheme is None else scheme
        layout = plan(self.flow.field, self.t)
        self.times = [layout.t[k] for k in layout.saves]  # floats, which torch.compile can read

    @property
    def flow(self) -> Inclusion:
        """The inclusion with the present weights."""
        return Inclusion(self.field, self.g)

    def forward(self, x0: Tensor) -> Tensor:
        """State at the last time, shape of ``x0`` (*batch, d), which must lie in the domain of g."""
        return solve(self.flow, x0, self.times, scheme=self.scheme, gradient=self.gradient).x[-1]

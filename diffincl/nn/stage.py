"""Layers of one resolution: weights as curves in time, kept to the structure of their variant."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from .. import _check, bounds, norms, rates
from ..curves import Curve, PiecewiseConstant, PiecewiseLinear
from ..fields import (
    ConvResNetDField,
    ConvResNetField,
    ConvResNetSField,
    ResNetDField,
    ResNetField,
    ResNetSField,
    Weights,
)
from ..fields.layered import LayeredField, Nonnegative, Symmetric
from ..functions import Orthant
from .factors import ROOM, euler_factor
from .layer import InclusionLayer
from .maps import Maps

__all__ = ["CURVES", "VARIANTS", "Stage"]

VARIANTS = ("resnet", "d", "s")
CURVES = {"constant": PiecewiseConstant, "linear": PiecewiseLinear}
FIELDS = {False: {"resnet": ResNetField, "d": ResNetDField, "s": ResNetSField},
          True: {"resnet": ConvResNetField, "d": ConvResNetDField, "s": ConvResNetSField}}
MARGIN = 0.98  # of the limit that a norm from below is held to while training
TURNS = 2  # power iterations after each optimiser step


class Stage(InclusionLayer):
    """``depth`` residual layers x⁺ = ReLU(x − h(A2 σ(A1 x + b1) − b2)), h = horizon/depth, weights curves in time.

    Parameters
    ----------
    variant : "resnet", "d" (A2 >= 0) or "s" (A2 = A1ᵀ)
    width : int
        Features of the state, or channels.
    depth : int
        Number of layers.
    image : sequence of int
        Size (L,) or (H, W) of the images; empty for dense layers.
    hidden : int, optional
        Features between A1 and A2; as ``width`` by default.
    kernel : int, odd
        Side of the kernels, if there is an image.
    horizon : float
        T.
    curves : "constant" or "linear"
        Weights constant on each of ``depth`` pieces, or linear between depth + 1 equal nodes.
    limit : float, at most 2
        What h‖A‖² is kept under in "s": nonexpansive up to 2, and up to 1 insensitive to the depth.
    padding_mode : "zeros" or "circular"
    generator : torch.Generator, optional
        Of the initial weights: A1 and A2 normal of variance 2/fan in, A2 divided by T, nonnegative in "d"; biases 0.

    Examples
    --------
    >>> import torch
    >>> stage = Stage("s", 3, depth=4, generator=torch.Generator().manual_seed(0))
    >>> stage(torch.ones(2, 3)).shape, stage.at_depth(8).h
    (torch.Size([2, 3]), 0.125)
    """

    field: LayeredField  # type: ignore[assignment]  # no other
    directions: Tensor

    def __init__(self, variant: str, width: int, depth: int, *, image: Sequence[int] = (), hidden: int | None = None,
                 kernel: int = 3, horizon: float = 1.0, curves: str = "constant", limit: float = 1.0,
                 padding_mode: str = "zeros", generator: torch.Generator | None = None):
        _check.choice("variant", variant, VARIANTS)
        depth, limit = _check.count("depth", depth), _check.number("limit", limit, above=0.0)
        if limit > 2:
            raise ValueError(f"limit must be at most 2, beyond which a layer of ResNet-S can expand; got {limit:g}.")
        horizon = _check.number("horizon", horizon, above=0.0)
        _check.choice("curves", curves, tuple(CURVES))
        taps = (kernel,) * len(image)
        hidden = width if hidden is None else _check.count("hidden", hidden)

        def curve(*shape: int, size: float = 0.0, nonnegative: bool = False) -> Curve:
            values = size * torch.randn(*([1] if curves == "linear" else [depth]), *shape, generator=generator)
            if curves == "linear":
                values = values.repeat(depth + 1, *[1] * len(shape))
            return CURVES[curves](nn.Parameter(values.abs() if nonnegative else values), 0.0, horizon)

        A1 = curve(hidden, width, *taps, size=math.sqrt(2 / (width * math.prod(taps))))
        weights = {"A1": A1, "b1": curve(hidden)}
        if variant != "s":
            size = math.sqrt(2 / (hidden * math.prod(taps))) / horizon
            weights["A2"] = curve(width, hidden, *taps, size=size, nonnegative=variant == "d")
        more = {"padding_mode": padding_mode} if image else {}
        field = FIELDS[bool(image)][variant](*weights.values(), curve(width), **more)
        super().__init__(field, Orthant(), torch.linspace(0, horizon, depth + 1, dtype=torch.float64))
        self.variant, self.limit, self.image, self.kernel = variant, limit, tuple(image), taps
        self.padding_mode, self.kind = padding_mode, curves
        if isinstance(field, Symmetric):
            self.register_buffer("directions", torch.randn(len(field.A.values), width, *image, generator=generator))
            self.cap_(turns=20)

    @property
    def depth(self) -> int:
        """Number N of layers."""
        return len(self.times) - 1

    @property
    def h(self) -> float:
        """Length of a layer, T/N."""
        return self.times[-1] / self.depth

    @property
    def pieces(self) -> int:
        """Number of pieces of the weights."""
        return len(self.field.knots) - 1

    def at_depth(self, n: int) -> Stage:
        """The same curves, shared, with n layers; n is a multiple of the number of their pieces.

        Raises
        ------
        ValueError
            If a layer would lie across a knot of the weights.
        """
        n, pieces = _check.count("n", n), self.pieces
        if n % pieces:
            raise ValueError(f"n must be a multiple of {pieces}, the number of pieces of the weights; got {n}. Take "
                             f"{pieces * max(1, round(n / pieces))}.")
        other = copy.copy(self)
        other.set_times(torch.linspace(0, self.times[-1], n + 1, dtype=torch.float64))
        return other

    def refine(self, factor: int = 2) -> Stage:
        """``factor`` times as many layers and pieces, the same functions of time: a copy to train on."""
        fine = copy.deepcopy(self)
        finer = (CURVES[self.kind](nn.Parameter(curve.refine(factor).values.detach()), curve.t0, curve.t1)
                 for curve in self.curves.values())
        fine.field = FIELDS[bool(self.image)][self.variant](*finer, **self.padding)
        if isinstance(fine.field, Symmetric):
            nodes = torch.linspace(0, len(self.directions) - 1, len(fine.field.A.values)).round().long()
            fine.directions = self.directions[nodes]
        return fine.at_depth(factor * self.depth)

    @property
    def padding(self) -> dict[str, str]:
        """How the field was told to pad, if it convolves."""
        return {"padding_mode": self.padding_mode} if self.image else {}

    @property
    def weight(self) -> Tensor:
        """The values of A of ResNet-S, (nodes, ...)."""
        assert isinstance(self.field, Symmetric)
        return self.field.A.values

    @property
    def curves(self) -> dict[str, Curve]:
        """The weights by name."""
        return {name: curve for name, curve in self.field.named_children() if isinstance(curve, Curve)}

    @torch.no_grad()
    def constrain_(self) -> None:
        """After an optimiser step: A2 >= 0 in "d"; in "s" h‖A‖² under the limit, by power iteration from below with a
        margin. ``certify_`` settles what that leaves open."""
        if isinstance(self.field, Nonnegative):
            self.field.A2.values.clamp_(min=0)
        if isinstance(self.field, Symmetric):
            self.cap_(TURNS)

    @torch.no_grad()
    def cap_(self, turns: int) -> None:
        """Shorten the A of "s" whose norm, from below, is over the margin."""
        A, v = self.weight, self.directions
        adjoint = torch.stack([self.field.adjoint(A_k) for A_k in A]) if self.image else A.mT
        size = torch.zeros(len(A))
        for _ in range(turns):
            w = self.field.each(v, A)
            v = self.field.each(w, adjoint)
            before, after = (vector_norm(u.flatten(1), dim=1) for u in (w, v))
            v = v / after.clamp_min(1e-30).reshape(-1, *[1] * (v.ndim - 1))
            size = after / before.clamp_min(1e-30)  # ‖Aᵀw‖/‖w‖, from below
        self.directions.copy_(v)
        self._shorten_(size, MARGIN)

    @torch.no_grad()
    def certify_(self, status: str = "float") -> float:
        """Shorten the A of "s" whose norm, from above, is over the limit; the largest h‖A‖² before."""
        if not isinstance(self.field, Symmetric):
            return 0.0
        size = self.norm_of(self.weight, status).value
        before = float((self.h * size**2).max())
        self._shorten_(size, 1 - 1e-6)
        return before

    def _shorten_(self, size: Tensor, share: float) -> None:
        most = math.sqrt(share * self.limit / self.h)
        A = self.weight
        A.mul_((most / size.clamp_min(1e-30)).clamp(max=1.0).to(A).reshape(-1, *[1] * (A.ndim - 1)))

    def norm_of(self, A: Tensor, status: str = "float") -> norms.OperatorNorm:
        """Norms of matrices or kernels (nodes, ...) on images of this stage, from above."""
        if not self.image:
            return norms.dense(A, status=status)
        mode = self.padding_mode
        half = [k // 2 for k in A.shape[-len(self.image):]]
        if len(self.image) == 1:
            return norms.conv1d(A, self.image[0], padding=half[0], padding_mode=mode, status=status)
        return norms.conv2d(A, self.image, padding=half, padding_mode=mode, status=status)

    def factor(self, status: str = "float", rate: str = "best") -> norms.OperatorNorm:
        """Lipschitz factor of the stage in ℓ2, from above: the last of ``factors``; with "best" at most R8 along all
        layers (`rates.chain`, seconds)."""
        if rate != "best" or isinstance(self.field, Symmetric):
            found = self.factors(status, rate)
            return norms.OperatorNorm(found.value[-1], found.status)
        A1, A2 = (torch.stack(A).detach() for A in zip(*((w.A1, w.A2) for w in self.layers()), strict=True))
        h, mode = torch.tensor(self.times, dtype=torch.float64).diff(), self.padding_mode
        multiplier = (rates.conv.step_multipliers(A1, A2, self.image, h, padding_mode=mode) if self.image else
                      rates.step_multipliers(A1, A2, h))
        found = self._factors(status, rate, multiplier)
        together = rates.chain(A1, A2, h, image=self.image, padding_mode=mode, multiplier=multiplier)
        return norms.OperatorNorm(torch.minimum(found.value[-1], together), found.status)

    def factors(self, status: str = "float", rate: str = "best") -> norms.OperatorNorm:
        """Lipschitz factors of the first 0, 1, …, N layers in ℓ2, (N + 1,), from above: D3 for "s", else products over
        the layers: with "global" 1 + h‖A1‖‖A2‖ (an instant), with "best" the least of the ladder and R8, with another
        rate of the ladder, for dense layers, its product."""
        return self._factors(status, rate, None)

    @torch.no_grad()
    def _factors(self, status: str, rate: str, multiplier: Tensor | None) -> norms.OperatorNorm:
        """``factors``; R8 with a multiplier (N, m), or optimised."""
        if isinstance(self.field, Symmetric):
            size = self.norm_of(self.weight, status).value.max()
            layer = (self.h * size**2 * (1 + 8 * norms.UNIT) - 1).clamp_min(1.0)
            rounded_up = torch.where(layer > 1, 1 + self.depth * norms.UNIT, 1.0)
            return norms.OperatorNorm(layer ** torch.arange(self.depth + 1) * rounded_up, status)
        if self.image:
            return norms.OperatorNorm(self._products_of_convolutions(status, rate, multiplier), status)
        bound = bounds.discrete_sensitivity(self.flow, self.t, rate=rate, multiplier=multiplier)
        return norms.OperatorNorm(bound.curve, bound.status)

    def layers(self) -> list[Weights]:
        """The weights that each layer multiplies with."""
        return [self.field.weights_on(a, b)(a) for a, b in pairwise(self.times)]

    def _products_of_convolutions(self, status: str, rate: str, multiplier: Tensor | None) -> Tensor:
        if rate == "global":
            norm = [self.norm_of(curve.values, status).value for name, curve in self.curves.items() if name[0] == "A"]
            pieces = norm if len(norm[0]) == self.pieces else [torch.maximum(v[:-1], v[1:]) for v in norm]
            layers = (1 + self.h * pieces[0] * pieces[1]).log().repeat_interleave(self.depth // self.pieces)
            return nn.functional.pad(layers.cumsum(0), (1, 0)).exp() * (1 + 1e-12)
        values, maps = [1.0], Maps(len(self.image), self.kernel, self.padding_mode)
        chosen = [None] * self.depth if multiplier is None else multiplier
        for w, (a, b), lam in zip(self.layers(), pairwise(self.times), chosen, strict=True):
            values.append(values[-1] * euler_factor(maps, w.A1, w.A2, b - a, self.image, status, lam).value * ROOM)
        return torch.tensor(values, dtype=torch.float64)

    def kept(self, samples: int) -> int:
        """Bytes that the layers keep for the backward pass of a batch: a state and the hidden units of every layer."""
        A1 = self.field.weights_now().A1
        hidden, width = A1.shape[:2]
        return self.depth * samples * (width + hidden) * math.prod(self.image) * A1.element_size()

    def cost(self) -> Tensor:
        """∫(‖A1‖² + ‖A2‖²)dt in the Frobenius norm of matrices or kernels (theory C8)."""
        total = torch.stack([_squared(curve) for name, curve in self.curves.items() if name.startswith("A")]).sum()
        return 2 * total if isinstance(self.field, Symmetric) else total

    def roughness(self) -> Tensor:
        """∫‖θ'‖²dt of all weights as if they were linear between nodes (of pieces, between their middles)."""
        steps = [curve.values.diff(dim=0).square().sum() / curve.length for curve in self.curves.values()]
        return torch.stack(steps).sum()


def _squared(curve: Curve) -> Tensor:
    """∫‖A(t)‖²dt."""
    A = curve.values.flatten(1)
    if isinstance(curve, PiecewiseConstant):
        return curve.length * (A * A).sum()
    a, b = A[:-1], A[1:]
    return curve.length / 3 * (a * a + a * b + b * b).sum()

"""The networks of the ladder: random ones, and classifiers trained on the digits."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor

import diffincl as di
from diffincl.data import ImageData
from diffincl.training import accuracy, fit

F64 = torch.float64
DEPTH = 10
NAMES = {"resnet": "free", "d": "D", "s": "S"}


@dataclass(frozen=True, eq=False)
class Net:
    """Ten residual layers on the orthant, T = 1: A1 (10, m, d), b1 (10, m), A2 (10, d, m), b2 (10, d), float64."""

    title: str
    kind: str
    A1: Tensor
    b1: Tensor
    A2: Tensor
    b2: Tensor
    starts: Tensor | None = None  # states of test images, (n, d)
    note: str = ""

    @property
    def t(self) -> Tensor:
        return torch.linspace(0, 1, len(self.A1) + 1, dtype=F64)

    def flow(self, b1: Tensor | None = None, b2: Tensor | None = None) -> di.Inclusion:
        """The inclusion, with other biases if they are given."""
        curve = di.PiecewiseConstant
        b1, b2 = curve(self.b1 if b1 is None else b1), curve(self.b2 if b2 is None else b2)
        if self.kind == "s":
            return di.Inclusion(di.ResNetSField(curve(self.A1), b1, b2), di.Orthant())
        field = di.ResNetDField if self.kind == "d" else di.ResNetField
        return di.Inclusion(field(curve(self.A1), b1, curve(self.A2), b2), di.Orthant())


def random_net(kind: str, d: int, shared: bool, generator: Generator) -> Net:
    """m = d hidden units, entries N(0, 1/d), |A2| for D, A1ᵀ for S; one set for all layers or one a layer."""
    def draw(*shape: int) -> Tensor:
        value = torch.randn(1 if shared else DEPTH, *shape, generator=generator, dtype=F64)
        return value.expand(DEPTH, *shape).contiguous()

    A1, A2, b1, b2 = d**-0.5 * draw(d, d), d**-0.5 * draw(d, d), 0.1 * draw(d), 0.1 * draw(d)
    A2 = {"resnet": A2, "d": A2.abs(), "s": A1.mT.contiguous()}[kind]
    return Net(f"{NAMES[kind]}, d = {d}, {'one set' if shared else 'a set a layer'}", kind, A1, b1, A2, b2)


def trained_net(variant: str, data: ImageData, epochs: int, seed: int) -> Net:
    """A dense classifier of width 32, trained in float32; bounds are those of the stored weights."""
    net = di.nn.DenseResNet(64, 10, variant=variant, depth=DEPTH, generator=Generator().manual_seed(seed))
    fit(net, data, epochs=epochs, seed=seed)
    field = net.layers.field
    at = [field.weights_on(a, b, F64)(a) for a, b in pairwise(net.layers.t.tolist())]
    weights = [torch.stack(w).detach().contiguous() for w in zip(*at, strict=True)]
    share = accuracy(net, data.test_x, data.test_y)
    with torch.no_grad():
        starts = net.features(data.test_x).to(F64)
    return Net(f"{NAMES[variant]}, d = 32, trained", variant, *weights, starts=starts, note=f"accuracy {share:.3f}")

"""What a training step of a library network costs beside the same network written by hand in plain torch, same run.

    python benchmarks/training.py [--repeats 200] [--compile] [--certificates] [--seed 0] [--json FILE]

Prints milliseconds of processor time a step (minima over interleaved repeats, one thread, float32) and two ratios:
diffincl/hand, and for ResNet-S the step with the norms kept under the limit against the one without. A step is: loss,
gradient, clipping, AdamW, projection onto the structure (the same two power iterations in both). By hand the optimiser
is torch's AdamW as torch calls it by default ("hand"), or fused as in the library ("fused hand").

Then parts of a step, each beside what it might be: the optimiser as a loop, with foreach and fused; the power
iterations of ResNet-S in one call for all layers and under vmap; gradients with all states kept and computed again;
large images with the channels last and as they come. ``--compile`` adds steps through torch.compile (a few minutes),
``--certificates`` what an epoch's bounds and a certificate cost (a few minutes).
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffincl import rates
from diffincl.data import ImageData
from diffincl.nn import DenseResNet, ImageResNet, Network, Stage
from diffincl.training import Recipe, Trainer
from diffincl.training.measures import quick_factors

BATCH = 64


class HandStage(nn.Module):
    """The layers of a stage, as a user would write them who knows that stacked weights are cheaper to update."""

    def __init__(self, stage: Stage):
        super().__init__()
        self.variant, self.h, self.limit = stage.variant, stage.h, stage.limit
        for name, curve in stage.curves.items():
            self.register_parameter(name, nn.Parameter(curve.values.detach().clone()))
        self.apply_ = {2: F.linear, 3: lambda x, A, b: F.conv1d(x, A, b, padding=1),
                       4: lambda x, A, b: F.conv2d(x, A, b, padding=1)}[self.first.ndim - 1]
        if self.variant == "s":
            self.v = stage.directions.clone()

    @property
    def first(self) -> Tensor:
        return self.A if self.variant == "s" else self.A1

    def transposed(self, A: Tensor) -> Tensor:
        return A.mT if A.ndim == 2 else A.transpose(0, 1).flip(tuple(range(2, A.ndim)))

    def forward(self, x: Tensor) -> Tensor:
        if self.variant == "s":
            layers = [(A, b1, self.transposed(A), b2) for A, b1, b2 in zip(self.A, self.b1, self.b2, strict=True)]
        else:
            layers = zip(self.A1, self.b1, self.A2, self.b2, strict=True)
        for A1, b1, A2, b2 in layers:
            x = torch.relu(x - self.h * self.apply_(torch.relu(self.apply_(x, A1, b1)), A2, -b2))
        return x

    @torch.no_grad()
    def constrain(self) -> None:
        if self.variant == "d":
            self.A2.clamp_(min=0)
        if self.variant == "s":
            apply = torch.vmap(lambda v, A: self.apply_(v, A, None))
            back = torch.vmap(lambda v, A: self.apply_(v, self.transposed(A), None))
            v, A = self.v, self.A
            shape = (-1, *[1] * (v.ndim - 1))
            for _ in range(2):
                w = apply(v, A)
                v = back(w, A)
                after = v.flatten(1).norm(dim=1)
                v, size = v / after.reshape(shape), after / w.flatten(1).norm(dim=1)
            self.v = v
            self.A.mul_(((0.98 * self.limit / self.h) ** 0.5 / size).clamp(max=1).reshape(-1, *[1] * (A.ndim - 1)))


class Hand(nn.Module):
    """A network with its stages written by hand."""

    def __init__(self, net: Network):
        super().__init__()

        def by_hand(part: nn.Module) -> nn.Module:
            return HandStage(part) if isinstance(part, Stage) else part

        for name, part in net.named_children():
            parts = isinstance(part, nn.ModuleList)
            self.add_module(name, nn.ModuleList(map(by_hand, part)) if parts else by_hand(part))
        self.stages = [module for module in self.modules() if isinstance(module, HandStage)]
        self.dense = isinstance(net, DenseResNet)

    def forward(self, x: Tensor) -> Tensor:
        if self.dense:
            return self.head(self.layers(torch.relu(self.lift(x))))
        x = torch.relu(self.open(self.stem(x)))
        for part in self.body:
            x = part(x)
        return self.head(self.close(x.flatten(2).mean(-1)))


def by_hand(net: Network, data: ImageData, recipe: Recipe, fused: bool | None = None) -> Callable[[], object]:
    hand, rows = Hand(net).train(), torch.arange(BATCH)
    optimiser = torch.optim.AdamW(hand.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=fused)

    def step() -> float:
        x, y = data.train_x[rows], data.train_y[rows]
        loss = F.cross_entropy(hand(x), y)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(hand.parameters(), 1.0)
        optimiser.step()
        for stage in hand.stages:
            stage.constrain()
        return float(loss.detach())

    return step


def by_library(net: Network, data: ImageData, recipe: Recipe, constrain: bool = True) -> Callable[[], object]:
    trainer, rows = Trainer(net.train(), data, recipe), torch.arange(BATCH)
    if not constrain:
        net.constrain_ = lambda: None  # type: ignore[method-assign]
    return lambda: trainer.step(rows)


def measure(build: Callable[[], Network], data: ImageData, repeats: int) -> dict[str, float]:
    """Shortest milliseconds a step of each; the runs are interleaved so that all see the same machine."""
    recipe = Recipe(augment=False, batch=BATCH)
    runs = {"hand": by_hand(build(), data, recipe), "fused hand": by_hand(build(), data, recipe, True),
            "diffincl": by_library(build(), data, recipe)}
    if build().variant == "s":
        runs["uncapped"] = by_library(build(), data, recipe, constrain=False)
    return interleaved(runs, repeats)


def interleaved(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Shortest milliseconds of each, taken in turn, after a first call of each that does not count."""
    best = dict.fromkeys(runs, float("inf"))
    for k in range(repeats + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - start) if k else best[name]
    return {name: 1e3 * seconds for name, seconds in best.items()}


def optimisers(build: Callable[[], Network], kind: str) -> dict[str, Callable[[], object]]:
    """Steps of an optimiser alone on the weights of a network."""
    runs: dict[str, Callable[[], object]] = {}
    for name, way in (("loop", {"foreach": False}), ("foreach", {"foreach": True}), ("fused", {"fused": True})):
        weights = list(build().parameters())
        for w in weights:
            w.grad = torch.randn_like(w)
        more = {"momentum": 0.9} if kind == "sgd" else {}
        runs[name] = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[kind](weights, lr=1e-3, **more, **way).step
    return runs


def norm_steps(stage: Stage) -> dict[str, Callable[[], object]]:
    """AᵀA v for all layers: in the one call of the library, under vmap."""
    A, v, field = stage.weight.detach(), stage.directions, stage.field
    adjoint = torch.stack([field.adjoint(A_k) for A_k in A])

    def under_vmap() -> Tensor:
        once = torch.vmap(lambda v, A: field.affine(v, A, None))
        return once(once(v, A), adjoint)

    return {"vmap": under_vmap, "one call": lambda: field.each(field.each(v, A), adjoint)}


def gradients(build: Callable[[], Network], data: ImageData) -> dict[str, Callable[[], object]]:
    return {name: by_library(build(), data, Recipe(augment=False, batch=BATCH, gradient=name))
            for name in ("backprop", "auto", "checkpoint")}


def layouts(variant: str, seed: int, side: int) -> dict[str, Callable[[], object]]:
    """Steps on large images, as the library lays them out and as they come."""
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.rand(BATCH, 3 * side * side, generator=draw), torch.randint(10, (BATCH,), generator=draw)
    data, recipe = ImageData(x, y, x, y, (3, side, side), 10).images(), Recipe(augment=False, batch=BATCH)

    def trainer() -> Trainer:
        net = ImageResNet(variant, 2, image=(side, side), generator=torch.Generator().manual_seed(seed))
        return Trainer(net.train(), data, recipe)

    first, second, rows = trainer(), trainer(), torch.arange(BATCH)
    first._laid_out = lambda x: x  # type: ignore[method-assign]
    return {"as they come": partial(first.step, rows), "channels last": partial(second.step, rows)}


def compiled_steps(build: Callable[[], Network], data: ImageData) -> dict[str, Callable[[], object]]:
    rows, runs = torch.arange(BATCH), {}
    for name, chosen in (("uncompiled", False), ("compiled", True)):
        trainer = Trainer(build().train(), data, Recipe(augment=False, batch=BATCH, compile=chosen))
        start = time.perf_counter()
        trainer.step(rows)
        print(f"  first step, {name}: {time.perf_counter() - start:.1f} s", flush=True)
        runs[name] = partial(trainer.step, rows)
    return runs


def epoch_bounds(net: Network) -> dict[str, Callable[[], object]]:
    """The two bounds of an epoch, with norms computed for each of them and once for both."""
    return {"each": lambda: (net.sensitivity(rate="global"), [part.factor(rate="global") for part in net.parts]),
            "once": lambda: quick_factors(net)}


def certificates(net: Network) -> dict[str, Callable[[], object]]:
    """A certificate, with the multipliers of R8 optimised for the product and the chain each, and once for both."""
    return {"each": lambda: [_twice(stage) for stage in net.stages],
            "once": lambda: [stage.factor() for stage in net.stages]}


def _twice(stage: Stage) -> None:
    stage.factors()
    A1, A2 = (torch.stack(A).detach() for A in zip(*((w.A1, w.A2) for w in stage.layers()), strict=True))
    rates.chain(A1, A2, torch.tensor(stage.times, dtype=torch.float64).diff(), image=stage.image)


def show(what: str, runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float | str]:
    """One line: milliseconds of each, and the first divided by each."""
    found = interleaved(runs, repeats)
    first = next(iter(found.values()))
    print(f"{what:54}" + "  ".join(f"{name} {value:.3g}ms ({first / value:.2f})" for name, value in found.items()),
          flush=True)
    return {"what": what, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--compile", action="store_true", help="steps through torch.compile, too")
    parser.add_argument("--certificates", action="store_true", help="bounds of trained networks, too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(options.seed)
    x, y = torch.rand(BATCH, 64, generator=draw), torch.randint(10, (BATCH,), generator=draw)
    flat = ImageData(x, y, x, y, (1, 8, 8), 10)

    def dense(variant: str, curves: str = "constant") -> Callable[[], Network]:
        return lambda: DenseResNet(64, 10, variant=variant, width=64, depth=10, curves=curves,
                                   generator=torch.Generator().manual_seed(options.seed))

    def image(variant: str) -> Callable[[], Network]:
        return lambda: ImageResNet(variant, 3, widths=(8, 16), channels=1, image=(8, 8),
                                   generator=torch.Generator().manual_seed(options.seed))

    rows: list[dict[str, float | str]] = []
    print(f"{'network, batch 64':40} {'hand':>8} {'fused hand':>10} {'diffincl':>9}   diffincl/hand  "
          f"diffincl/fused hand  capped/uncapped")
    for kind, make in (("dense, width 64, 10 layers", dense), ("image, widths 8 16, 2 × 3 layers", image)):
        for variant in ("resnet", "d", "s"):
            found = measure(make(variant), flat if make is dense else flat.images(), options.repeats)
            rows.append({"network": f"{variant} {kind}", **found})
            capped = f"{found['diffincl'] / found['uncapped']:16.2f}" if "uncapped" in found else ""
            print(f"{variant + ' ' + kind:40} {found['hand']:6.2f}ms {found['fused hand']:8.2f}ms "
                  f"{found['diffincl']:7.2f}ms {found['diffincl'] / found['hand']:15.2f} "
                  f"{found['diffincl'] / found['fused hand']:20.2f} {capped}", flush=True)
    print("\nparts; in brackets how many times quicker than the first")
    for kind in ("adamw", "sgd"):
        for what, build in (("dense", dense("resnet")), ("image", image("resnet"))):
            rows.append(show(f"{kind}, {what} network", optimisers(build, kind), options.repeats))
    for what, net in (("dense", dense("s")()), ("image", image("s")())):
        rows.append(show(f"power iteration of s, {what} network", norm_steps(net.stages[0]), options.repeats))
    rows.append(show("gradient, dense network of 10 layers", gradients(dense("resnet"), flat), options.repeats))
    for side in (8, 16, 32):
        few = max(3, options.repeats * 8 // side**2)
        rows.append(show(f"s, 3 × {side} × {side} images, 3 × 2 layers", layouts("s", options.seed, side), few))
    if options.compile:
        for kind, build, data in (("dense", dense, flat), ("image", image, flat.images())):
            for variant in ("resnet", "s"):
                rows.append(show(f"{variant} {kind}", compiled_steps(build(variant), data), options.repeats))
    if options.certificates:
        seeded = torch.Generator().manual_seed(options.seed)
        for what, net in (("resnet dense, width 32, 64 layers", DenseResNet(64, 10, depth=64, generator=seeded)),
                          ("resnet image, widths 8 16, 2 × 8 layers",
                           ImageResNet("resnet", 8, widths=(8, 16), channels=1, image=(8, 8), generator=seeded))):
            rows.append(show("bounds: " + what, epoch_bounds(net.eval()), 3))
            rows.append(show("certificate: " + what, certificates(net), 1))
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": platform.processor() or platform.machine(), "torch": torch.__version__,
                       "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()

"""What a training step of a library network costs beside the same network written by hand in plain torch, same run.

    python benchmarks/training.py [--repeats 200] [--seed 0] [--json FILE]

Prints milliseconds of processor time a step (minima over interleaved repeats, one thread, float32) and two ratios:
diffincl/hand, and for ResNet-S the step with the norms kept under the limit against the one without. A step is: loss,
gradient, clipping, AdamW, projection onto the structure (the same two power iterations in both).
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffincl.data import ImageData
from diffincl.nn import DenseResNet, ImageResNet, Network, Stage
from diffincl.training import Recipe, Trainer

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


def by_hand(net: Network, data: ImageData, recipe: Recipe) -> Callable[[], object]:
    hand, rows = Hand(net).train(), torch.arange(BATCH)
    optimiser = torch.optim.AdamW(hand.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)

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
    runs = {"hand": by_hand(build(), data, recipe), "diffincl": by_library(build(), data, recipe)}
    if build().variant == "s":
        runs["uncapped"] = by_library(build(), data, recipe, constrain=False)
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - start)
    return {name: 1e3 * seconds for name, seconds in best.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200)
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

    rows = []
    print(f"{'network, batch 64':34} {'hand':>9} {'diffincl':>9}   diffincl/hand  capped/uncapped")
    for kind, make in (("dense, width 64, 10 layers", dense), ("image, widths 8 16, 2 × 3 layers", image)):
        for variant in ("resnet", "d", "s"):
            found = measure(make(variant), flat if make is dense else flat.images(), options.repeats)
            rows.append({"network": f"{variant} {kind}", **found})
            capped = f"{found['diffincl'] / found['uncapped']:16.2f}" if "uncapped" in found else ""
            print(f"{variant + ' ' + kind:40} {found['hand']:6.2f}ms {found['diffincl']:7.2f}ms "
                  f"{found['diffincl'] / found['hand']:12.2f} {capped}", flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": platform.processor() or platform.machine(), "torch": torch.__version__,
                       "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()

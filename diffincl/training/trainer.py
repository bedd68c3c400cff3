"""The training loop, epoch by epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from ..data import ImageData
from ..nn import ImageResNet, Network
from ..solution import SolveError
from . import company
from .compiled import compiled
from .faults import fault
from .measures import control_exponent, dead, quick_factors, share_correct
from .recipe import Recipe
from .refine import refined

__all__ = ["Metrics", "Trainer"]

LOOKED_AT = 512  # test samples on which dead units are counted
KEPT = 2**30  # bytes that gradient "auto" lets the layers keep for a batch
LARGE = 256  # pixels from which a CPU convolves quicker with the channels last (benchmarks/training.py)

Metrics = dict[str, float | int | None]


class Trainer:
    """Trains a network in place, an epoch at a time, with everything that a resumed run needs in ``state_dict``.

    Parameters
    ----------
    net : Network
        Trained in place, in training mode during an epoch and in evaluation mode after it. With ``recipe.refine`` the
        deeper networks are copies: take ``trainer.net``.
    data : ImageData
    recipe : Recipe
    device : str or torch.device, optional
        Where to train; the network is moved there. By default it stays where it is.

    Attributes
    ----------
    net : Network
    done : int
        Epochs finished.

    Raises
    ------
    ArithmeticError
        From ``epoch``, if the loss or a weight is not finite: the epoch, the first layer concerned, and a remedy.

    Notes
    -----
    Order of the samples and augmentation come from two generators seeded with ``recipe.seed``. Where torch.distributed
    is under way every process takes its share of each batch and all take the step of one process.

    Examples
    --------
    >>> import torch
    >>> from diffincl.data import digits
    >>> from diffincl.nn import DenseResNet
    >>> net = DenseResNet(64, 10, variant="s", width=8, depth=2, generator=torch.Generator().manual_seed(0))
    >>> trainer = Trainer(net, digits(), Recipe(epochs=2))
    >>> first, second = trainer.epoch(), trainer.epoch()
    >>> second["loss"] < first["loss"], second["blocks"] <= 1
    (True, True)
    """

    def __init__(self, net: Network, data: ImageData, recipe: Recipe, device: torch.device | str | None = None):
        self.device = next(net.parameters()).device if device is None else torch.device(device)
        self.recipe, self.done = recipe, 0
        self.data = (data.images() if isinstance(net, ImageResNet) else data.rows()).to(self.device)
        self.net: Network = net.to(self.device)
        company.share_norms(self.net)
        self.optimiser = recipe.optimiser_for(self.net.parameters())
        self.order, self.noise = Generator().manual_seed(recipe.seed), Generator().manual_seed(recipe.seed)
        self._prepare()
        company.agree(self.net.state_dict().values())

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""
        return self.recipe.steps(len(self.data.train_x))

    def _batches(self, order: Tensor) -> list[Tensor]:
        """The samples in batches; a last batch of one, of which there is no variance, joins the one before."""
        *batches, last = order.split(self.recipe.batch)
        if len(batches) < self.steps:
            return [*batches, last]
        return [*batches[:-1], torch.cat([batches[-1], last])]

    def epoch(self, advance: Callable[[], object] = lambda: None) -> Metrics:
        """Train for an epoch and measure; ``advance`` is called after every step.

        Returns
        -------
        dict
            "epoch" (from 1 on), "depth", "lr", "loss" (mean cross entropy), "train" and "test" accuracy (the first
            while training), "seconds"; Lipschitz factors in ℓ2 from above, in evaluation mode: "factor" (from the input
            to the argument of the head) and "blocks" (of all layers) by the products of 1 + h‖A1‖‖A2‖, for ResNet-S by
            D3, "certified" (as "factor", at the best rate, which takes seconds: None before the last epoch),
            "exponent" and "depth_free" (J/λ and e^{J/λ}, which bounds "blocks" at any depth; None for λ = 0 or beyond
            the floats); "step_norm" (largest h‖A‖² of ResNet-S before it was put under the limit); "dead_units",
            "dead_features" (shares on test images).
        """
        start = time.perf_counter()
        loss, train, norm = self.learn(advance)
        seconds = time.perf_counter() - start
        return {"epoch": self.done, "depth": self.net.depth, "lr": self.recipe.lr_of(self.done - 1), "loss": loss,
                "train": train, **self.measure(loss), "step_norm": norm, "seconds": seconds}

    def learn(self, advance: Callable[[], object] = lambda: None) -> tuple[float, float, float]:
        """An epoch of optimiser steps: mean cross entropy, share classified correctly, h‖A‖² before ``certify_``."""
        if self.done in self.recipe.refine:
            self._refine()
        self.net.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.lr_of(self.done)
        loss, right = 0.0, 0
        for rows in self._batches(torch.randperm(len(self.data.train_x), generator=self.order)):
            more, more_right = self.step(rows)
            loss, right = loss + more, right + more_right
            advance()
        sums = torch.tensor([loss, right], dtype=torch.float64, device=self.device)
        company.total([sums])
        norm = self.net.certify_()
        if not all(bool(torch.isfinite(weight).all()) for weight in self.net.parameters()):
            raise self._fault(torch.nan, self.data.train_x[:1])
        self.net.eval()
        self.done += 1
        loss, right = (sums / len(self.data.train_x)).tolist()
        return loss, right, norm

    def measure(self, loss: float) -> Metrics:
        """What ``epoch`` returns of the network as it is; ``loss`` is its cross entropy."""
        net, data, recipe = self.net.eval(), self.data, self.recipe
        exponent = control_exponent(net, loss, recipe.control, recipe.smoothness) if recipe.control else None
        units, features = dead(net, data.test_x[:LOOKED_AT])
        factor, blocks = quick_factors(net)
        return {"test": share_correct(net, data.test_x, data.test_y),
                "factor": factor, "blocks": blocks,
                "certified": float(net.sensitivity().value) if self.done == recipe.epochs else None,
                "exponent": exponent,
                "depth_free": math.exp(exponent) if exponent is not None and exponent < 700 else None,
                "dead_units": units, "dead_features": features}

    def state_dict(self) -> dict[str, Any]:
        """Everything that training goes on from: plain containers and tensors."""
        return {"net": self.net.state_dict(), "optimiser": self.optimiser.state_dict(), "done": self.done,
                "order": self.order.get_state(), "noise": self.noise.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of a trainer of the same network, data and recipe, bit for bit."""
        for epoch in self.recipe.refine:
            if self.done <= epoch < state["done"]:
                self._refine()
        self.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.order.set_state(state["order"].cpu())
        self.noise.set_state(state["noise"].cpu())
        self.done = state["done"]

    def step(self, rows: Tensor) -> tuple[float, int]:
        """One optimiser step on some samples: the sum of the cross entropies of this process, and how many samples it
        has right."""
        x, y = self.data.train_x[rows], self.data.train_y[rows]
        if self.recipe.augment:
            x = self.data.augment(x, self.noise)
        x, y = self._laid_out(company.mine(x)), company.mine(y)
        loss, right = self._loss(x, y)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self._fault(value, x)
        self.optimiser.zero_grad()
        (loss / len(rows) + self._penalty() / company.size()).backward()
        weights = [p for group in self.optimiser.param_groups for p in group["params"]]
        company.total(p.grad for p in weights if p.grad is not None)
        if self.recipe.clip is not None:
            clip_grad_norm_(weights, self.recipe.clip)
        self.optimiser.step()
        self.net.constrain_()
        return value, int(right)

    def _loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the cross entropies, NaN where states have left the range of the dtype; number of correct ones."""
        try:
            with self.recipe.cast(self.device):
                logits = self.logits(x)
        except (SolveError, ValueError):  # a layer refuses a state that is not finite
            if not fault(self.net, x):
                raise
            return torch.tensor(torch.nan), torch.tensor(0)
        if self.recipe.temperature != 1:
            logits = logits / self.recipe.temperature
        loss = cross_entropy(logits.float(), y, reduction="sum")
        return loss, (logits.detach().argmax(-1) == y).sum()

    def _penalty(self) -> Tensor | float:
        """(λ/2)∫(‖A1‖² + ‖A2‖²)dt + smoothness · ∫‖θ'‖²dt."""
        recipe, net = self.recipe, self.net
        control = 0.5 * recipe.control * net.cost() if recipe.control else 0.0
        return control + (recipe.smoothness * net.roughness() if recipe.smoothness else 0.0)

    def _fault(self, value: float, x: Tensor) -> ArithmeticError:
        recipe = self.recipe
        where = fault(self.net, x) or "the loss itself"
        return ArithmeticError(
            f"the loss is {value} in epoch {self.done}; lower lr (now {recipe.lr:g}), or raise weight_decay (now "
            f"{recipe.weight_decay:g}) or control (now {recipe.control:g}). First not finite: {where}.")

    def _refine(self) -> None:
        """Double the depth; the optimiser keeps its moments."""
        self.net, self.optimiser = refined(self.net, self.optimiser, self.recipe)
        company.share_norms(self.net)  # copies of the norms would go on with those they were copied from
        self._prepare()

    def _prepare(self) -> None:
        """What follows from the depth: how gradients are taken, and what is compiled."""
        gradient = self.recipe.gradient
        if gradient == "auto":
            share = -(-self.recipe.batch // company.size())
            gradient = "checkpoint" if sum(stage.kept(share) for stage in self.net.stages) > KEPT else "backprop"
        for stage in self.net.stages:
            stage.gradient = gradient
        self.logits = compiled(self.net, self.device) if self.recipe.compile else self.net

    def _laid_out(self, x: Tensor) -> Tensor:
        """Large images on a CPU with the channels last in memory, which convolutions keep; others as they are."""
        if x.ndim == 4 and x.device.type == "cpu" and x[0, 0].numel() >= LARGE:
            return x.contiguous(memory_format=torch.channels_last)
        return x

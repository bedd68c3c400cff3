"""How to train: everything that is chosen."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer

from .. import _check

__all__ = ["Recipe"]

OPTIMISERS = ("adamw", "adam", "sgd")
SCHEDULES = ("cosine", "constant")
GRADIENTS = ("backprop", "checkpoint", "auto")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: to a small E + (λ/2)∫(‖A1‖² + ‖A2‖²)dt + smoothness·∫‖θ'‖²dt, where E is the mean cross
    entropy of logits/temperature.

    Parameters
    ----------
    epochs, batch : int
    optimiser : "adamw", "adam" or "sgd"
    lr : float
        Of the first epoch.
    momentum : float in [0, 1)
        Of "sgd".
    weight_decay : float
    clip : float, optional
        Largest norm of the gradient; None: any.
    control : float
        λ: with λ > 0 the layers have a Lipschitz factor of at most e^{J/λ}, whatever their number (theory C8).
    smoothness : float
    temperature : float
    schedule : "cosine" (the lr falls to 0 along half a wave, epoch by epoch) or "constant"
    gradient : "backprop", "checkpoint" or "auto"
        Whether every state is kept for the backward pass, or some are and the layers computed again; see ``solve``.
        "auto": "backprop" while the layers keep at most 1 GiB (2³⁰ bytes) for a batch (`Stage.kept`), "checkpoint"
        beyond. Relatives of the ResNet family always keep every state.
    precision : "float32", or "bfloat16" (automatic mixed precision: weights and states stay in float32)
    augment : bool
        Whether batches get the usual augmentation of the data set.
    refine : tuple of int
        Epochs, from 1 on, before which the depth is doubled (``Network.refine``).
    seed : int
        Of the order of the samples and of the augmentation.
    compile : bool
        Train through torch.compile, which takes from seconds to a minute at the start (and again for a last batch of
        another size and after a refinement) and needs a C++ compiler on CPUs. The same losses to rounding; a state on
        the way that is not finite shows in the loss only. Needs gradient "backprop".

    Raises
    ------
    TypeError, ValueError
        If a value is out of range.

    Examples
    --------
    >>> Recipe(epochs=20, control=1e-3).lr_of(10)
    0.0025
    """

    epochs: int = 100
    optimiser: str = "adamw"
    lr: float = 5e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch: int = 64
    clip: float | None = 1.0
    control: float = 0.0
    smoothness: float = 0.0
    temperature: float = 1.0
    schedule: str = "cosine"
    gradient: str = "backprop"
    precision: str = "float32"
    augment: bool = True
    refine: tuple[int, ...] = ()
    seed: int = 0
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            _check.count(name, getattr(self, name))
        for name, options in (("optimiser", OPTIMISERS), ("schedule", SCHEDULES), ("gradient", GRADIENTS),
                              ("precision", PRECISIONS)):
            _check.choice(name, getattr(self, name), options)
        for name in ("lr", "temperature", *(["clip"] if self.clip is not None else [])):
            _check.number(name, getattr(self, name), above=0.0)
        for name in ("momentum", "weight_decay", "control", "smoothness"):
            _check.number(name, getattr(self, name), at_least=0.0)
        if self.momentum >= 1:
            raise ValueError(f"momentum must be less than 1; got {self.momentum:g}.")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be a whole number from 0 to 2^63 − 1; got {self.seed!r}.")
        for name in ("augment", "compile"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False; got {getattr(self, name)!r}.")
        if self.compile and self.gradient != "backprop":
            raise ValueError(f"compile keeps every state of the layers, so it needs gradient 'backprop'; got "
                             f"{self.gradient!r}. Leave one of the two out.")
        self._check_refine()

    def _check_refine(self) -> None:
        object.__setattr__(self, "refine", tuple(self.refine))
        for k, epoch in enumerate(self.refine):
            _check.count(f"refine[{k}]", epoch)
            if epoch >= self.epochs or epoch in self.refine[:k] or epoch != sorted(self.refine)[k]:
                raise ValueError(f"refine must hold increasing epochs from 1 to epochs − 1 = {self.epochs - 1}; got "
                                 f"{self.refine}.")

    def lr_of(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        share = 0.5 * (1 + math.cos(math.pi * epoch / self.epochs)) if self.schedule == "cosine" else 1.0
        return self.lr * share

    def steps(self, samples: int) -> int:
        """Optimiser steps of an epoch; a last batch of one sample joins the one before."""
        full, rest = divmod(samples, self.batch)
        return full + (rest > 1 or full == 0)

    def optimiser_for(self, parameters: Iterable[Parameter]) -> Optimizer:
        """The optimiser, new; on CPUs the fused one, which takes a third of the time of torch's default there."""
        parameters = list(parameters)
        fused = True if all(p.device.type == "cpu" for p in parameters) else None
        if self.optimiser == "sgd":
            return SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=fused)
        kind = {"adam": Adam, "adamw": AdamW}[self.optimiser]
        return kind(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=fused)

    def cast(self, device: torch.device) -> AbstractContextManager[object]:
        """The precision as a context."""
        if self.precision == "bfloat16":
            return torch.autocast(device.type, dtype=torch.bfloat16)
        return nullcontext()

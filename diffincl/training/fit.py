"""Train in one call."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..data import ImageData
from ..nn import Network
from .measures import share_correct
from .recipe import Recipe
from .trainer import Trainer

__all__ = ["accuracy", "fit"]


def fit(net: Network, data: ImageData, *, epochs: int = 40, lr: float = 3e-3, weight_decay: float = 1e-4,
        batch: int = 64, seed: int = 0, each_epoch: Callable[[int, float], None] | None = None,
        recipe: Recipe | None = None, device: torch.device | str | None = None) -> Network:
    """Train a classifier in place: Adam, cosine schedule, projection onto the structure; or by a recipe.

    Parameters
    ----------
    net : Network
    data : ImageData
    epochs, batch : int
    lr, weight_decay : float
    seed : int
        Of the order of the samples.
    each_epoch : callable, optional
        Called with the epoch and its mean cross entropy.
    recipe : Recipe, optional
        In place of the five numbers, which are not looked at then.
    device : str or torch.device, optional
        The network is moved there.

    Returns
    -------
    Network
        ``net``, in evaluation mode; with ``recipe.refine`` a deeper copy.

    Raises
    ------
    ArithmeticError
        If the loss or a weight is not finite: the epoch, the first layer concerned, and a remedy.

    Examples
    --------
    >>> import torch
    >>> from diffincl.data import digits
    >>> from diffincl.nn import DenseResNet
    >>> net = DenseResNet(64, 10, variant="s", width=16, depth=4, generator=torch.Generator().manual_seed(0))
    >>> data = digits()
    >>> accuracy(fit(net, data, recipe=Recipe(epochs=10)), data.test_x, data.test_y) > 0.8
    True
    """
    if recipe is None:
        recipe = Recipe(epochs=epochs, optimiser="adam", lr=lr, weight_decay=weight_decay, batch=batch, clip=None,
                        augment=False, seed=seed)
    trainer = Trainer(net, data, recipe, device)
    for epoch in range(recipe.epochs):
        loss, _, _ = trainer.learn()
        if each_epoch:
            each_epoch(epoch, loss)
    return trainer.net


def accuracy(net: Network, x: Tensor, y: Tensor) -> float:
    """Share of samples classified correctly, by the network as it is (call ``net.eval()`` after training by hand)."""
    return share_correct(net, x, y)

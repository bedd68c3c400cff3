"""Projected gradient ascent: what a small change of the input can do to a classifier, from below."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn

from .. import _check

__all__ = ["pgd"]


def pgd(net: nn.Module, x: Tensor, y: Tensor, radius: float, *, generator: Generator, steps: int = 20,
        step: float | None = None, restarts: int = 5, clip: tuple[float, float] | None = (0.0, 1.0)) -> Tensor:
    """Samples within a Euclidean distance of x that a classifier takes for another class, where the ascent finds them.

    Parameters
    ----------
    net : nn.Module
        From x to logits (n, classes). It is used in evaluation mode; its modes, buffers, parameters and their
        gradients are left as they were.
    x : Tensor (n, …), floating point
    y : Tensor (n,), int64
        The right classes.
    radius : float
        Of the Euclidean ball around each sample.
    generator : torch.Generator
        Of the random starts.
    steps : int
        Of each ascent.
    step : float, optional
        Length of a step; 2.5·radius/steps if not given.
    restarts : int
        Ascents, each towards one wrong class: from x, in the order of the logits there; from random points of the
        ball when all classes have had their turn.
    clip : (float, float), optional
        Range in which x lies and stays; None: unlimited.

    Returns
    -------
    Tensor (n, …)
        The point with the largest margin max_{j ≠ y} z_j − z_y of all that were visited, x among them: never worse
        than x. The distance is at most ``radius``, up to the rounding of x.

    Raises
    ------
    TypeError, ValueError
        If shapes or ranges do not fit, or the network returns values that are not finite.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Linear(2, 2, bias=False)
    >>> _ = net.weight.data.copy_(torch.eye(2))
    >>> x, y = torch.tensor([[0.6, 0.4]]), torch.tensor([0])
    >>> pgd(net, x, y, 0.2, generator=torch.Generator().manual_seed(0))
    tensor([[0.4586, 0.5414]])

    Notes
    -----
    Steps follow the gradient of z_j − z_y for the wrong class j of this ascent, divided by its length; after each the
    point is clipped and drawn back onto the ball, which keeps it in the range since x is there. For a linear classifier
    and ``clip=None``, classes − 1 restarts find the exact optimum.

    References
    ----------
    A. Madry, A. Makelov, L. Schmidt, D. Tsipras, A. Vladu, *Towards Deep Learning Models Resistant to Adversarial
    Attacks*, ICLR 2018; N. Carlini, D. Wagner, *Towards Evaluating the Robustness of Neural Networks*, 2017 (margin).
    """
    radius = _check.number("radius", radius, at_least=0.0)
    count, restarts = _check.count("steps", steps), _check.count("restarts", restarts)
    length = 2.5 * radius / count if step is None else _check.number("step", step, above=0.0)
    _check_input(net, x, y, clip)
    x = x.detach()
    best, most = x, torch.full((len(x),), -torch.inf, device=x.device)
    with _evaluating(net):
        rivals = _rivals(net, x, y)
        for k in range(restarts):
            rival = rivals[:, k % rivals.shape[1]]
            z = x if k < rivals.shape[1] else _onto(x + _random(x, radius, generator), x, radius, clip)
            for last in [False] * count + [True]:
                margin, slope = _margin(net, z, y, rival)
                best = z.where(_wide(margin > most, z), best)
                most = torch.maximum(margin, most)
                if not last:
                    z = _onto(z + length * slope, x, radius, clip)
    return best


@torch.no_grad()
def _rivals(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The wrong classes (n, classes − 1) of each sample, the largest logit first."""
    logits = net(x)
    if logits.ndim != 2 or len(logits) != len(y) or logits.shape[1] <= max(1, int(y.max())):
        raise ValueError(f"net must return logits (n, classes) for n = {len(y)} samples with labels up to "
                         f"{int(y.max())}; got {_check.describe(logits)}.")
    return logits.scatter(1, y[:, None], torch.inf).argsort(1, descending=True)[:, 1:]


def _margin(net: nn.Module, z: Tensor, y: Tensor, rival: Tensor) -> tuple[Tensor, Tensor]:
    """max_{j ≠ y} z_j − z_y of the logits, and the gradient of z_rival − z_y divided by its length (0 if it is 0)."""
    with torch.enable_grad():
        z = z.clone().requires_grad_()
        logits = _check.finite("the logits of net", net(z))
        right = logits.gather(1, y[:, None])
        (slope,) = torch.autograd.grad((logits.gather(1, rival[:, None]) - right).sum(), z)
    margin = (logits.detach() - right.detach()).scatter(1, y[:, None], -torch.inf).amax(1)
    _check.finite("the gradient of net", slope)
    largest = _wide(slope.flatten(1).abs().amax(1), z)
    slope = slope / largest.where(largest > 0, 1)  # first to size 1: squares of tiny entries would vanish
    norm = _wide(slope.flatten(1).norm(dim=1), z)
    return margin, slope / norm.where(norm > 0, 1)


def _onto(z: Tensor, x: Tensor, radius: float, clip: tuple[float, float] | None) -> Tensor:
    """z clipped, then drawn straight towards x until it lies in the ball."""
    change = (z if clip is None else z.clamp(*clip)) - x
    norm = _wide(change.flatten(1).norm(dim=1), x)
    z = x + change * (radius / norm.where(norm > radius, 1)).where(norm > radius, 1)
    return z if clip is None else z.clamp(*clip)


def _random(x: Tensor, radius: float, generator: Generator) -> Tensor:
    """Changes spread evenly over the ball."""
    direction = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=generator.device)
    share = torch.rand(len(x), generator=generator, dtype=x.dtype, device=generator.device)
    share = share ** (1 / x[0].numel()) / direction.flatten(1).norm(dim=1)
    return radius * (direction * _wide(share, x)).to(x.device)


def _wide(values: Tensor, x: Tensor) -> Tensor:
    """One value for each sample of x, against which it broadcasts."""
    return values.view(-1, *(1,) * (x.ndim - 1))


def _check_input(net: nn.Module, x: Tensor, y: Tensor, clip: tuple[float, float] | None) -> None:
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module; got {type(net).__name__}.")
    _check.finite("x", _check.tensor("x", x))
    if x.ndim < 2:
        raise ValueError(f"x must be a batch (n, …); got {_check.describe(x)}. Take x[None].")
    if not isinstance(y, Tensor) or y.dtype != torch.int64 or y.shape != x.shape[:1] or bool((y < 0).any()):
        got = _check.describe(y) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"y must hold one int64 label, at least 0, for each of the {len(x)} samples; got {got}.")
    if clip is not None and bool(((x < clip[0]) | (x > clip[1])).any()):
        raise ValueError(f"x must lie in clip = {clip}; its values go from {float(x.min()):g} to {float(x.max()):g}. "
                         f"Pass the limits of the data set, None for signals.")


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode, and after it the mode that each module had."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training

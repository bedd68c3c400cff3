"""Decisions that need the values of a tensor, taken inside torch.func transforms too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _check

__all__ = ["decide"]


def decide(rule: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """``rule(*inputs)``, an integer tensor without derivative.

    The rule sees plain tensors, so it may loop until they meet a condition. Inputs are (*batch, something) with batches
    that broadcast (``vmap`` adds a leading dimension to some of them), the result is (*broadcast batch, something).
    """
    if torch.compiler.is_compiling():
        torch._dynamo.graph_break()
    if all(map(_check.concrete, inputs)):
        return rule(*(value.detach() for value in inputs))
    return _Decision.apply(rule, *inputs)  # type: ignore[no-any-return]


class _Decision(torch.autograd.Function):
    """The same, in the form that torch.func asks for."""

    @staticmethod
    def forward(rule: Callable[..., Tensor], *inputs: Tensor) -> Tensor:  # type: ignore[override]
        return rule(*(value.detach() for value in inputs))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:  # type: ignore[override]
        return None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> None:  # type: ignore[override]
        return None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], rule: Callable[..., Tensor],  # type: ignore[override]
             *inputs: Tensor) -> tuple[Tensor, int]:
        moved = [value if dim is None else value.movedim(dim, 0)
                 for value, dim in zip(inputs, in_dims[1:], strict=True)]
        return decide(rule, *moved), 0

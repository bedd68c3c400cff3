"""A function from the prox that somebody has."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _check
from .base import ProxFunction, Time

__all__ = ["CustomProx"]


@dataclass(frozen=True, eq=False, repr=False, init=False)
class CustomProx(ProxFunction):
    """The function g whose proximity operator is the callable ``prox``.

    Parameters
    ----------
    prox : callable f(x, h, t) or f(x, h)
        Returns the minimiser of g(t, u) + ‖u − x‖²/(2h), shape and dtype of x; see ``ProxFunction`` for the contract.
        A third argument counts as t if it has no default or is called t.
    value : callable f(x, t) or f(x), optional
        g(t, x), shape (*batch,).
    kink_sides : callable f(x, t) or f(x), optional
        Signs (*batch, n) of what is zero on a kink of g that a path can cross, such as x.sign() of ‖x‖₁. With it a
        solve with gradients can warn (``KinkWarning``); without it nothing is known of kinks, and nothing is said.
    coordinatewise : bool
        Whether prox acts on each coordinate alone.
    convex : bool
        Whether g is convex, that is, prox firmly nonexpansive.

    Raises
    ------
    TypeError
        If a callable takes other arguments.
    ValueError
        In use: if prox returns no tensor like x, or is not finite where x is; if value or kink_sides return another
        shape.

    Examples
    --------
    >>> import torch
    >>> square = CustomProx(lambda x, h: x / (1 + h), coordinatewise=True)  # g = ‖x‖²/2
    >>> square.prox(torch.tensor([3.0]), h=0.5)
    tensor([2.])
    """

    f: Callable[..., Tensor]
    g: Callable[..., Tensor] | None
    sides: Callable[..., Tensor] | None
    coordinatewise: bool
    convex: bool

    def __init__(self, prox: Callable[..., Tensor], value: Callable[..., Tensor] | None = None, *,
                 kink_sides: Callable[..., Tensor] | None = None, coordinatewise: bool = False, convex: bool = True):
        for name, flag in (("coordinatewise", coordinatewise), ("convex", convex)):
            if not isinstance(flag, bool):
                raise TypeError(f"{name} must be True or False; got {flag!r}.")
        object.__setattr__(self, "f", prox)
        object.__setattr__(self, "g", value)
        object.__setattr__(self, "sides", kink_sides)
        object.__setattr__(self, "coordinatewise", coordinatewise)
        object.__setattr__(self, "convex", convex)
        object.__setattr__(self, "moving", _takes_t("prox", prox, ("x", "h")))
        object.__setattr__(self, "_value_takes_t", value is not None and _takes_t("value", value, ("x",)))
        object.__setattr__(self, "_sides_take_t", kink_sides is not None and _takes_t("kink_sides", kink_sides, ("x",)))

    def prox(self, x: Tensor, h: float | Tensor, t: Time = 0.0) -> Tensor:
        """The callable's value, checked."""
        u = self.f(x, h, t) if self.moving else self.f(x, h)
        _require_like("prox", u, x.shape, x.dtype)
        if _check.concrete(x) and _check.concrete(u):
            bad = (~torch.isfinite(u) & torch.isfinite(x).all(-1, keepdim=True)).any(-1)
            if bool(bad.any()):
                i = _check.first(bad) if bad.ndim else ()
                raise ValueError(f"prox must be finite where x is; of sample {i} it makes {u[i].tolist()}. Look at "
                                 f"prox at x = {x[i].tolist()}.")
        return u

    def value(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """The callable's value, checked."""
        if self.g is None:
            raise NotImplementedError("this CustomProx has no value; pass one: CustomProx(prox, value=lambda x: …).")
        value = self.g(x, t) if self._value_takes_t else self.g(x)  # type: ignore[attr-defined]
        return _require_like("value", value, x.shape[:-1], x.dtype)

    def kink_sides(self, x: Tensor, t: Time = 0.0) -> Tensor | None:
        """The callable's value, checked; None without one."""
        if self.sides is None:
            return None
        sides = self.sides(x, t) if self._sides_take_t else self.sides(x)  # type: ignore[attr-defined]
        if not isinstance(sides, Tensor) or sides.ndim != x.ndim or sides.shape[:-1] != x.shape[:-1]:
            got = _check.describe(sides) if isinstance(sides, Tensor) else repr(sides)
            raise ValueError(f"kink_sides must return signs of shape {(*x.shape[:-1], 'n')}, one row a sample; it "
                             f"returned {got}.")
        return sides


def _require_like(name: str, u: object, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    if not isinstance(u, Tensor):
        raise ValueError(f"{name} must return a tensor; it returned {u!r} of type {type(u).__name__}.")
    if u.shape != shape or u.dtype != dtype:
        raise ValueError(f"{name} must return a tensor of shape {tuple(shape)} and dtype "
                         f"{str(dtype).removeprefix('torch.')}; it returned {_check.describe(u)}.")
    return u


def _takes_t(name: str, f: Callable[..., Tensor], first: tuple[str, ...]) -> bool:
    """Whether a callable takes t after its first arguments; TypeError if it does not take those."""
    wanted = f"{name} must be callable as {name}({', '.join(first)}) or {name}({', '.join(first)}, t)"
    if not callable(f):
        raise TypeError(f"{wanted}; got {f!r} of type {type(f).__name__}.")
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{wanted}; the arguments of {f!r} cannot be read. Wrap it: "
                        f"lambda {', '.join(first)}: …") from error
    names = [p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for takes_t in (False, True):
        try:
            signature.bind(*first, *["t"] * takes_t)
        except TypeError:
            continue
        return takes_t or names[len(first):len(first) + 1] == ["t"]
    raise TypeError(f"{wanted}; its arguments are {signature}.")

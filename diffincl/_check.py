"""Argument checks: each raises one sentence with the argument, the value received and the remedy."""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__: list[str] = []


_functorch = getattr(torch._C, "_functorch")  # noqa: B009
_is_functorch_wrapped, _unwrapped = _functorch.is_functorch_wrapped_tensor, _functorch.get_unwrapped
_transforms_are_active = getattr(torch._C, "_are_functorch_transforms_active")  # noqa: B009


def concrete(x: Tensor) -> bool:
    """Whether the values of ``x`` can be read: not inside torch.compile or a torch.func transform."""
    return not torch.compiler.is_compiling() and not _is_functorch_wrapped(x)


def transforming() -> bool:
    """Whether a torch.func transform is under way."""
    return _transforms_are_active()


def nowhere(mask: Tensor) -> bool:
    """Whether no entry is true, in any sample of a surrounding vmap; False while torch.compile cannot know."""
    return not torch.compiler.is_compiling() and not bool(_innermost(mask).any())


def plain_autograd() -> bool:
    """Whether derivatives are taken by autograd's backward pass alone: no torch.compile, torch.func, forward mode."""
    return not (torch.compiler.is_compiling() or _transforms_are_active() or forward_ad._current_level >= 0)


def version(t: Tensor, x: Tensor) -> int:
    """How often two tensors have been changed in place; 0 in inference mode, where that is not counted."""
    if _transforms_are_active():  # a surrounding vmap counts changes of what is inside
        t, x = _innermost(t), _innermost(x)
    try:
        return t._version + x._version
    except RuntimeError:
        return 0


def _innermost(x: Tensor) -> Tensor:
    """What torch.func transforms have wrapped."""
    while _is_functorch_wrapped(x):
        x = _unwrapped(x)
    return x


def changed(F: Any, t: Tensor) -> str:
    """That F has changed its arguments in place, and what to do."""
    name = getattr(F, "__qualname__", type(F).__name__)
    time = f" at t = {float(t):g}" if t.ndim == 0 and concrete(t) else ""
    return (f"the field {name} changed an argument, x or t, in place{time}, and with it the solve that goes on from "
            f"it. Use operations that return a new tensor (x + y, not x += y or x.add_(y)), or begin with "
            f"x = x.clone().")


def describe(x: Tensor) -> str:
    """Shape and dtype in words."""
    return f"a tensor of shape {tuple(x.shape)} and dtype {str(x.dtype).removeprefix('torch.')}"


def first(mask: Tensor) -> tuple[int, ...]:
    """Index of the first true entry."""
    return tuple(int(i) for i in mask.nonzero()[0])


def others(mask: Tensor) -> str:
    """The samples that a mask of more than one names, up to eight, as a sentence."""
    if mask.ndim == 0 or int(mask.sum()) < 2:
        return ""
    places = [str(tuple(place)) for place in mask.nonzero()[:8].tolist()]
    return f" All of them: {', '.join(places)}{', …' if int(mask.sum()) > 8 else ''}."


def tensor(name: str, value: Any) -> Tensor:
    """A floating-point tensor with at least one entry; its values are not read."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor; got {type(value).__name__}. Wrap it: torch.as_tensor(...).")
    if not value.is_floating_point():
        raise TypeError(f"{name} must have a real floating-point dtype; got {describe(value)}. "
                        f"Convert it: {name}.to(torch.float64).")
    if value.numel() == 0:
        raise ValueError(f"{name} is empty; got {describe(value)}. Pass at least one entry in every dimension.")
    return value


def finite(name: str, x: Tensor) -> Tensor:
    """Refuse NaN and infinite entries."""
    if concrete(x):
        bad = ~torch.isfinite(x.detach())
        if bool(bad.any()):
            i = first(bad)
            raise ValueError(f"{name} must be finite; entry {i} is {float(x.detach()[i])} in {describe(x)}. "
                             f"Replace or drop the samples that hold it.")
    return x


def number(name: str, value: Any, *, at_least: float = -math.inf, above: float = -math.inf) -> float:
    """A finite real number, returned as a Python float."""
    if isinstance(value, Tensor) and value.ndim == 0 and not value.is_complex():
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number; got {value!r} of type {type(value).__name__}.")
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite; got {value}.")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least:g}; got {value:g}.")
    if value <= above:
        raise ValueError(f"{name} must be greater than {above:g}; got {value:g}.")
    return value


def count(name: str, value: Any) -> int:
    """A positive whole number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a whole number; got {value!r} of type {type(value).__name__}.")
    if value < 1:
        raise ValueError(f"{name} must be at least 1; got {value}.")
    return int(value)


def choice(name: str, value: Any, options: Sequence[Any]) -> Any:
    """One of the listed values."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}; got {value!r}.")
    return value


def times(t: Any) -> tuple[list[float], float]:
    """Strictly increasing finite times as floats, and the rounding unit of the dtype they came in."""
    if isinstance(t, list | tuple) and len(t) > 1 and all(type(value) in (float, int) for value in t):
        values = [float(value) for value in t]
        if not (all(map(math.isfinite, values)) and all(a < b for a, b in pairwise(values))):
            raise ValueError(_fault_in_times(values))
        return values, sys.float_info.epsilon
    if torch.compiler.is_compiling():
        raise TypeError("t must be a list of floats inside torch.compile, which cannot read the values of a tensor; "
                        "write t.tolist() outside.")
    if not isinstance(t, Tensor):
        try:
            t = torch.as_tensor(t, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"t must be a 1-D tensor or a sequence of times; got {type(t).__name__}.") from error
    if t.is_complex() or t.dtype == torch.bool:
        raise TypeError(f"t must hold real numbers; got {describe(t)}.")
    if t.ndim != 1 or len(t) < 2:
        raise ValueError(f"t must be a 1-D tensor of at least two times; got {describe(t)}. "
                         f"For one interval pass t = [t_start, t_end].")
    eps = torch.finfo(t.dtype).eps if t.is_floating_point() else torch.finfo(torch.float64).eps
    t = t.detach().to("cpu", torch.float64)
    values: list[float] = t.tolist()
    if not bool(torch.isfinite(t).all() and (t.diff() > 0).all()):
        raise ValueError(_fault_in_times(values))
    return values, eps


def _fault_in_times(values: list[float]) -> str:
    """What is wrong with times that are not finite and strictly increasing."""
    for k, value in enumerate(values):
        if not math.isfinite(value):
            return f"t must be finite; t[{k}] is {value}."
    k = next(k for k, (a, b) in enumerate(pairwise(values)) if b <= a)
    if values[k] == values[k + 1]:
        return f"t must be strictly increasing; t[{k}] and t[{k + 1}] are both {values[k]:g}. Drop the repeat."
    return (f"t must be strictly increasing; t[{k}] = {values[k]:g} is followed by {values[k + 1]:g}. An inclusion "
            f"cannot be run backward: trajectories merge, so the past is not a function of the present.")

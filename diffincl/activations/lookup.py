"""From an activation to its g and back: names, torch functions, modules; the reasons of those that have none."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from ..functions import L1, Box, Orthant, ProxFunction, Whole
from . import piecewise, table
from .scalar import ScalarActivation
from .softmax import Softmax

__all__ = ["activation", "function"]

NAMED: dict[str, Callable[[], ProxFunction]] = {
    "relu": Orthant,
    "relu6": lambda: Box(0.0, 6.0),
    "hardtanh": lambda: Box(-1.0, 1.0),
    "identity": Whole,
    "softshrink": lambda: L1(0.5),
    "leaky_relu": piecewise.leaky_relu,
    "tanh": table.tanh,
    "sigmoid": table.sigmoid,
    "softsign": table.softsign,
    "isru": table.isru,
    "elu": table.elu,
    "celu": table.celu,
    "atan": lambda: table.arctan(1.0),
    "arctan": lambda: table.arctan(1.0),
    "unit_arctan": table.arctan,
    "softplus": table.softplus,
    "symlog": table.symlog,
    "logsigmoid": table.logsigmoid,
    "hardsigmoid": piecewise.hardsigmoid,
    "tanhshrink": table.tanhshrink,
    "softmax": Softmax,
}

REFUSED: dict[str, str] = {
    "gelu": "it is not monotone: it falls to −0.1700 at x = −0.7518, then rises",
    "silu": "it is not monotone: it falls to −0.2785 at x = −1.2785, then rises",
    "mish": "it is not monotone: it falls to −0.3088 at x = −1.1924, then rises",
    "hardswish": "it is not monotone: it falls to −0.3750 at x = −1.5000, then rises",
    "selu": "it expands: its slope is 1.7581 at 0 from the left",
    "abs": "it is not monotone: it falls with slope −1 for x < 0",
    "maxmin": "it is not monotone: it sorts (1, 0) to (1, 0) and (0, 3) to (3, 0), a product of differences of −2",
    "groupsort": "it is not monotone: it sorts (1, 0) to (1, 0) and (0, 3) to (3, 0), a product of differences of −2",
    "rrelu": "its slope is random; for its mean use leaky_relu((lower + upper)/2)",
    "hardshrink": "it jumps, from 0 to 0.5 at x = 0.5 (by lambd, where that is set); softshrink does not",
    "threshold": "it jumps at the threshold, from value to threshold, unless they are equal; max(x, value) is "
                 "Box(value, inf)",
    "softmin": "it is not monotone: a larger x_i makes its entry smaller",
    "log_softmax": "its Jacobian I − 1·softmax(x)ᵀ is not symmetric, that of a prox is",
    "prelu": "pass the module nn.PReLU, its slope decides",
    "glu": "it halves the dimension",
    "gumbel_softmax": "it is random",
}

SPACES = (torch, nnf, torch.Tensor)


def _callables(names: dict[str, Any]) -> dict[Any, str]:
    """torch's functions of these names."""
    return {getattr(space, name): name for name in names for space in SPACES if hasattr(space, name)}


NAMED_CALLABLES, REFUSED_CALLABLES = _callables(NAMED), _callables(REFUSED)

MODULES: dict[type[nn.Module], Callable[[Any], ProxFunction]] = {
    nn.Identity: lambda m: Whole(),
    nn.ReLU: lambda m: Orthant(),
    nn.Hardtanh: lambda m: Box(m.min_val, m.max_val),  # ReLU6 is one
    nn.Softshrink: lambda m: L1(m.lambd),
    nn.LeakyReLU: lambda m: _leaky_relu(m.negative_slope),
    nn.PReLU: lambda m: _prelu(m.weight.detach()),
    nn.Tanh: lambda m: table.tanh(),
    nn.Sigmoid: lambda m: table.sigmoid(),
    nn.Softsign: lambda m: table.softsign(),
    nn.ELU: lambda m: table.elu(m.alpha),
    nn.CELU: lambda m: table.celu(m.alpha),
    nn.Softplus: lambda m: _softplus(m.beta, m.threshold),
    nn.LogSigmoid: lambda m: table.logsigmoid(),
    nn.Hardsigmoid: lambda m: piecewise.hardsigmoid(),
    nn.Tanhshrink: lambda m: table.tanhshrink(),
    nn.Threshold: lambda m: _threshold(m.threshold, m.value),
    nn.Softmax: lambda m: _softmax(m.dim),
}

REFUSED_MODULES: dict[type[nn.Module], str] = {
    nn.GELU: "gelu", nn.SiLU: "silu", nn.Mish: "mish", nn.Hardswish: "hardswish", nn.SELU: "selu", nn.RReLU: "rrelu",
    nn.Hardshrink: "hardshrink", nn.Softmin: "softmin", nn.LogSoftmax: "log_softmax", nn.GLU: "glu",
}


def function(activation: str | Callable[..., Tensor] | nn.Module) -> ProxFunction:
    """The g whose prox at h = 1 is an activation.

    Parameters
    ----------
    activation : str, torch function or torch.nn module
        A name such as "tanh", a function such as ``torch.tanh`` or ``torch.nn.functional.elu`` (with its default
        parameters), or a module such as ``nn.ELU(0.5)``, whose parameters are read as they are now.

    Raises
    ------
    ValueError
        If the activation is no prox map, with the reason, or is not known.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> di.activations.function("tanh"), di.activations.function(torch.nn.LeakyReLU(0.1))
    (activations.tanh, activations.leaky_relu(0.1))
    >>> di.activations.function(torch.nn.GELU())
    Traceback (most recent call last):
    ValueError: gelu is no prox map: it is not monotone: it falls to −0.1700 at x = −0.7518, then rises. ...

    Notes
    -----
    ρ is prox_φ of a convex φ exactly if it is nondecreasing and 1-Lipschitz; φ' = ρ⁻¹ − id.

    References
    ----------
    Combettes, Pesquet, "Deep neural network structures solving variational inequalities", 2020, §2; theory §8.
    """
    if isinstance(activation, nn.Module):
        return _of_module(activation)
    if isinstance(activation, type):
        raise TypeError(f"activation must be a name, a function or a module; got the class {activation.__name__}. Call "
                        f"it: {activation.__name__}().")
    if not isinstance(activation, str) and not callable(activation):
        raise TypeError(f"activation must be a name, a function or a module; got {activation!r}.")
    name = activation if isinstance(activation, str) else NAMED_CALLABLES.get(
        activation, REFUSED_CALLABLES.get(activation))
    if name in NAMED:
        return NAMED[name]()
    if name in REFUSED:
        raise ValueError(_refusal(name))
    raise ValueError(_unknown(activation))


def activation(g: ProxFunction) -> Callable[[Tensor], Tensor]:
    """The activation x ↦ prox of ``g`` at h = 1: torch's own function where there is one.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> di.activations.activation(di.Orthant()) is torch.relu
    True
    >>> di.activations.activation(di.Ball())(torch.tensor([3.0, 4.0]))
    tensor([0.6000, 0.8000])
    """
    if not isinstance(g, ProxFunction):
        raise TypeError(f"g must be a ProxFunction such as Orthant(); got {g!r}. Of an activation make one with "
                        f"function(...).")
    if isinstance(g, ScalarActivation):
        return g.rho
    if type(g) is Orthant:
        return torch.relu
    if type(g) is Softmax:
        return partial(torch.softmax, dim=-1)
    if type(g) is L1 and not isinstance(g.weight, Tensor):
        return partial(nnf.softshrink, lambd=float(g.weight))
    if type(g) is Box and not isinstance(g.lower, Tensor) and not isinstance(g.upper, Tensor):
        return nnf.relu6 if (g.lower, g.upper) == (0, 6) else partial(nnf.hardtanh, min_val=g.lower, max_val=g.upper)
    return partial(g.prox, h=1.0)


def _of_module(module: nn.Module) -> ProxFunction:
    for kind in type(module).__mro__:
        if kind in MODULES:
            return MODULES[kind](module)
        if kind in REFUSED_MODULES:
            raise ValueError(_refusal(REFUSED_MODULES[kind]))
    raise ValueError(_unknown(module))


def _refusal(name: str, reason: str = "") -> str:
    return f"{name} is no prox map: {reason or REFUSED[name]}. As part of F any activation will do."


def _unknown(activation: object) -> str:
    return (f"activation {activation!r} is not known. Known are {', '.join(NAMED)}; of another scalar function make "
            f"one with activations.from_callable(...), which looks whether it is nondecreasing and 1-Lipschitz.")


def _leaky_relu(slope: float) -> ProxFunction:
    return Orthant() if slope == 0 else piecewise.leaky_relu(slope)


def _prelu(weight: Tensor) -> ProxFunction:
    return _leaky_relu(float(weight)) if weight.numel() == 1 else piecewise.leaky_relu(weight)


def _softplus(beta: float, threshold: float) -> ProxFunction:
    if threshold < 20:
        raise ValueError(_refusal("softplus", f"with threshold {threshold:g} torch's softplus jumps there, by "
                                              f"ln(1 + e^(−threshold))/β; leave the threshold at 20"))
    return table.softplus(beta)


def _threshold(threshold: float, value: float) -> ProxFunction:
    if threshold != value:
        raise ValueError(_refusal("threshold", f"it jumps from {value:g} to {threshold:g} at x = {threshold:g}"))
    return Box(float(value), float("inf"))


def _softmax(dim: int | None) -> ProxFunction:
    if dim != -1:
        raise ValueError(f"softmax must act on the last dimension, as every g does; got dim = {dim}. Write "
                         f"nn.Softmax(dim=-1).")
    return Softmax()

"""What every block of this package offers, and its certificate."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import torch
import torch.fx
from torch import Tensor, nn

from .. import _check, norms
from .maps import Image, Maps, convolutions

__all__ = ["Block", "Certificate", "constructor_call"]

# Not part of the repr: they say where and how the weights begin, and the weights are in the state_dict.
UNNAMED = ("self", "device", "generator")


@dataclass(frozen=True)
class Certificate:
    """An ℓ2 Lipschitz factor of a layer, from above.

    Attributes
    ----------
    value : float
    status : str
        "certified": rounding is enclosed; "float": plain float64 with a margin.
    statement : str
        What it rests on.
    """

    value: float
    status: str
    statement: str


class Block(nn.Module):
    """A layer from states to states of the same shape, (*batch, features) or (*batch, features, *image).

    1. ``certificate(image)`` is its Lipschitz factor with the present weights; convolutions on images of that size, or,
       without ``image``, of every size;
    2. ``constrain_()`` after an optimiser step puts the weights back onto the structure, cheaply;
    3. ``certify_(image)`` makes sure of it by an upper bound, for the end of an epoch, and returns the certificate;
    4. ``plain()`` is a module of torch's own classes with the same values, its weights copies of the present ones;
    5. ``repr`` is the constructor call.
    """

    maps: Maps
    features: int
    dims = 0

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return next(self.parameters()).dtype

    def certificate(self, image: Image | None = None, *, status: str = norms.CERTIFIED) -> Certificate:
        """The ℓ2 Lipschitz factor."""
        raise NotImplementedError

    def constrain_(self) -> None:
        """Put the weights back onto the structure; most blocks have none."""

    def certify_(self, image: Image | None = None, *, status: str = norms.FLOAT) -> Certificate:
        """Make sure of the structure, by an upper bound where there is a norm to keep."""
        self.constrain_()
        return self.certificate(image, status=status)

    def plain(self) -> nn.Module:
        """The same map in torch's own classes."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return constructor_call(self)

    def convolve(self, kernel_size: Image, padding_mode: str) -> Maps:
        """Begin a form with convolutions, in place of ``__init__``: keep its arguments; its maps."""
        nn.Module.__init__(self)
        self.kernel_size, self.padding_mode = kernel_size, padding_mode
        return convolutions(self.dims, kernel_size, padding_mode)

    def extra_weights(self, names: dict[str, Tensor | None]) -> None:
        """Register parameters by name, None where there is none."""
        for name, value in names.items():
            self.register_parameter(name, None if value is None else nn.Parameter(value))


def constructor_call(module: nn.Module) -> str:
    """The call that makes a module like this one: its arguments are attributes of the same names."""
    words = []
    for name, parameter in inspect.signature(type(module).__init__).parameters.items():
        if name in UNNAMED:
            continue
        value = getattr(module, name)
        default = torch.get_default_dtype() if name == "dtype" else parameter.default
        if default is inspect.Parameter.empty:
            words.append(repr(value))
        elif value != (module.features if name == "hidden" and default is None else default):
            words.append(f"{name}={value!r}")
    return f"{type(module).__name__}({', '.join(words)})"


def traced(module: nn.Module) -> nn.Module:
    """A module that needs torch only: its children and what its forward does with them."""
    plain = torch.fx.symbolic_trace(module)
    for node in plain.graph.nodes:
        node.type = None  # annotations are strings, which torch.save does not take here
    plain.recompile()
    return plain


def widths(features: int, hidden: int | None) -> tuple[int, int]:
    """Features and hidden units, checked; by default as many."""
    features = _check.count("features", features)
    return features, features if hidden is None else _check.count("hidden", hidden)


def joint(*parts: norms.OperatorNorm) -> str:
    """The status of what follows from several norms."""
    return norms.CERTIFIED if all(part.status == norms.CERTIFIED for part in parts) else norms.FLOAT

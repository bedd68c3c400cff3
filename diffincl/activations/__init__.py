"""Activations as proximity operators: which g has a given activation as its prox, and back.

A scalar ρ is prox_φ of a convex φ exactly if it is nondecreasing and 1-Lipschitz; then φ' = ρ⁻¹ − id (theory §8).
``function`` takes an activation to g, ``activation`` takes g to its activation. A residual layer with that activation
outside is one ``ForwardEuler`` step of length 1; a step of length h takes ``g.prox(x, h)``.
"""

from .custom import from_callable
from .lookup import activation, function
from .piecewise import hardsigmoid, leaky_relu
from .scalar import ScalarActivation
from .softmax import Softmax
from .table import (
    arctan,
    celu,
    elu,
    isru,
    logsigmoid,
    sigmoid,
    softplus,
    softsign,
    symlog,
    tanh,
    tanhshrink,
)

__all__ = ["ScalarActivation", "Softmax", "activation", "arctan", "celu", "elu", "from_callable", "function",
           "hardsigmoid", "isru", "leaky_relu", "logsigmoid", "sigmoid", "softplus", "softsign", "symlog",
           "tanh", "tanhshrink"]

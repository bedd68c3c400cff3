"""One step of each discretization; a scheme reads as its formula.

The contract of a scheme (contract tests run on every one of them):

1. ``step(F, g, t, t_next, h, x)`` is a pure function of a field F(t, x), a ProxFunction, the ends of the step as 0-dim
   tensors, its length ``h`` as a float and the state; it evaluates F only inside [t, t_next];
2. it returns ``(x_next, z)`` with x_next = prox of g at ``z`` with step ``prox_fraction``·h, so that the multiplier
   (z − x_next)/(prox_fraction·h) is an element of ∂g(t_next, x_next);
3. a sample whose inner iteration fails gets x_next = NaN with a finite z; ``failure`` says why and what to do;
4. ``order`` is its order in the interior and through contact with boxes and the orthant;
5. ``bound(size, c)`` is its factor (theory D1, D4, D7): ‖x_next‖ <= bound(‖x‖) for 0 ∈ argmin g, and, with
   c.drift = c.drift_next = 0, ‖x_next − y_next‖ <= bound(‖x − y‖).
"""

from .base import Scheme, StepConstants
from .explicit import ForwardEuler, ProxHeun
from .implicit import ImplicitEuler

__all__ = ["ForwardEuler", "ImplicitEuler", "ProxHeun", "Scheme", "StepConstants"]

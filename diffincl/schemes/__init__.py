"""One step of each discretization; a scheme reads as its formula.

The contract of a scheme (contract tests run on every one of them):

1. ``step(F, g, t, t_next, h, x)`` is a pure function of a field F(t, x), a ProxFunction, the ends of the step as 0-dim
   tensors, its length ``h`` as a float and the state; it evaluates F only inside [t, t_next];
2. it returns ``(x_next, z)`` with x_next = prox of g at ``z`` with step ``prox_fraction``·h, so that the multiplier
   (z − x_next)/(prox_fraction·h) is an element of ∂g(t_next, x_next);
3. a sample whose inner iteration fails gets x_next = NaN with a finite z; ``failure`` says why and what to do;
4. ``order`` is its order in the interior and through contact with boxes and the orthant;
5. ``bound(size, c)`` is its factor (theory D1, D4, D7): ‖x_next‖ <= bound(‖x‖) for 0 ∈ argmin g, and, with
   c.drift = c.drift_next = c.drift_inside = 0, ‖x_next − y_next‖ <= bound(‖x − y‖); infinite where it has none.

``ProxHeun`` and ``ARS222`` also take ``h`` as a tensor (*batch, 1) and have ``embedded(F, g, t, t_next, h, x)``, a step
with an estimate of its error of order h**``error_order``, in which every sample has its own t and h.

No fixed-step scheme keeps order 2 where a trajectory *crosses* a kink of g without sticking to it (ℓ1): order 1 in the
value, and the derivative of the discrete trajectory with respect to x0 is not that of the flow, for any step. Of
x' ∈ −½∂|x| − 1 from x0 > 0 (F = 1, g = ½|x|) the flow has dx(T)/dx0 = 1/3, automatic differentiation gives 0 or 1.
"""

from .base import Embedded, Scheme, StepConstants
from .explicit import ARS222, ForwardEuler, ProxHeun
from .implicit import Implicit, ImplicitEuler, SemiImplicitEuler, Trapezoid

__all__ = ["ARS222", "Embedded", "ForwardEuler", "Implicit", "ImplicitEuler", "ProxHeun", "Scheme", "SemiImplicitEuler",
           "StepConstants", "Trapezoid"]

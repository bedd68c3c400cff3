"""Grönwall-type bounds of an inclusion, continuous and discrete, and their comparison with trajectories.

A continuous bound holds for the exact flow: compare it with a converged trajectory. A discrete one holds for the steps
of its scheme: compare it with the network (theory D4).
"""

from .comparison import Comparison, compare
from .continuous import growth, sensitivity
from .discrete import discrete_growth, discrete_sensitivity
from .flow_tube import flow_tube
from .folding import fold_batch_norm, fold_symmetric, pooling_norm
from .perturbed import layer_errors, two_fields
from .pieces import RATES, Bound
from .robust import robust_radius
from .tube import tube

__all__ = ["RATES", "Bound", "Comparison", "compare", "discrete_growth", "discrete_sensitivity", "flow_tube",
           "fold_batch_norm", "fold_symmetric", "growth", "layer_errors", "pooling_norm", "robust_radius",
           "sensitivity", "tube", "two_fields"]

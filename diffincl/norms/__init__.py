"""Operator norms and largest eigenvalues from above, with a status that says how far the number can be trusted."""

from .matrices import (
    CERTIFIED,
    ESTIMATE,
    FLOAT,
    UNDERFLOW,
    UNIT,
    OperatorNorm,
    as_matrix,
    dense,
    gamma,
    largest_eigenvalue,
    row_sum,
)

__all__ = ["CERTIFIED", "ESTIMATE", "FLOAT", "UNDERFLOW", "UNIT", "OperatorNorm", "as_matrix", "dense", "gamma",
           "largest_eigenvalue", "row_sum"]

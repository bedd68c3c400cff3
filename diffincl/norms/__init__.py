"""Operator norms and largest eigenvalues from above, with a status that says how far the number can be trusted."""

from .convolution import conv1d, conv2d
from .gram import gram_conv1d, gram_conv2d, gram_dense
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

__all__ = ["CERTIFIED", "ESTIMATE", "FLOAT", "UNDERFLOW", "UNIT", "OperatorNorm", "as_matrix", "conv1d", "conv2d",
           "dense", "gamma", "gram_conv1d", "gram_conv2d", "gram_dense", "largest_eigenvalue", "row_sum"]

"""The Moreau–Yosida penalty: ∂g smoothed to a Lipschitz force, and the ODE left to torchdiffeq or scipy."""

from .penalty import Penalty, PenaltyError

__all__ = ["Penalty", "PenaltyError"]

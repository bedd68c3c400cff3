"""The penalised ODE as scipy calls it: the batch as one system of numpy vectors, with its exact Jacobian."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .velocity import Velocity

__all__ = ["System"]


class System:
    """The batch as one system of numpy vectors for scipy."""

    def __init__(self, velocity: Velocity, x: Tensor):
        self.velocity, self.shape, self.device = velocity, x.shape, x.device
        self.y0: np.ndarray = x.detach().double().cpu().numpy().ravel()

    def tensor(self, y: np.ndarray) -> Tensor:
        """A state vector of scipy as a float64 tensor (*batch, d)."""
        return torch.tensor(y, dtype=torch.float64, device=self.device).reshape(self.shape)

    def value(self, s: float, y: np.ndarray) -> np.ndarray:
        """The velocity. LSODA goes on with a state of NaN to the end: ``reached`` stays at the last finite one."""
        if np.isfinite(y).all():
            self.velocity.reach(self.velocity.origin + s)
        return self.velocity(torch.tensor(s, dtype=torch.float64), self.tensor(y)).cpu().numpy().ravel()

    def blocks(self, s: float, y: np.ndarray) -> np.ndarray:
        """The Jacobian of each sample, (samples, d, d): samples do not see each other, so d sums give all rows."""
        with torch.enable_grad():
            x = self.tensor(y).requires_grad_()
            v = self.velocity(torch.tensor(s, dtype=torch.float64), x)
            rows = [torch.autograd.grad(v[..., i].sum(), x, retain_graph=True)[0] for i in range(x.shape[-1])]
        return torch.stack(rows, dim=-2).reshape(-1, x.shape[-1], x.shape[-1]).cpu().numpy()

    def sparse(self, s: float, y: np.ndarray):
        """The Jacobian of the system, block diagonal."""
        from scipy.sparse import bsr_matrix

        blocks = self.blocks(s, y)
        n = len(blocks)
        return bsr_matrix((blocks, np.arange(n), np.arange(n + 1))).tocsc()

    def banded(self, s: float, y: np.ndarray) -> np.ndarray:
        """The Jacobian packed by diagonals: row i − j + d − 1 holds the entries (i, j)."""
        blocks = self.blocks(s, y)
        n, d, _ = blocks.shape
        packed = np.zeros((2 * d - 1, n, d))
        for i in range(d):
            for j in range(d):
                packed[i - j + d - 1, :, j] = blocks[:, i, j]
        return packed.reshape(2 * d - 1, n * d)

"""The tube around trajectories of trained networks, and the rates of convolutional branches."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Generator, Tensor
from torch.linalg import vector_norm

import diffincl as di

from .nets import F64, Net


def tube_rows(net: Net, centres: int, iterations: int) -> list[dict[str, Any]]:
    """Factor ‖x_N − y_N‖/r over the balls of radius r around states of test images: bounds, and what ascent reaches.

    Radii are shares of the median size of the states.
    """
    assert net.starts is not None
    flow, x0 = net.flow(), net.starts[:centres]
    size = float(vector_norm(x0, dim=-1).median())
    everywhere = {rate: float(di.bounds.discrete_sensitivity(flow, net.t, rate=rate).curve[-1])
                  for rate in ("global", "step")}
    rows = []
    for share in (0.001, 0.01, 0.1, 1.0):
        start = time.perf_counter()
        factor = di.bounds.tube(flow, net.t, x0, share * size).curve[-1] / (share * size)
        seconds = time.perf_counter() - start
        found = _ascent(flow, net.t, x0, share * size, iterations)
        rows.append({"network": net.title, "radius / size": share, "tube, median": float(factor.median()),
                     "tube, largest": float(factor.max()), "observed, median": float(found.median()),
                     "tube / observed, median": float((factor / found).median()), "∏R8": everywhere["step"],
                     "∏(1 + hR1)": everywhere["global"], "ms a state": 1000 * seconds / len(x0)})
    return rows


def _ascent(flow: di.Inclusion, t: Tensor, x0: Tensor, radius: float, iterations: int) -> Tensor:
    """The largest ‖x_N − y_N‖/radius found for y_0 in the ball and the orthant, (n,)."""
    x = di.solve(flow, x0, t).x[-1]
    z = radius * x0.shape[-1] ** -0.5 * torch.randn(4, *x0.shape, generator=Generator().manual_seed(0), dtype=F64)
    z.requires_grad_()
    optimiser, best = torch.optim.Adam([z], lr=0.05 * radius), torch.zeros(len(x0), dtype=F64)
    for _ in range(iterations):
        with torch.no_grad():
            z.mul_((radius / vector_norm(z, dim=-1, keepdim=True)).clamp(max=1))
            z.copy_((x0 + z).relu() - x0)
        away = vector_norm(di.solve(flow, x0 + z, t).x[-1] - x, dim=-1) / radius
        best = torch.maximum(best, away.detach().amax(0))
        optimiser.zero_grad()
        (-(away + 1e-12).log().sum()).backward()
        optimiser.step()
    return best


def branch_row(kind: str, channels: int, image: int, h: float, seed: int) -> dict[str, Any]:
    """Rates of A2 σ(A1 x + b1) with 3×3 kernels, zero padding, over the exact rate from below; S: A2 near A1ᵀ."""
    generator = Generator().manual_seed(seed)
    K1, K2 = (torch.randn(channels, channels, 3, 3, generator=generator, dtype=F64) / (3 * channels**0.5)
              for _ in range(2))
    K2 = K1 + 0.1 * K2 if kind == "near S" else K2.abs() if kind == "D" else K2
    size, start = (image, image), time.perf_counter()
    uniform, scaled = (rate(K1, K2, size, transposed=True).value for rate in (di.rates.conv.uniform,
                                                                               di.rates.conv.scaled))
    rho = di.rates.conv.step(K1, K2, size, h, transposed=True)
    seconds = time.perf_counter() - start
    A1, A2 = _matrix(K1, image), _matrix(K2, image).T
    below = di.rates.exact_estimate(A1, A2, restarts=4, iterations=20).value
    return {"branch": kind, "channels": channels, "image": image, "R1 / exact from below": float(uniform / below),
            "R3 / exact from below": float(scaled / below), "1 + hR1": 1 + h * float(uniform), "R8": float(rho),
            "1 + h·exact from below": 1 + h * float(below), "seconds": seconds}


def _matrix(K: Tensor, image: int) -> Tensor:
    pixels = torch.eye(K.shape[1] * image**2, dtype=F64).reshape(-1, K.shape[1], image, image)
    return torch.nn.functional.conv2d(pixels, K, padding=1).flatten(1).T

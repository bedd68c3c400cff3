"""A network through torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from ..nn import Network

__all__ = ["compiled"]


def compiled(net: Network, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The network as torch compiles it, with the same weights; it is compiled when it is first called.

    Raises
    ------
    ValueError
        If torch cannot compile here: why, and what to do.
    """
    _require_compiler(device)
    return cast(Callable[[Tensor], Tensor], torch.compile(net, dynamic=False))


def _require_compiler(device: torch.device) -> None:
    """Compile next to nothing: better now than after minutes."""
    try:
        torch.compile(_tried, dynamic=False)(torch.zeros(4, device=device))
    except Exception as error:  # whatever the back end raises: no compiler, no headers of Python, no Triton
        tool = "a C++ compiler (on Debian: apt install g++ python3-dev)" if device.type == "cpu" else "Triton"
        why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(f"compile needs {tool} that torch.compile can use here; it says: {why}. Install it, or leave "
                         f"compile out: the same training, uncompiled.") from error


def _tried(x: Tensor) -> Tensor:
    return torch.relu(x + 1)

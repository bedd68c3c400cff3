"""Steps in place on a GPU, a block of them recorded as a CUDA graph and replayed: one launch for the block."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..inclusion import Inclusion
from ..schemes import Scheme
from ..steps import Plan
from . import on_gpu
from .inplace import InPlace

__all__ = ["Replayed", "is_replayed"]

# Not measured, on the safe side: multiplications of a step up to which its launches take most of its time, and blocks
# alike from which on recording one pays.
SMALL, BLOCKS = 2**31, 8
# Steps of one length differ by the rounding of their ends.
ROUNDING = 1e-9


def is_replayed(in_place: InPlace, x0: Tensor) -> bool:
    """Whether steps are taken on a GPU, short enough, and without keeping all states; no clock is looked at."""
    hidden = in_place.layers[0][0].shape[-1]
    return on_gpu.is_here(x0) and not in_place.kept and 2 * hidden * x0.numel() <= SMALL


class Replayed:
    """What ``InPlace`` does, to rounding; blocks of steps with the same weights and length are replayed.

    States and points of a block are overwritten by the next block, its last state is not.
    """

    def __init__(self, flow: Inclusion, scheme: Scheme, plan: Plan, x0: Tensor):
        self.plain, self.recording = (InPlace(flow, scheme, plan, x0, kept=False) for _ in range(2))
        self.calls = self.plain.calls
        self.start = torch.empty_like(x0, requires_grad=False)
        self.possible = True
        self.recorded: range | None = None
        self.replay: Callable[[], None] | None = None
        self.states: list[Tensor] = []
        self.points: list[Tensor] = []

    def along(self, block: range, x: Tensor, states: list[Tensor], points: list[Tensor]) -> None:
        """Append the states after the steps of a block and the points whose prox they are."""
        new = self.possible and not self._is_recorded(block) and self._alike(block.start, len(block) * BLOCKS)
        if new:
            self._record(block, x)
        if not self._is_recorded(block):
            self.plain.along(block, x, states, points)
            return
        with torch.no_grad():
            self.start.copy_(x)
        assert self.replay is not None
        self.replay()
        if new and not self._is_right(block, x, states, points):
            self.possible, self.recorded = False, None
            return
        states += [*self.states[:-1], self.states[-1].clone()]  # where the next block starts, and what it looks back at
        points += self.points

    def _is_right(self, block: range, x: Tensor, states: list[Tensor], points: list[Tensor]) -> bool:
        """Whether what was replayed for the first time is what plain steps give; if not, theirs are appended."""
        plain: tuple[list[Tensor], list[Tensor]] = [], []
        self.plain.along(block, x, *plain)
        near = torch.finfo(x.dtype).eps ** 0.5
        if torch.allclose(self.states[-1], plain[0][-1], rtol=near, atol=near, equal_nan=True):
            return True
        states += plain[0]
        points += plain[1]
        return False

    def _record(self, block: range, x: Tensor) -> None:
        """Record a block; where that fails, for want of memory or because another capture is under way, steps are taken
        the plain way from then on."""
        self.recorded = block
        try:
            self.replay = recorded(self._run, x)
        except RuntimeError:
            self.possible, self.recorded = False, None

    def _run(self) -> None:
        """The steps to be recorded."""
        assert self.recorded is not None
        self.states.clear()
        self.points.clear()
        self.recording.along(self.recorded, self.start, self.states, self.points)

    def _is_recorded(self, block: range) -> bool:
        """Whether a block repeats the recorded one."""
        mine = self.recorded
        return mine is not None and len(block) == len(mine) and self._alike(mine.start, len(block), block.start)

    def _alike(self, first: int, n: int, start: int | None = None) -> bool:
        """Whether n steps, from ``start`` on, have the weights and the length of the step ``first``."""
        layers, ends, start = self.plain.layers, self.plain.ends, first if start is None else start
        h = ends[first + 1] - ends[first]
        return start + n <= len(layers) and all(
            all(a is b for a, b in zip(layers[k], layers[first], strict=True))
            and math.isclose(ends[k + 1] - ends[k], h, rel_tol=ROUNDING) for k in range(start, start + n))


def recorded(run: Callable[[], None], x: Tensor) -> Callable[[], None]:
    """What ``run`` does, as a CUDA graph."""
    with torch.cuda.device_of(x):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):  # all memory is taken and all libraries are set up before
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            run()
    return graph.replay

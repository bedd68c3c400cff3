"""Derivatives by recomputation: of N states about 2√N are kept, the steps between them are taken again in the backward
pass.

Steps run without gradients; meanwhile a ``Tape`` notes every tensor with requires_grad that they read (nothing computed
without gradients requires them, so these come from outside: parameters, tensors in closures, bounds of g). They become
inputs of one autograd function, whose backward takes the steps again, segment by segment from the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from .. import _check

__all__ = ["Tape", "recompute"]

Step = Callable[[Tensor], tuple[Tensor, Sequence[Tensor]]]
Take = Callable[[int, Tensor], tuple[Tensor, Sequence[Tensor]]]


def recompute(steps: Sequence[Step], x0: Tensor, parameters: Iterable[Tensor] = ()
              ) -> tuple[Tensor, list[list[Tensor]]]:
    """Compose steps; gradients take them again instead of keeping what lies within.

    Parameters
    ----------
    steps : sequence of functions x ↦ (x_next, kept)
        Pure: called again with the same state a step must give the same values (random numbers of torch's default
        generators are drawn again). It must read tensors that require gradients when it is called, not before: a view
        of a weight taken outside a step is an input of its own.
    x0 : Tensor
    parameters : tensors
        What the steps read out of sight of torch's Python functions (parameters of a compiled module).

    Returns
    -------
    x : Tensor, the last state
    kept : list
        For each step the tensors that it handed out, with gradients.

    Raises
    ------
    RuntimeError
        In the backward pass: if a step gives other values than before, or if what it read was changed in place since.

    Examples
    --------
    >>> a = torch.tensor(2.0, requires_grad=True)
    >>> x, kept = recompute([lambda x: (a * x, [x])] * 3, torch.tensor(1.0))
    >>> torch.autograd.grad(x + kept[1][0], a)  # d(a³ + a)/da
    (tensor(13.),)

    References
    ----------
    Chen, Xu, Zhang, Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016.
    """
    tape, x, kept = Tape(x0, len(steps), parameters), x0.detach(), []
    with tape.recording():
        for k, step in enumerate(steps):
            tape.mark(k, x)
            x, rows = step(x)
            kept.append(list(rows))
    return tape.attach(lambda k, x: steps[k](x), x0, x, kept)


class Tape(TorchFunctionMode):
    """What one pass over n steps leaves for the backward pass: some of the states, and the tensors that were read."""

    def __init__(self, x0: Tensor, n: int, parameters: Iterable[Tensor] = ()):
        super().__init__()
        self.spacing = max(1, math.ceil(math.sqrt(n) / 2))
        self.device, self.cast = x0.device, _autocast_of(x0.device.type)
        self.at: list[int] = []
        self.states: list[Tensor] = []
        self.random: list[tuple[Tensor, Tensor | None]] = []
        self.read: dict[int, Tensor] = {}
        self.made: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # with gradients, by the steps themselves
        self._note(tuple(parameters))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Run without gradients and note what is read."""
        with torch.no_grad(), self.cast(), self:
            yield

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._note(args)
        self._note(kwargs)
        value = func(*args, **(kwargs or {}))
        for made in value if isinstance(value, tuple | list) else (value,):
            if isinstance(made, Tensor) and made.requires_grad and id(made) not in self.read:
                self.made[made] = None
        return value

    def _note(self, value: Any) -> None:
        if isinstance(value, Tensor):
            if value.requires_grad and id(value) not in self.read and self._from_outside(value):
                self.read[id(value)] = value
        elif isinstance(value, tuple | list):
            for part in value:
                self._note(part)
        elif isinstance(value, dict):
            self._note(tuple(value.values()))

    def _from_outside(self, value: Tensor) -> bool:
        """Whether a tensor with gradients is none that a step, or a transform within it, made for itself."""
        return value not in self.made and _check.concrete(value)

    def mark(self, k: int, x: Tensor) -> None:
        """Keep the state before step k, if it is time to."""
        if not self.at or k - self.at[-1] >= self.spacing:
            self.at.append(k)
            self.states.append(x.detach())
            on_gpu = self.device.type == "cuda"
            self.random.append((torch.get_rng_state(), torch.cuda.get_rng_state(self.device) if on_gpu else None))

    def attach(self, take: Take, x0: Tensor, x: Tensor, kept: list[list[Tensor]]) -> tuple[Tensor, list[list[Tensor]]]:
        """The results of the pass as functions of x0 and of what was read. ``take(k, x)`` takes step k again; it must
        hold nothing that holds these results."""
        if not kept or not (x0.requires_grad or self.read):
            return x, kept
        self.at.append(len(kept))
        values = [x, *(row for rows in kept for row in rows)]
        x, *rows = _Recomputed.apply(_Pass(self, take, [len(rows) for rows in kept]), values, x0, *self.read.values())
        remaining = iter(rows)
        return x, [[next(remaining) for _ in parts] for parts in kept]

    @contextmanager
    def replaying(self, j: int, stand_ins: dict[int, Tensor]) -> Iterator[None]:
        """As in the pass from mark j on: the same random numbers and precision, with gradients."""
        cpu, gpu = self.random[j]
        with torch.enable_grad(), self.cast(), torch.random.fork_rng([] if gpu is None else [self.device]):
            torch.set_rng_state(cpu)
            if gpu is not None:
                torch.cuda.set_rng_state(gpu, self.device)
            if not stand_ins:
                yield
                return
            with _Replaced(stand_ins):
                yield


class _Replaced(TorchFunctionMode):
    """Torch functions see other tensors in place of some."""

    def __init__(self, by: dict[int, Tensor]):
        super().__init__()
        self.by = by

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*self._in(args), **self._in(kwargs or {}))

    def _in(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.by.get(id(value), value)
        if type(value) in (tuple, list):
            return type(value)(self._in(part) for part in value)
        if type(value) is dict:
            return {key: self._in(part) for key, part in value.items()}
        return value


class _Pass:
    """Steps to be taken again: their tape, and how many rows each handed out."""

    def __init__(self, tape: Tape, take: Take, counts: list[int]):
        self.tape, self.take, self.counts = tape, take, counts

    def pull_back(self, states: Sequence[Tensor], cotangents: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Gradients of x0 and of what was read, from those of the last state and of the rows."""
        read = list(self.tape.read.values())
        # A tensor that was computed from others hands its gradient on itself: a stand-in, so that nothing else does.
        stand_ins = {id(v): v.detach().requires_grad_() for v in read if not v.is_leaf}
        targets = [stand_ins.get(id(v), v) for v in read]
        adjoint, *rest = cotangents
        rows, total = iter(rest), list[Tensor | None]([None] * len(read))
        by_step = [[next(rows) for _ in range(count)] for count in self.counts]
        seen = False
        for j in reversed(range(len(self.tape.at) - 1)):
            steps = range(self.tape.at[j], self.tape.at[j + 1])
            if adjoint is None and all(c is None for k in steps for c in by_step[k]):
                continue
            start = states[j].detach().requires_grad_()
            with self.tape.replaying(j, stand_ins):
                outputs, weights = self._again(steps, start, states[j + 1], by_step, adjoint)
            if not seen and _leaves(outputs, [start, *targets, *read]):
                with self.tape.replaying(j, stand_ins), Tape(start, 1) as again:
                    outputs, weights = self._again(steps, start, states[j + 1], by_step, adjoint)
                leaves = _leaves(outputs, [start, *targets, *read])
                _require_none([leaf for leaf in leaves if leaf not in again.made])
            seen = True
            if outputs:
                adjoint = _accumulate(total, _gradients(outputs, weights, start, targets, read))
            else:
                adjoint = None
            del outputs, weights, start
        return [adjoint, *total]

    def _again(self, steps: range, x: Tensor, end: Tensor, cotangents: list[list[Tensor | None]],
               adjoint: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
        """Take some steps again; the results that count, each with its cotangent."""
        pairs: list[tuple[Tensor, Tensor | None]] = []
        for k in steps:
            x, rows = self.take(k, x)
            pairs += zip(rows, cotangents[k], strict=True)
        _require_same(x.detach(), end)
        pairs = [(v, c) for v, c in [*pairs, (x, adjoint)] if c is not None and v.requires_grad]
        return [v for v, _ in pairs], [c for _, c in pairs if c is not None]


class _Recomputed(torch.autograd.Function):
    """x0 and what was read ↦ the last state and the rows."""

    @staticmethod
    def forward(ctx: Any, run: _Pass, values: list[Tensor], x0: Tensor, *read: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.run, ctx.states = run, len(run.tape.states) + 1
        ctx.save_for_backward(*run.tape.states, values[0].detach(), *read)  # tells if one is changed in place
        run.tape.states = []
        return tuple(value.detach() for value in values)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # torch's once_differentiable would lose second derivatives in silence
            raise RuntimeError("gradient='checkpoint' gives first derivatives only, so create_graph=True is not "
                               "possible. Take gradient='backprop' for second derivatives.")
        states = ctx.saved_tensors[:ctx.states]
        return None, None, *ctx.run.pull_back(states, cotangents)


def _gradients(outputs: list[Tensor], weights: list[Tensor], start: Tensor, targets: list[Tensor],
               read: list[Tensor]) -> list[Tensor | None]:
    """Gradients of the start and of the targets."""
    behind = [v for v, target in zip(read, targets, strict=True) if v is not target]
    found = torch.autograd.grad(outputs, [start, *targets, *behind], weights, allow_unused=True)
    if any(gradient is not None for gradient in found[1 + len(targets):]):
        raise RuntimeError("gradient='checkpoint' cannot follow a tensor that is computed from others and that F or g "
                           "hands directly to an autograd.Function of its own. Hand over W.clone() in place of W, or "
                           "take gradient='backprop'.")
    return list(found[:1 + len(targets)])


def _leaves(outputs: list[Tensor], known: list[Tensor]) -> list[Tensor]:
    """Leaves of the graph behind some tensors, as far as known ones, that are not known."""
    ids, found = {id(v) for v in known}, dict[int, Tensor]()
    todo, done = [v.grad_fn for v in outputs], {v.grad_fn for v in known}
    while todo:
        node = todo.pop()
        if node is not None and node not in done:
            done.add(node)
            todo += [behind for behind, _ in node.next_functions]
            leaf = getattr(node, "variable", None)
            if leaf is not None and id(leaf) not in ids:
                found[id(leaf)] = leaf
    return list(found.values())


def _require_none(leaves: list[Tensor]) -> None:
    """Raise where the repeated steps read a tensor of which the pass saw nothing."""
    if leaves:
        raise RuntimeError(f"gradient='checkpoint' did not see that F or g reads {_check.describe(leaves[0])}, which "
                           f"requires gradients: code that is compiled hides it. Make it a parameter of a module that "
                           f"is the field, or take gradient='backprop'.")


def _accumulate(total: list[Tensor | None], found: list[Tensor | None]) -> Tensor | None:
    """Add gradients of what was read to their total, in place; return that of the start."""
    for i, gradient in enumerate(found[1:]):
        if gradient is not None:
            found[1 + i], so_far = None, total[i]  # a sum of its own, since a gradient may be shared with others
            total[i] = gradient.clone() if so_far is None else so_far.add_(gradient)
    return found[0]


def _require_same(again: Tensor, before: Tensor) -> None:
    """Raise where a repeated step went elsewhere, beyond rounding."""
    if torch.equal(again, before):
        return
    room = math.sqrt(torch.finfo(before.dtype).eps)
    size = float(before.nan_to_num(0.0, 0.0, 0.0).abs().max())
    if not torch.allclose(again, before, rtol=room, atol=room * size, equal_nan=True):
        raise RuntimeError("gradient='checkpoint' takes the steps again in the backward pass, and F or g gave other "
                           "values than before. Change no weight between solve and backward; if F draws from a "
                           "generator of its own or counts its calls, take gradient='backprop'.")


def _autocast_of(device: str) -> Callable[[], torch.autocast]:
    """The automatic mixed precision in force, without its cache (which would keep weights without gradients)."""
    on, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return lambda: torch.autocast(device, dtype=dtype, enabled=on, cache_enabled=False)

"""Where a network has left the numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..nn import Network, Stage
from ..solve import solve

__all__ = ["fault"]


@torch.no_grad()
def fault(net: Network, x: Tensor) -> str:
    """The first weights, or else the first state on the way of ``x``, that are not finite, in words; "" if all are."""
    names: dict[nn.Module, str] = {module: name for name, module in net.named_modules()}
    return _in_weights(net, names) or _on_the_way(net, names, x)


def _in_weights(net: Network, names: dict[nn.Module, str]) -> str:
    for module, place in names.items():
        if isinstance(module, Stage):
            for name, curve in module.curves.items():
                bad = ~torch.isfinite(curve.values).flatten(1).all(1)
                if bool(bad.any()):
                    what = "layer" if len(bad) == module.depth else "node"
                    return f"{name} of {what} {int(bad.nonzero()[0])} of the stage {place}"
    for name, weight in net.state_dict().items():
        if not bool(torch.isfinite(weight).all()):
            return f"the weight {name}"
    return ""


def _on_the_way(net: Network, names: dict[nn.Module, str], x: Tensor) -> str:
    """The first module, in the order of evaluation, whose result is not finite."""
    found: list[str] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not found and not bool(torch.isfinite(output).all()):
            found.append(f"the result of {names[module]}")

    def look_within(stage: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(stage, Stage)
        sol = solve(stage.flow, inputs[0], stage.times, scheme=stage.scheme, throw=False)
        if not found and not sol.success:
            k = int(torch.isfinite(sol.x).flatten(1).all(1).long().cumprod(0).sum())
            found.append(f"the state after layer {k - 1} of the stage {names[stage]}")

    hooks = [module.register_forward_pre_hook(look_within) if isinstance(module, Stage) else
             module.register_forward_hook(look) for module in names if isinstance(module, Stage) or not
             list(module.children())]
    try:
        net(x)
    except (ValueError, RuntimeError):  # the layer refuses what has been found by then
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else ""

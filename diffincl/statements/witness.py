"""The worst instance as data: enough to build it again and look at it again, in this process or from a file."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import torch
from torch import Tensor

from .. import curves, fields, functions
from ..fields import CallableField, Field
from ..inclusion import Inclusion
from . import controls
from . import fields as own_fields
from .case import Case, Sides, Statement, one_instance
from .paths import converged

__all__ = ["Replay", "Witness", "read_witness", "replay", "witness_of"]

REPRODUCED = 1e-6  # relative: alone, an instance is rounded differently than within its block
CLASSES: dict[str, Any] = {name: getattr(module, name) for module in (functions, curves, fields, own_fields, controls)
                           for name in module.__all__} | {"Inclusion": Inclusion, "Constant": curves.Constant}


@dataclass(frozen=True, eq=False)
class Witness:
    """The worst instance met.

    Attributes
    ----------
    label, origin, form : str
        Statement, where the instance comes from, and which form of the claim was worst.
    time : float
        When it was worst; ``row`` is its number among the times looked at.
    observed, bound, ratio : float
    case : dict
        The instance in plain containers: ``instance`` builds it again.
    """

    label: str
    origin: str
    form: str
    time: float
    row: int
    observed: float
    bound: float
    ratio: float
    case: dict[str, Any]

    @property
    def instance(self) -> Case:
        """The case of this one pair."""
        return _restored(self.case)


@dataclass(frozen=True)
class Replay:
    """What a witness shows when it is looked at again."""

    observed: float
    bound: float
    ratio: float
    reproduced: bool


def ratio(side: Sides) -> Tensor:
    """Observed less its numerical error, over the bound: more than 1 exactly where the bound is violated."""
    seen = (side.observed - side.error).clamp_min(0)
    return torch.where(seen == 0, 0.0, seen / side.bound.clamp_min(0)) + torch.zeros_like(side.bound)


def witness_of(statement: Statement, case: Case, how: str, form: str, side: Sides, row: int,
               index: tuple[int, ...]) -> Witness:
    """The witness of one entry of both sides of a form."""
    observed, bound, ratios = torch.broadcast_tensors(side.observed, side.bound, ratio(side))
    place = (row, *index)
    time = case.t[row + 1] if len(observed) == len(case.t) - 1 else case.t[-1]
    return Witness(statement.label, case.origin + how, form, float(time), row, float(observed[place]),
                   float(bound[place]), float(ratios[place]), _plain(one_instance(case, index)))


def replay(witness: Witness, statement: Statement) -> Replay:
    """Build the instance again, solve it again, put the claim to it again.

    Raises
    ------
    ValueError
        If the claim has no such form, or no such time.
    """
    case = witness.instance
    sides = statement.claim(case)(case.x0, case.y0, converged)
    if witness.form not in sides:
        raise ValueError(f"form must be one of {', '.join(sides)} in a witness of {statement.label}; got "
                         f"{witness.form!r}. The witness is of another version.")
    side = Sides(*(x.detach() for x in sides[witness.form]))
    observed, bound, ratios = torch.broadcast_tensors(side.observed, side.bound, ratio(side))
    if witness.row >= len(observed):
        raise ValueError(f"row must be below {len(observed)} in this witness; got {witness.row}.")
    seen, allowed, found = (float(x[witness.row].flatten()[0]) for x in (observed, bound, ratios))
    same = found == witness.ratio or abs(found - witness.ratio) <= REPRODUCED * max(found, witness.ratio)
    return Replay(seen, allowed, found, same)


def read_witness(path: FilePath) -> Witness:
    """A witness from a file that ``json`` wrote.

    Raises
    ------
    ValueError
        If the file holds no witness.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no JSON: {error}.") from error
    names = {field.name for field in dataclasses.fields(Witness)}
    if not isinstance(found, dict) or set(found) != names:
        raise ValueError(f"{path} holds no witness: it must be an object with the keys {', '.join(sorted(names))}.")
    numbers = {name: float(found[name]) for name in ("time", "observed", "bound", "ratio")}  # JSON has no infinity
    return Witness(**{**found, **numbers})


# ---------------------------------------------------------------------------------------------------- plain containers


def _plain(value: Any) -> Any:
    """Cases, fields, curves, sets and tensors as plain containers that JSON can hold."""
    if isinstance(value, Tensor):
        flat = [x if math.isfinite(x) else str(x) for x in value.detach().double().flatten().tolist()]
        return {"tensor": flat, "shape": list(value.shape)}
    if isinstance(value, curves.Curve):
        return {"class": type(value).__name__, "values": _plain(value.values), "t0": value.t0, "t1": value.t1}
    if isinstance(value, curves.Constant):
        return {"class": "Constant", "values": _plain(value.values)}
    if isinstance(value, CallableField):
        return {"class": "CallableField", "function": _plain(value.function)}
    if isinstance(value, Field):
        return {"class": type(value).__name__, **{name: _plain(curve) for name, curve in value.named_children()}}
    if isinstance(value, Mapping):
        return {"mapping": {key: _plain(entry) for key, entry in value.items()}}
    name = next((c.__name__ for c in type(value).__mro__ if c is Case or c.__name__ in CLASSES), None)
    if name is not None:
        return {"class": name, **{f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    raise TypeError(f"a witness cannot hold {value!r}")


def _restored(plain: Any) -> Any:
    """The inverse of ``_plain``."""
    if not isinstance(plain, dict):
        return plain
    if "tensor" in plain:
        return torch.tensor([float(x) for x in plain["tensor"]], dtype=torch.float64).reshape(plain["shape"])
    if "mapping" in plain:
        return {key: _restored(entry) for key, entry in plain["mapping"].items()}
    if "float" in plain:
        return float(plain["float"])
    name = plain.get("class")
    if name == "Case":
        return Case(**{key: _restored(entry) for key, entry in plain.items() if key != "class"})
    if name not in CLASSES:
        raise ValueError(f"class must be one of {', '.join(CLASSES)} in a witness; got {name!r}.")
    arguments = {key: _restored(entry) for key, entry in plain.items() if key != "class"}
    return arguments["values"] if name == "Constant" else CLASSES[name](**arguments)

"""The schemes of diffincl that are measured, as data."""

from __future__ import annotations

from dataclasses import dataclass

import diffincl as di


@dataclass(frozen=True)
class Ours:
    """A scheme and its steps; ``rtol`` is None for fixed steps."""

    scheme: object
    steps: object
    setting: str
    rtol: float | None = None

    @property
    def name(self) -> str:
        return f"diffincl {type(self.scheme).__name__}"


def fixed(numbers: tuple[int, ...]) -> list[Ours]:
    """Schemes with n equal steps."""
    return [Ours(scheme, di.Fixed(n=n), f"n = {n}") for scheme in (di.ForwardEuler(), di.ProxHeun()) for n in numbers]


def adaptive(tolerances: tuple[float, ...]) -> list[Ours]:
    """Schemes that choose their steps."""
    schemes = {di.SwitchingDP5(): 0.0, di.ARS222(): 0.0, di.ProxHeun(): 1e-6}  # and the least tolerance of each
    return [Ours(scheme, di.Adaptive(rtol=tol, atol=tol), f"tol = {tol:.0e}", tol)
            for scheme, least in schemes.items() for tol in tolerances if tol >= least]

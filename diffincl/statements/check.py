"""Check a statement: blocks of random instances, an attack on the worst of each, a control that must be violated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from .. import _check
from .attack import attack, attack_points
from .case import Case, Look, Sides, Statement
from .catalogue import STATEMENTS
from .draws import PAIRS
from .paths import converged
from .witness import Witness, ratio, witness_of

__all__ = ["Block", "CheckResult", "Finding", "blocks_of", "check", "check_block", "control_of", "examine",
           "examine_control", "merged", "verdict"]

LARGEST = 128  # networks in a block: bounds the memory
ATTACKED = 16  # networks of a block that are attacked: those with the worst ratios of every form as drawn


@dataclass(frozen=True, eq=False)
class Finding:
    """What one case showed.

    ``worst_ratio`` is the largest observed/bound at times after the first; ``violations`` counts instances in which
    observed exceeds the bound by more than the numerical error.
    """

    origin: str
    instances: int
    worst_ratio: float
    violations: int
    witness: Witness


@dataclass(frozen=True, eq=False)
class CheckResult:
    """Verdict on a statement.

    Attributes
    ----------
    label : str
    holds : bool
        No violation in any case inside the hypothesis.
    worst_ratio : float
        Largest observed/bound inside the hypothesis, 1 where the bound is attained.
    trials : int
        Instances looked at, those of the attack included.
    witness : Witness
        Where the worst ratio was found.
    control : Finding
        The instances outside the hypothesis.
    control_violated : bool
        Whether the claim was refuted there, as it must be.
    findings : tuple of Finding
        By origin.
    """

    label: str
    holds: bool
    worst_ratio: float
    trials: int
    witness: Witness
    control: Finding
    control_violated: bool
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Block:
    """Some of the random instances of a statement: which they are follows from the label, the seed of the check, the
    number of the block and its size, whoever computes it; ``index`` −1 is the control."""

    label: str
    seed: int
    index: int
    networks: int

    @property
    def generator(self) -> Generator:
        """A generator of its own."""
        key = hashlib.sha256(f"{self.seed} {self.label} {self.index}".encode()).digest()
        return Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)


def blocks_of(label: str, trials: int, seed: int, which: slice = slice(None)) -> list[Block]:
    """The blocks of a check, or some of them: every kind of instance has one, none has more than ``LARGEST`` networks.

    The set of instances depends on ``trials`` and ``seed``, not on how the blocks are shared out.
    """
    draw = STATEMENTS[label].draw
    count = max(draw.kinds, -(-trials // (draw.pairs * LARGEST)))
    networks = max(1, -(-trials // (draw.pairs * count)))
    return [Block(label, seed, k, networks) for k in range(count)[which]]


def control_of(label: str, trials: int, seed: int) -> Block:
    """The block of the control."""
    return Block(label, seed, -1, min(LARGEST, max(8, trials // 64)))


def check_block(block: Block, ascent: int) -> Finding:
    """Draw a block and look at it."""
    statement = STATEMENTS[block.label]
    if block.index < 0:
        return examine_control(statement, statement.control(block.generator, block.networks), ascent)
    case = statement.draw(block.generator, block.index % statement.draw.kinds, block.networks)
    return examine(statement, case, ascent=ascent)


def check(label: str, trials: int = 1000, seed: int = 0, *, ascent: int = 40) -> CheckResult:
    """Check a statement on random instances, attack it by gradient ascent, and put it to its control.

    Parameters
    ----------
    label : str
        One of ``diffincl.statements``: C1 … C15, D1 … D10, L1 … L3.
    trials : int
        Instances drawn (at least; every set of the hypothesis gets whole networks).
    seed : int
    ascent : int
        Steps of the attack on the worst networks of every block, over points, then over points and weights.

    Returns
    -------
    CheckResult

    Raises
    ------
    ValueError
        If the label is not known or a number is out of range.

    Examples
    --------
    >>> import diffincl as di
    >>> r = di.check("D3", trials=64, seed=0)
    >>> r.holds, r.control_violated, r.worst_ratio < 1 + 1e-9
    (True, True, True)
    """
    _check.choice("label", label, tuple(STATEMENTS))
    _check.count("trials", trials)
    findings = [check_block(block, ascent) for block in blocks_of(label, trials, seed)]
    return verdict(label, findings, check_block(control_of(label, trials, seed), ascent))


def verdict(label: str, findings: Iterable[Finding], control: Finding) -> CheckResult:
    """Findings put together."""
    found = merged(findings)
    worst = max(found, key=lambda f: f.worst_ratio)
    return CheckResult(label, not any(f.violations for f in found), worst.worst_ratio, sum(f.instances for f in found),
                       worst.witness, control, control.violations > 0, tuple(found))


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """One finding an origin; the first of equally bad witnesses is kept."""
    by_origin: dict[str, list[Finding]] = {}
    for finding in findings:
        by_origin.setdefault(finding.origin, []).append(finding)
    return [_joined(origin, group) for origin, group in by_origin.items()]


def _joined(origin: str, group: list[Finding]) -> Finding:
    worst = max(group, key=lambda f: f.worst_ratio)
    return Finding(origin, sum(f.instances for f in group), worst.worst_ratio, sum(f.violations for f in group),
                   worst.witness)


def examine_control(statement: Statement, case: Case, ascent: int) -> Finding:
    """The claim put to a case that must lie outside the hypothesis."""
    if not statement.outside(case):
        raise AssertionError(f"the control of {statement.label} lies inside its hypothesis")
    return examine(statement, case, ascent=ascent, inside=False)


def examine(statement: Statement, case: Case, *, ascent: int = 40, inside: bool = True,
            look: Look | None = None) -> Finding:
    """Look at a case as drawn, and at its worst networks after an attack; both count as instances.

    ``look`` is the claim of a case of one network, if it has been made before.

    Raises
    ------
    ValueError
        If ``inside`` and the case, as drawn or attacked, is outside the hypothesis.
    """
    if inside:
        _require_inside(statement, case)
    first = statement.claim(case) if look is None else look
    found, ratios = _look(statement, case, first)
    if not ascent:
        return found
    worst, aims = _worst(case, ratios)
    alone = case.x0.ndim == 2  # one network: the same claim holds for the worst of its pairs
    if alone:
        attacked = attack_points(worst, first, ascent, aims)
    else:
        attacked = attack(statement if inside else _points_only(statement), worst, ascent, aims)
    if inside:
        _require_inside(statement, attacked)
    again, _ = _look(statement, attacked, first if alone else statement.claim(attacked), ", attacked")
    return _joined(case.origin, [found, again])


def _points_only(statement: Statement) -> Statement:
    """A control keeps its weights: nothing says how far outside they may go."""
    return replace(statement, keep=None)


def _require_inside(statement: Statement, case: Case) -> None:
    if reason := statement.outside(case):
        raise ValueError(f"{case.origin} is outside the hypothesis of {statement.label}: {reason}.")


def _worst(case: Case, ratios: dict[str, Tensor]) -> tuple[Case, tuple[str, ...]]:
    """The networks (without an ensemble: the pairs) with the worst ratios of every form, and these forms: one that is
    attained everywhere would draw the whole attack, and hide another that is wrong."""
    alone = case.x0.ndim == 2
    order = {form: (r if alone else r.amax(-1)).argsort(descending=True) for form, r in ratios.items()}
    turns = max(1, (PAIRS * ATTACKED if alone else ATTACKED) // len(order))
    chosen = [(form, int(i)) for form, rows in order.items() for i in rows[:turns]]
    return case.select(torch.tensor([i for _, i in chosen])), tuple(form for form, _ in chosen)


def _look(statement: Statement, case: Case, look: Look, how: str = "") -> tuple[Finding, dict[str, Tensor]]:
    """Observed against bound, with the numerical error taken off before a violation is called; and of every form the
    worst ratio of every instance."""
    sides = look(case.x0, case.y0, converged)
    sides = {form: Sides(*(x.detach() for x in side)) for form, side in sides.items()}
    ratios = {form: ratio_of(statement, case, form, side) for form, side in sides.items()}
    worst = {form: ratio.amax(0).expand(case.x0.shape[:-1]) for form, ratio in ratios.items()}
    violated = torch.stack([(s.observed > s.bound + s.error).any(0) for s in sides.values()]).any(0)
    form = max(ratios, key=lambda form: float(ratios[form].max()))
    k, *i = _check.first(ratios[form] == ratios[form].max())
    witness = witness_of(statement, case, how, form, sides[form], k, tuple(i))
    return Finding(case.origin, case.instances, witness.ratio, int(violated.sum()), witness), worst


def ratio_of(statement: Statement, case: Case, form: str, side: Sides) -> Tensor:
    """Observed less its numerical error, over the bound."""
    if not bool((torch.isfinite(side.observed) & ~side.bound.isnan() & torch.isfinite(side.error)).all()):
        raise ArithmeticError(f"{statement.label}, {case.origin}, {form}: observed or bound is not a number")
    return ratio(side)

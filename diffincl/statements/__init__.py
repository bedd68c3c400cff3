"""The theorems as code: hypothesis, bound, random instances, an attack, and a control that must be violated."""

from .attack import attack, attack_points
from .case import Case, Look, Path, Run, Sides, Statement
from .catalogue import STATEMENTS
from .check import (
    Block,
    CheckResult,
    Finding,
    blocks_of,
    check,
    check_block,
    control_of,
    examine,
    examine_control,
    merged,
    verdict,
)
from .paths import coarse, converged, network, pair
from .witness import Replay, Witness, read_witness, replay

__all__ = [
    "STATEMENTS",
    "Block",
    "Case",
    "CheckResult",
    "Finding",
    "Look",
    "Path",
    "Replay",
    "Run",
    "Sides",
    "Statement",
    "Witness",
    "attack",
    "attack_points",
    "blocks_of",
    "check",
    "check_block",
    "coarse",
    "control_of",
    "converged",
    "examine",
    "examine_control",
    "merged",
    "network",
    "pair",
    "read_witness",
    "replay",
    "verdict",
]

"""The theorems as code: hypothesis, bound, random instances, an attack, and a control that must be violated."""

from .case import Case, Statement
from .catalogue import STATEMENTS
from .check import CheckResult, Finding, Witness, attack, check, examine, examine_control, verdict

__all__ = [
    "STATEMENTS",
    "Case",
    "CheckResult",
    "Finding",
    "Statement",
    "Witness",
    "attack",
    "check",
    "examine",
    "examine_control",
    "verdict",
]

"""Arms: how the survivors of a round's mask get their starting values. A new arm is one function in here."""

from lottery_ticket.method.arms.contract import Arm, Moment, Start
from lottery_ticket.method.arms.table import (
    ARMS,
    across_seeds,
    arm_named,
    check_arms,
    check_changes,
    check_network,
    colours_of,
    controls_among,
    in_order,
)

__all__ = [
    "ARMS",
    "Arm",
    "Moment",
    "Start",
    "across_seeds",
    "arm_named",
    "check_arms",
    "check_changes",
    "check_network",
    "colours_of",
    "controls_among",
    "in_order",
]

"""A criterion that asks for gradients."""

from torch import Tensor

from lottery_ticket.method import Criterion, Evidence


def _snip(at: Evidence) -> dict[str, Tensor]:
    """|gradient × weight| at the start values, over the first 100 training images. Lee et al. 2019, section 4."""
    gradients = at.gradients(at.start, range(min(100, at.images)))
    return {name: (gradients[name] * at.start[name]).abs() for name in at.mask}


snip_first = Criterion(_snip)

"""The arm that is a small dense network of as many weights."""

from lottery_ticket.masks import survivors
from lottery_ticket.method.arms.contract import Moment, Start
from lottery_ticket.models.narrow import embedded, narrowed, places


def small_dense(at: Moment) -> Start:
    """A narrower dense network of as many weights as the winning ticket, as nearly as whole units allow, drawn anew.

    It stands in the leading block of each tensor, with the values that are drawn for its own width. The control of Liu,
    Sun, Zhou, Huang & Darrell 2019 (arXiv 1810.05270) and of Ma et al. 2021 (arXiv 2107.00166).
    """
    narrow = narrowed(at.network, sum(survivors(at.winning).values()))
    values = narrow.draw(at.seed, "small-dense", at.round)
    return Start(places(at.network, narrow), embedded(at.network, values, at.initial))

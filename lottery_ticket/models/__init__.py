"""Networks: what they are built of, what of them is pruned, and how their weights are drawn."""

from typing import TYPE_CHECKING

from lottery_ticket.lazy import lazily

if TYPE_CHECKING:
    from lottery_ticket.models.lenet import fc1, lenet5
    from lottery_ticket.models.network import Network, make_network

__all__ = ["Network", "fc1", "lenet5", "make_network"]

__getattr__ = lazily(
    __name__,
    {
        "Network": "network",
        "fc1": "lenet",
        "lenet5": "lenet",
        "make_network": "network",
    },
)

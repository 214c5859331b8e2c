"""Data sets: read, understood, standardised, and augmented while they are trained on."""

from typing import TYPE_CHECKING

from lottery_ticket.lazy import lazily

if TYPE_CHECKING:
    from lottery_ticket.data.augment import Augmentation
    from lottery_ticket.data.images import Images

__all__ = ["Augmentation", "Images"]

__getattr__ = lazily(
    __name__,
    {
        "Augmentation": "augment",
        "Images": "images",
    },
)

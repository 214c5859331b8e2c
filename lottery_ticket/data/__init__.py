"""Data sets: read, understood, standardised, and augmented while they are trained on."""

from typing import TYPE_CHECKING

from lottery_ticket.lazy import lazily

if TYPE_CHECKING:
    from lottery_ticket.data.augment import Augmentation
    from lottery_ticket.data.images import Images
    from lottery_ticket.data.prepared import prepare
    from lottery_ticket.data.sources import load_images

__all__ = ["Augmentation", "Images", "load_images", "prepare"]

__getattr__ = lazily(
    __name__,
    {
        "Augmentation": "augment",
        "Images": "images",
        "load_images": "sources",
        "prepare": "prepared",
    },
)

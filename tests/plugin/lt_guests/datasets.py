"""A data set."""

import numpy as np

from lottery_ticket.data import Images


def stripes() -> Images:
    """600 pictures of 12×12 pixels with horizontal, vertical or no stripes, and noise."""
    draws = np.random.default_rng(0)
    labels = np.arange(600) % 3
    pictures = draws.normal(100, 40, (600, 12, 12))
    pictures[labels == 0] += 60 * (np.arange(12) % 4 < 2)[:, None]
    pictures[labels == 1] += 60 * (np.arange(12) % 4 < 2)
    pictures = pictures.clip(0, 255).astype(np.uint8)
    return Images("stripes", "lt_guests", pictures[:480], labels[:480], pictures[480:], labels[480:])

"""Masks and weights compared."""

import torch


def same(a, b):
    """Whether they have the same names and the same values."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

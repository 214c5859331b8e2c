"""Whether the surviving weights of a network still join its images to its scores."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lottery_ticket.masks import Mask

NO_PATH = "no path of surviving weights leads from the images to the scores, which are the same for every image"


def constant(low: Tensor, high: Tensor) -> Tensor:
    """Which of K networks give every image the same scores, up to rounding: K bool.

    Args:
        low, high: K×classes, the least and the largest score over the images.
    """
    return (high - low).amax(1) <= 1e-6 * torch.maximum(high.abs(), low.abs()).amax(1)


def connected(module: nn.Module, mask: Mask, input_shape: Sequence[int]) -> bool:
    """Whether a path of surviving weights leads from the images to the scores.

    Tried, not read off a graph, so that it holds for any network: every parameter is made positive at random, so that
    nothing cancels and rectifiers let pass, and positive images are put through. Where no path leads on, the scores are
    the same for all of them.

    Args:
        module: of the network; it stays as it is.
        mask: prunable tensor → bool tensor, True where it survives.
        input_shape: of one image as the module takes it.
    """
    generator = torch.Generator().manual_seed(0)
    tried = copy.deepcopy(module).cpu().eval()
    with torch.no_grad():
        for name, value in tried.named_parameters():
            if value.ndim < 2:  # biases shift all images alike
                value.fill_(float(name.endswith("weight")))
                continue
            kept = torch.rand(value.shape, generator=generator) + 0.5
            if name in mask:
                kept *= mask[name]
            own = (kept > 0).flatten(1).sum(1).clamp_min(1)  # sums of about 1, which saturate nothing
            value.copy_(kept / own.view(-1, *[1] * (kept.ndim - 1)))
        scores = tried(torch.rand(8, *input_shape, generator=generator) + 0.5).flatten(1)
    return not bool(constant(scores.amin(0, keepdim=True), scores.amax(0, keepdim=True)))

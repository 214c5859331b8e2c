"""Whether a network is the one that was measured: its accuracy on the test set against the logged one."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lottery_ticket.config import Settings
from lottery_ticket.data.images import Images
from lottery_ticket.data.prepared import DataInfo, channels_first
from lottery_ticket.errors import LotteryTicketError
from lottery_ticket.models.tensors import as_state

Scores = Callable[[Tensor], Tensor]
"""Images → scores N×classes."""

_AT_ONCE = 500
_DRAWS, _WIDE = 3, 4.0

_ROUNDING = {"bfloat16": 2.0**-8, "medium": 2.0**-8, "tf32": 2.0**-11, "float32": 2.0**-20}
"""Precision → the most that rounding to it moves a factor, relatively; of float32 with room for the order of sums."""


def scores_of(network: Scores, inputs: Tensor) -> Tensor:
    """The scores of all images, a part of them at a time."""
    with torch.no_grad():
        return torch.cat([network(part) for part in inputs.split(_AT_ONCE)])


def inputs_of(images: Images, data: DataInfo) -> Tensor:
    """The test images as a network takes them."""
    return data.standardise(channels_first(images.x_test))


def accuracy(scores: Tensor, images: Images) -> float:
    """The fraction of the test images that these scores class rightly, 0–1."""
    return (scores.argmax(1) == torch.from_numpy(images.y_test)).double().mean().item()


def check_accuracy(module: nn.Module, logged: float, settings: Settings, data: DataInfo, images: Images) -> float:
    """The accuracy of a trained network, which must be the logged one up to rounding.

    The logged one is that of the weights before they were rounded to be kept, in the arithmetic of their training. What
    this can change is measured: the weights are moved at random by as much as rounding moves them, three times, and an
    image counts as open where the margin of its class is within four times what that moved it. The accuracies may
    differ by the open images, no more.

    Args:
        module: the network in eval mode; it is left as it is.
        logged: 0–1.
        settings: with which precision it was trained and kept.
        data, images: what it was trained on.

    Raises:
        LotteryTicketError: it is another network than the one that was measured.
    """
    inputs, labels = inputs_of(images, data), torch.from_numpy(images.y_test)
    scores = scores_of(module, inputs)
    found, count = accuracy(scores, images), len(labels)
    apart = abs(found - logged) * count
    if apart > 0.5:
        by = _ROUNDING[settings.checkpoint_precision] + _ROUNDING[settings.precision]
        still_open = _open(module, inputs, labels, scores, by)
        if apart > still_open + 0.5:
            raise LotteryTicketError(
                f"the network read back has a test accuracy of {100 * found:.2f} %, logged was {100 * logged:.2f} %; "
                f"rounding explains {still_open:,} of {count:,} images, so it is not the network that was measured (is "
                "anything drawn when it is built that is neither parameter nor buffer?)"
            )
    return found


def _open(module: nn.Module, inputs: Tensor, labels: Tensor, scores: Tensor, by: float) -> int:
    """How many images another rounding of the weights may class otherwise."""
    margin, moved = _margin(scores, labels), torch.zeros(len(labels))
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    draw = torch.Generator().manual_seed(0)
    for _ in range(_DRAWS):
        with torch.no_grad():
            for name, value in module.state_dict().items():
                if value.is_floating_point():
                    value.copy_(kept[name] * (1 + by * (2 * torch.rand(value.shape, generator=draw) - 1)))
        moved = torch.maximum(moved, (_margin(scores_of(module, inputs), labels) - margin).abs())
    module.load_state_dict(as_state(module, kept))
    return int((margin.abs() <= _WIDE * moved).sum())


def _margin(scores: Tensor, labels: Tensor) -> Tensor:
    """By how much each image's own class is ahead of the best other one."""
    own = scores.gather(1, labels.unsqueeze(1)).squeeze(1)
    return own - scores.scatter(1, labels.unsqueeze(1), -torch.inf).amax(1)

"""Gradients of the loss over training images, for criteria that rank weights by them."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lottery_ticket.data.prepared import Split
from lottery_ticket.masks import Mask, Weights
from lottery_ticket.models.network import Network
from lottery_ticket.models.tensors import call
from lottery_ticket.randomness import forked


def gradients(
    network: Network,
    weights: Mapping[str, Tensor],
    mask: Mask,
    images: Split,
    which: Sequence[int] | None,
    batch_size: int,
    draws: int,
) -> Weights:
    """The gradient of the mean cross-entropy at these weights, the pruned ones taken as zero.

    The network is in training, so that batch normalisation goes by the batch; its buffers are not changed.

    Args:
        network: the architecture.
        weights: parameters and buffers.
        mask: the survivors.
        images: the training images.
        which: the indices of those that count; None = all.
        batch_size: images in a forward pass.
        draws: seed of what layers draw (dropout).

    Returns:
        Trained parameter → gradient of its shape, float32 on the CPU; of the pruned weights of a tensor too.
    """
    device = images.x.device
    chosen = torch.arange(len(images)) if which is None else torch.as_tensor(which, dtype=torch.int64)
    state = {name: value.detach().clone().to(device) for name, value in weights.items()}
    for name, kept in mask.items():
        state[name].mul_(kept.to(device))
    leaves = [state[name].requires_grad_() for name in network.trainable]
    total = [torch.zeros_like(leaf) for leaf in leaves]
    module = network.module.train()
    with forked(draws, device):
        for batch in chosen.to(device).split(batch_size):
            scores = call(module, {name: value.clone() for name, value in state.items()}, images.x[batch])
            loss = F.cross_entropy(scores.float(), images.y[batch], reduction="sum") / len(chosen)
            torch._foreach_add_(total, list(torch.autograd.grad(loss, leaves, materialize_grads=True)))
    return {name: value.cpu() for name, value in zip(network.trainable, total, strict=True)}

"""A stack: K networks of one architecture as one set of tensors with a leading member axis."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lottery_ticket.models import Network, Weights


def stack(members: Sequence[Mapping[str, Tensor]], device: torch.device) -> Weights:
    """K dicts of tensors → one dict whose tensors have a leading axis of K, on the device."""
    return {name: torch.stack([member[name] for member in members]).to(device) for name in members[0]}


def unstack(stacked: Mapping[str, Tensor]) -> list[Weights]:
    """The inverse of `stack`: K dicts of tensors of their own, on the CPU."""
    host = {name: value.detach().cpu() for name, value in stacked.items()}
    count = len(next(iter(host.values())))
    return [{name: value[k].clone() for name, value in host.items()} for k in range(count)]


def forward(module: nn.Module, stacked: Mapping[str, Tensor], x: Tensor, *, shared: bool = False) -> Tensor:
    """Class scores K×B×classes of K networks.

    Args:
        module: the architecture; its own values are not used, its train/eval mode is.
        stacked: its weights and buffers with a leading axis of K. Buffers are updated in place.
        x: K×B×… images, or B×… when `shared` by all members.
        shared: see `x`.
    """
    if len(next(iter(stacked.values()))) == 1:
        single = {name: value.squeeze(0) for name, value in stacked.items()}
        return functional_call(module, single, (x if shared else x.squeeze(0),)).unsqueeze(0)

    def one(weights: Weights, x: Tensor) -> Tensor:
        return functional_call(module, weights, (x,))

    return vmap(one, in_dims=(0, None if shared else 0), randomness="different")(dict(stacked), x)


def stackable(network: Network, input_shape: tuple[int, ...]) -> bool:
    """Whether two networks of this architecture can be trained as one set of tensors (tried on a tiny batch)."""
    weights = {
        name: value.float().requires_grad_() if name in network.trainable else value
        for name, value in stack([network.draw(k, "stackable") for k in (0, 1)], torch.device("cpu")).items()
    }
    network.module.train()
    try:
        with torch.random.fork_rng(devices=[]):
            forward(network.module, weights, torch.randn(2, 2, *input_shape)).sum().backward()
    except Exception:  # whatever a user's module raises under vmap, it still trains alone
        return False
    return True

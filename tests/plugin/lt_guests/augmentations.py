"""An augmentation."""

import torch
from torch import Tensor

from lottery_ticket.data import Augmentation


def _upside_down(x: Tensor, draws: torch.Generator) -> Tensor:
    turned = torch.rand(len(x), 1, 1, 1, generator=draws, device=x.device) < 0.5
    return torch.where(turned, x.flip(2), x)


turn = Augmentation(_upside_down)

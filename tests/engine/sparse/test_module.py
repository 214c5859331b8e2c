"""A network over its survivors as a torch module: the scores, training and weights of the one that it is made of."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lottery_ticket.engine.sparse.module import SurvivorsAlone
from lottery_ticket.errors import InputError
from lottery_ticket.tickets.apply import Held
from tests.help.networks import Residual

SHAPE = (3, 12, 12)


def pruned(module, density=0.3):
    draw = torch.Generator().manual_seed(0)
    mask = {
        f"{path}.weight": torch.rand(layer.weight.shape, generator=draw) < density
        for path, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    }
    with torch.no_grad():
        for name, kept in mask.items():
            module.get_parameter(name).mul_(kept)
    return mask


class InPlace(nn.Module):
    """What torchvision's AlexNet and VGG end in."""

    def __init__(self, shape):
        super().__init__()
        self.convolutions = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten())
        self.first, self.act = nn.Linear(200, 20), nn.ReLU(inplace=True)
        self.second, self.output = nn.Linear(20, 20), nn.Linear(20, 10)

    def forward(self, x):
        return self.output(F.relu(self.second(self.act(self.first(self.convolutions(x)))), inplace=True))


@pytest.mark.parametrize("make", [Residual, InPlace])
def test_trained_by_any_optimiser_as_the_module_under_its_mask(make):
    torch.manual_seed(0)
    module = make(SHAPE)
    mask = pruned(module)
    ours, whole = SurvivorsAlone(module, mask, SHAPE), copy.deepcopy(module)
    assert sum(p.numel() for p in ours.parameters()) == sum(int(p.count_nonzero()) for p in whole.parameters()) + sum(
        int((p == 0).sum()) for name, p in whole.named_parameters() if name not in mask
    )
    held = Held(whole, mask)
    x, y = torch.randn(40, *SHAPE), torch.randint(10, (40,))
    torch.testing.assert_close(ours.eval()(x), whole.eval()(x), rtol=1e-4, atol=1e-5)
    for network in (ours.train(), whole.train()):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
        for _ in range(5):
            optimizer.zero_grad()
            F.cross_entropy(network(x), y).backward()
            optimizer.step()
    found = ours.dense()
    assert found.keys() == whole.state_dict().keys()
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)
        assert name not in mask or not found[name][~mask[name]].any()
    held.remove()


def test_dropout_draws_from_torchs_generator():
    module = nn.Sequential(nn.Flatten(), nn.Linear(432, 30), nn.Dropout(0.5), nn.ReLU(), nn.Linear(30, 10))
    ours = SurvivorsAlone(module, pruned(module), SHAPE).train()
    x = torch.randn(4, *SHAPE)
    torch.manual_seed(1)
    first = ours(x)
    assert not torch.equal(first, ours(x))
    torch.manual_seed(1)
    assert torch.equal(first, ours(x))


def test_what_the_engine_does_not_know_is_refused():
    module = nn.Sequential(nn.Flatten(), nn.Linear(432, 8), nn.Softmax(1), nn.Linear(8, 10))
    with pytest.raises(
        InputError, match=r"^engine: 'sparse' does not know a layer of type Softmax; allowed here: dense"
    ):
        SurvivorsAlone(module, pruned(module), SHAPE)

"""Masks that leave no path from the images to the scores: found in any network, told, and trained no further."""

import re

import pytest
import torch
from torch import nn

from lottery_ticket.analysis.verdict import judge
from lottery_ticket.method.trajectory import Checkpoint, find_tickets
from lottery_ticket.models.network import make_network
from lottery_ticket.models.paths import NO_PATH, connected


class Attention(nn.Module):
    """A little of all that is no chain: attention over rows, normalisation, a way around."""

    def __init__(self):
        super().__init__()
        self.inp, self.norm = nn.Linear(28, 8), nn.LayerNorm(8)
        self.attention, self.out = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 10)

    def forward(self, x):
        x = self.norm(self.inp(x.squeeze(1)))
        return self.out((x + self.attention(x, x, x)[0]).mean(1))


def convolutions():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(196, 10)
    )


def saturating():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 20), nn.Tanh(), nn.Linear(20, 20), nn.Sigmoid(), nn.Linear(20, 10)
    )


def masks(module):
    return {f"{name}.weight": torch.ones(layer.weight.shape, dtype=torch.bool)
            for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}  # fmt: skip


@pytest.mark.parametrize("make", [Attention, convolutions, saturating])
def test_a_path_is_found_and_missed(make):
    module = make()
    mask = masks(module)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert connected(module, mask, (1, 28, 28))
    first, *_, last = mask
    assert not connected(module, mask | {last: torch.zeros_like(mask[last])}, (1, 28, 28))
    if make is not Attention:  # which has a way around
        lone = torch.zeros_like(mask[first])
        lone[0] = True
        assert connected(module, mask | {first: lone}, (1, 28, 28))
        behind = mask[last].clone()
        behind[:, : behind.shape[1] // len(lone)] = False  # all that the one unit feeds
        if make is convolutions:
            assert not connected(module, mask | {first: lone, last: behind}, (1, 28, 28))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def one_survivor(network, meeting):
    """A mask with one weight in each tensor; those of one layer and the next meet in a unit, or do not."""
    mask = {name: torch.zeros_like(kept) for name, kept in network.dense_mask().items()}
    for place, name in enumerate(mask):
        mask[name][0 if meeting else place, 300 if place == 0 else 0 if meeting else 5] = True
    return mask


@pytest.mark.parametrize("meeting", [True, False])
def test_one_survivor_in_each_tensor(settings, small, meeting):
    network = make_network(settings, small.input_shape, small.classes)
    assert connected(network.module, one_survivor(network, meeting), small.input_shape) == meeting


def test_a_trajectory_without_a_path_ends(settings, small):
    """Trained for one round, said, and no longer: the run ends before its last round."""
    network = make_network(settings, small.input_shape, small.classes)
    seeds, arms = settings.seeds, ("winning", "reinit")
    settings = settings.model_copy(update={"arms": arms, "rounds": 6})
    lost = {("winning", seed): one_survivor(network, False) for seed in seeds}
    (first, *_) = find_tickets(settings, network, small)
    records = [done.record for done in first]
    assert all(record.constant is False and record.connected and record.goes_on for record in records)
    assert records[0].majority == pytest.approx(torch.bincount(small.test.y).max().item() / 400)
    after = Checkpoint(records, lost, {seed: network.draw(seed, "init") for seed in seeds}, {})
    rounds = list(find_tickets(settings, network, small, after))
    assert [each[0].record.round for each in rounds] == [1]
    for done in rounds[0]:
        assert (done.record.constant, done.record.connected, done.record.goes_on) == (True, False, False)
        assert done.next_mask is None
    told = judge(records + [done.record for done in rounds[0]])
    assert told.rounds[0].matching == told.rounds[0].wins == "no"


@pytest.mark.slow
def test_it_is_said_wherever_it_matters(lt, small_npz):
    """A run that prunes 95 % a round ends where no path is left: its lines say so, `lt diff` and `lt export`."""
    flags = (
        f"--dataset {small_npz} --validation-size 200 --rounds 9 --iterations 20 --prune-rate 0.95 --seeds 3".split()
    )
    done = lt("run", *flags)
    assert done.code == 0, done.err
    run = re.search("MLflow run ([0-9a-f]+)", done.err)[1]
    last = len(re.findall("^round .*% left", done.err, re.MULTILINE)) - 1
    assert last < 8
    assert f"round  {last}/8  winning-seed0: {NO_PATH}" in done.err
    assert ", constant" in done.out
    assert "No winning ticket found." in done.out
    assert "Smallest matching" not in done.out
    told = lt("diff", f"{run}:1", f"{run}:{last}")
    assert f"Of B {NO_PATH}." in told.out
    assert "Of A" not in told.out
    exported = lt("export", f"{run}:{last}", "--format", "state-dict", "--compact")
    assert f"Of this ticket {NO_PATH}." in exported.out, exported.err
    assert lt("run", "--resume", run).code == 0  # there is nothing to go on with

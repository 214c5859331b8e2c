"""What a run keeps of its multiply-adds that the method alone does not tell."""

import pytest
from torch import nn

import lottery_ticket
from lottery_ticket.models.cost import multiply_adds
from lottery_ticket.tickets.compact import compact


@pytest.fixture
def once(small_npz, tmp_path, monkeypatch):
    """A run of one iteration a round, in a store of its own."""
    monkeypatch.chdir(tmp_path)

    def run(**how):
        settings = lottery_ticket.load_preset(
            dataset=str(small_npz), validation_size=0, iterations=1, arms="winning", **how
        )
        return lottery_ticket.run(settings, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")

    return run


def test_of_the_network_made_small(once):
    result = once(model="mlp:300-20", prune_rate=0.99, rounds=2)
    cost = result.rounds[-1].cost
    ticket = lottery_ticket.Ticket.load(f"{result.run_id}:1", tracking_uri=result.client.tracking_uri)
    small = compact(ticket.module(trained=True), ticket.mask, (1, 28, 28))
    assert cost.compact == multiply_adds(small.module, (1, 28, 28)).image
    assert 0 < cost.compact < cost.an_image.sparse  # few of the survivors lie on a path from the images to the scores


class Looks(nn.Module):
    """Takes one of two ways by what an image shows."""

    def __init__(self, classes):
        super().__init__()
        self.one, self.two = nn.Linear(784, classes), nn.Linear(784, classes)

    def forward(self, x):
        x = x.flatten(1)
        return self.one(x) if x.sum() > 0 else self.two(x)


def test_what_is_not_counted_is_said_and_no_number_given(once):
    result = once(model=f"{__name__}:Looks", rounds=1)
    assert [record.cost for record in result.rounds] == [None]
    run = result.client.get_run(result.run_id)
    assert "values of an image" in run.data.tags["lt.not_counted"]
    child = result.client.get_run(result.stored.children["winning", 0])
    assert not [name for name in (*run.data.metrics, *child.data.metrics) if name.startswith("multiply_adds")]


def with_layer_norm(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.LayerNorm(8), nn.Linear(8, classes))


def test_without_compaction_the_rest_is_counted(once):
    result = once(model=f"{__name__}:with_layer_norm", rounds=2, prune_rate=0.9)
    for record in result.rounds:
        assert record.cost.an_image.dense > 0
        assert record.cost.compact is None

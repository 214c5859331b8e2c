"""Images that stay on disk: the same training, bit for bit, as with all of them in memory."""

import dataclasses

import numpy as np
import pytest
import torch

import lottery_ticket
from lottery_ticket import Ticket
from lottery_ticket.config import load_preset
from lottery_ticket.data.images import KEYS, Images
from lottery_ticket.data.prepared import prepare
from lottery_ticket.data.sources import load_images
from lottery_ticket.data.streamed import Streamed
from lottery_ticket.engine import device
from lottery_ticket.engine.gradients import Gradients
from lottery_ticket.engine.job import Member
from lottery_ticket.engine.training import train
from lottery_ticket.models.network import make_network
from tests.help.outcomes import VARYING

CPU = torch.device("cpu")


@pytest.fixture
def small_folder(small_npz, tmp_path):
    """The small data set as a folder of arrays."""
    for key in KEYS:
        np.save(tmp_path / f"{key}.npy", np.load(small_npz)[key])
    return tmp_path


@pytest.mark.parametrize("shape", [(6, 5, 3), (6, 5), (7,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_rows_are_those_of_the_tensor(shape, dtype):
    source = np.random.default_rng(0)
    x, y = source.integers(0, 256, (50, *shape)).astype(dtype), np.arange(50) % 3
    images = Images("own", "", x, y, x[:20] // 2, y[:20])
    whole, streamed = prepare(images, 10, CPU), prepare(images, 10, CPU, in_memory=0)
    assert prepare(images, 10, CPU, in_memory=4 * 70 * x[0].size).train.x.shape == whole.train.x.shape
    for one, other in ((getattr(whole, part), getattr(streamed, part)) for part in ("train", "validation", "test")):
        assert isinstance(one.x, torch.Tensor)
        assert isinstance(other.x, Streamed)
        assert (other.x.shape, other.x.device, other.x.nbytes, len(other.x)) == (one.x.shape, CPU, 0, len(one.x))
        index = torch.tensor([3, 0, 3, len(one) - 1])
        assert torch.equal(other.x.index_select(0, index), one.x[index])
        assert torch.equal(other.x[index], one.x[index])
        assert torch.equal(other.x[2:7], one.x[2:7])
        assert all(map(torch.equal, other.x.split(7), one.x.split(7)))
        assert torch.equal(other.y, one.y)


@pytest.mark.slow
def test_stack_with_convolutions_and_augmentation(small_folder):
    images = load_images(str(small_folder))
    assert isinstance(images.x_train, np.memmap)
    settings = load_preset(
        model="lenet5", augment=("flip", "crop"), batch_size=20, iterations=3, evaluate_every=2, epochs=None
    )
    images = dataclasses.replace(images, x_test=images.x_test[:50], y_test=images.y_test[:50])
    trained = []
    for in_memory in (None, 0):
        data = prepare(images, 50, CPU, in_memory=in_memory)
        network = make_network(settings, data.input_shape, data.classes)
        members = [Member("winning", seed, network.dense_mask(), network.draw(seed, "init")) for seed in (0, 1)]
        result = train(network, members, data, settings, 0)
        by = Gradients(network, network.dense_mask(), data.train, 20, 0)(result[0].weights, range(30))
        trained.append((result, by))
    (one, by_one), (other, by_other) = trained
    for a, b in zip(one, other, strict=True):
        assert (a.curve, a.train_loss) == (b.curve, b.train_loss)
        assert np.array_equal(a.correct, b.correct)
        assert all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)
    assert all(torch.equal(by_one[name], by_other[name]) for name in by_one)


@pytest.mark.slow
def test_run(small_npz, small_folder, tmp_path, monkeypatch):
    settings = {"rounds": 2, "iterations": 30, "epochs": None, "prune_rate": 0.95, "validation_size": 200}
    uri = f"sqlite:///{tmp_path / 'store.db'}"
    monkeypatch.chdir(tmp_path)
    whole = lottery_ticket.run(load_preset(dataset=str(small_npz), engine="sparse", **settings), tracking_uri=uri)
    monkeypatch.setattr(device, "IN_MEMORY", 0)
    streamed = lottery_ticket.run(load_preset(dataset=str(small_folder), engine="sparse", **settings), tracking_uri=uri)
    assert any(record.sparse for record in streamed.rounds)  # by the compiled perceptron, too
    for one, other in zip(whole.rounds, streamed.rounds, strict=True):
        assert one.model_dump(exclude=VARYING) == other.model_dump(exclude=VARYING)
    tickets = [Ticket.load(f"runs:/{result.run_id}:1", tracking_uri=uri) for result in (whole, streamed)]
    assert tickets[0].data.digest == tickets[1].data.digest
    for part in ("mask", "weights", "trained"):
        values, others = (getattr(ticket, part) for ticket in tickets)
        assert all(torch.equal(values[name], others[name]) for name in values)
    tags = streamed.client.get_run(streamed.run_id).data.tags
    assert "read as they are needed: they would take 0.0 GiB" in tags["lt.data_notes"]

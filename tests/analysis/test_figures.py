"""The picture of the first layer's survivors has the data set's own shape."""

import numpy as np
import pytest
import torch
from torch import nn

from lottery_ticket.analysis.figures import draw_all, draw_input_mask, draw_multiply_adds, survivors_by_input
from lottery_ticket.config import load_preset
from lottery_ticket.data.images import Images
from lottery_ticket.data.prepared import prepare
from lottery_ticket.method.trajectory import find_tickets
from lottery_ticket.models.network import make_network


@pytest.mark.parametrize("shape", [(28, 28), (8, 32), (16, 16, 4), (4, 6, 3), (5, 5, 1), (2, 2, 7)])
def test_pixels_lie_where_they_lie_in_the_image(shape):
    height, width, channels = (*shape, 1)[:3]
    mask = torch.zeros(9, height * width * channels, dtype=torch.bool)
    image = torch.zeros(1, channels, height, width)
    image[0, -1, 1, height - 1 if height < width else 0] = image[0, 0, 1, 0] = 1
    seen = nn.Flatten()(image)[0] != 0  # what a fully connected layer makes of it
    mask[:4, seen] = True
    expected = 4 * image[0].sum(0).numpy()
    assert np.array_equal(survivors_by_input(mask, shape), expected)


@pytest.mark.parametrize("columns", [1, 6, 784])
def test_a_table_has_a_bar_for_each_column(columns):
    mask = torch.rand(9, columns) < 0.5
    assert np.array_equal(survivors_by_input(mask, (columns,)), mask.sum(0).numpy())


@pytest.mark.parametrize(
    ("tensor", "shape"),
    [((6, 3, 5, 5), (32, 32, 3)), ((9, 16), (8, 8)), ((9, 27), (3, 3)), ((9,), (3, 3)), ((9, 1), (3,))],
)
def test_layers_that_do_not_see_the_whole_image(tensor, shape):
    assert survivors_by_input(torch.ones(tensor, dtype=torch.bool), shape) is None


def found(shape, model="fc1"):
    """The records of two rounds on images of this shape, and the winning arm's masks."""
    source = np.random.default_rng(0)
    x, y = source.integers(0, 256, (40, *shape), dtype=np.uint8), np.arange(40) % 2
    data = prepare(Images("own", "", x, y, x[:10], y[:10]), 10, torch.device("cpu"))
    settings = load_preset(rounds=2, iterations=1, arms="winning", model=model, prune_rate=0.6)
    network = make_network(settings, data.input_shape, data.classes)
    rounds = [done for finished in find_tickets(settings, network, data) for done in finished]
    return [done.record for done in rounds], {done.record.round: done.mask for done in rounds}


@pytest.mark.parametrize("shape", [(8, 32), (16, 16, 4), (6, 9, 3)])
def test_figure_of_images(shape):
    records, masks = found(shape)
    figure = draw_input_mask(records, "own", masks.__getitem__, shape)
    drawn = figure.axes[0].images[0].get_array()
    assert drawn.shape == shape[:2]
    assert drawn.sum() == masks[1]["fc1.weight"].sum()
    assert "per pixel" in figure.get_suptitle()


@pytest.mark.parametrize("columns", [3, 12])
def test_figure_of_a_table(columns):
    records, masks = found((columns,))
    figure = draw_input_mask(records, "own", masks.__getitem__, (columns,))
    values, edges, _ = figure.axes[0].patches[0].get_data()
    assert np.array_equal(values, masks[1]["fc1.weight"].sum(0))
    assert edges.tolist() == [column - 0.5 for column in range(columns + 1)]
    assert not figure.axes[0].images
    assert "per column" in figure.get_suptitle()


def test_no_figure_where_the_shape_is_not_known_or_a_convolution_comes_first(tmp_path):
    records, masks = found((16, 16), "lenet5")
    assert draw_input_mask(records, "own", masks.__getitem__, (16, 16)) is None
    records, masks = found((8, 8))
    names = {path.name for path in draw_all(records, "own", tmp_path, masks.__getitem__, None, {})}
    assert "input_mask.png" not in names
    assert "accuracy.png" in names


def test_accuracy_against_multiply_adds():
    """40 images less 10 held out, one iteration a round; 300 × 64 + 100 × 300 + 2 × 100 multiply-adds an image."""
    records, _ = found((8, 8))
    made_small = [
        each.model_copy(update={"cost": each.cost.model_copy(update={"compact": small})})
        for each, small in zip(records, (49_400, 30_000), strict=True)
    ]
    image, training = draw_multiply_adds(made_small, "own", {}, ()).axes
    survivors = sum(records[1].survivors.values())
    assert [line.get_xdata().tolist() for line in image.lines] == [[49_400, survivors], [49_400, 30_000]]
    one_round = 30 * (2 * 300 * 64 + 3 * 30_200)
    assert [line.get_xdata().tolist() for line in training.lines] == [[one_round, 2 * one_round]]
    for panel in (image, training):
        for line in panel.lines:
            assert line.get_ydata().tolist() == [100 * each.test_accuracy for each in records]


def test_multiply_adds_that_are_not_known_are_not_drawn(tmp_path):
    records, masks = found((8, 8))
    since = [records[0].model_copy(update={"cost": None}), *records[1:]]  # begun by lt 0.4
    image, _ = draw_multiply_adds(since, "own", {}, ()).axes
    assert [len(line.get_xdata()) for line in image.lines] == [1]
    unknown = records[1].cost.model_copy(update={"to_find": None})
    assert len(draw_multiply_adds([records[1].model_copy(update={"cost": unknown})], "own", {}, ()).axes) == 1
    untrained = records[0].cost.model_copy(update={"images": 0, "computed": 0, "to_find": 0})
    assert len(draw_multiply_adds([records[0].model_copy(update={"cost": untrained})], "own", {}, ()).axes) == 1
    without = [each.model_copy(update={"cost": None}) for each in records]
    names = {path.stem for path in draw_all(without, "own", tmp_path, masks.__getitem__, None, {})}
    assert "accuracy" in names
    assert "multiply_adds" not in names

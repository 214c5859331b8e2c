"""Two tickets side by side: counted by hand, calibrated on random masks, and through the real command."""

import itertools
import json
import math
from dataclasses import replace

import pytest
import torch

from lottery_ticket.analysis.compare import compare
from lottery_ticket.analysis.compare_figure import draw_comparison
from lottery_ticket.config import load_preset
from lottery_ticket.data.prepared import DataInfo
from lottery_ticket.errors import InputError
from lottery_ticket.tickets.ticket import Ticket

INFO = DataInfo(name="toy", digest="0", image_shape=(4, 4), dtype="uint8", classes=10, mean=(0.0,), std=(1.0,))


def ticket(masks, weights=None, trained=None, **settings) -> Ticket:
    """A ticket of these masks; where nothing else is said, its values are one wherever a weight survives."""
    mask = {name: torch.as_tensor(kept, dtype=torch.bool) for name, kept in masks.items()}
    values = {name: torch.as_tensor(value) for name, value in (weights or mask).items()}
    start = {name: torch.where(mask[name], values[name], 0.0).float() for name in mask}
    return Ticket(mask, start, load_preset(**settings), INFO, trained=trained)


def random_ticket(seed: int, density: float = 0.2, shapes=(("a", (40, 30)), ("b", (20, 10)))) -> Ticket:
    """Independent masks with exactly round(density × weights) survivors in each tensor, normal values."""
    generator = torch.Generator().manual_seed(seed)
    masks, values = {}, {}
    for name, shape in shapes:
        ranks = torch.rand(shape, generator=generator).flatten().argsort()
        masks[name] = (ranks < round(density * ranks.numel())).view(shape)
        values[name] = torch.randn(shape, generator=generator)
    return ticket(masks, values)


def test_same_ticket():
    mine = random_ticket(0)
    found = compare(mine, replace(mine, trained=mine.weights))
    assert found.nested == "equal"
    for each in (found.overall, *found.tensors.values()):
        assert (each.iou, each.iou_at_most) == (1.0, 1.0)
        assert (each.start.same_sign, each.start.distance, each.start.relative_distance) == (1.0, 0.0, 0.0)
        assert each.start.correlation == pytest.approx(1)
        assert each.trained is None  # only one of the two has trained weights


def test_by_hand():
    one = ticket({"w": [1, 1, 1, 1, 0, 0]}, {"w": [1.0, -2.0, 3.0, 0.0, 9.0, 9.0]})
    other = ticket({"w": [0, 1, 1, 1, 1, 0]}, {"w": [9.0, 2.0, 1.0, 4.0, 5.0, 9.0]})
    found = compare(one, other)
    assert found.nested is None
    each = found.tensors["w"]
    assert (each.weights, each.densities, each.shared) == (6, (4 / 6, 4 / 6), 3)
    assert each.iou == 3 / 5
    # Shared: -2, 3, 0 against 2, 1, 4. Differences -4, 2, -4; the pair with a zero has no signs to compare.
    assert each.start.same_sign == 1 / 2
    assert each.start.same_sign_by_chance == 1 / 2  # one of two signs is positive in the one, both in the other
    assert each.start.distance == pytest.approx(math.sqrt(36 / 3))
    assert each.start.relative_distance == pytest.approx(math.sqrt(36 / ((13 + 21) / 2)))
    assert each.start.correlation == pytest.approx(torch.corrcoef(torch.tensor([[-2.0, 3, 0], [2, 1, 4]]))[0, 1].item())


@pytest.mark.parametrize(("weights", "kept", "also_kept"), [(6, 3, 2), (7, 3, 3), (5, 4, 4), (8, 1, 6)])
def test_chance_against_all_masks(weights, kept, also_kept):
    """The expected intersection, its deviation and its range are those over all pairs of masks."""
    first = set(range(kept))
    sizes = sorted(len(first & set(second)) for second in itertools.combinations(range(weights), also_kept))
    mean = sum(sizes) / len(sizes)
    deviation = math.sqrt(sum((size - mean) ** 2 for size in sizes) / len(sizes))
    one = ticket({"w": [i < kept for i in range(weights)]})
    other = ticket({"w": [i >= weights - also_kept for i in range(weights)]})
    found = compare(one, other).overall
    union = kept + also_kept
    assert found.iou_by_chance == pytest.approx(mean / (union - mean))
    assert found.z == pytest.approx((found.shared - mean) / deviation)
    low, high = (round(union * end / (1 + end)) for end in found.iou_range)
    assert sum(size < low for size in sizes) <= 0.025 * len(sizes) < sum(size <= low for size in sizes)
    assert sum(size > high for size in sizes) <= 0.025 * len(sizes) < sum(size >= high for size in sizes)


def test_chance_is_calibrated():
    """Of independent masks 95 % lie in the range, and z has mean 0 and deviation 1; so have signs theirs."""
    pairs = [compare(random_ticket(2 * i), random_ticket(2 * i + 1)) for i in range(400)]
    for rows in ([each.overall for each in pairs], [each.tensors["a"] for each in pairs]):
        z = torch.tensor([each.z for each in rows])
        assert abs(z.mean()) < 0.15
        assert 0.9 < z.std() < 1.1
        masks = [each.iou_range[0] <= each.iou <= each.iou_range[1] for each in rows]
        signs = [
            each.start.same_sign_range[0] <= each.start.same_sign <= each.start.same_sign_range[1] for each in rows
        ]
        assert 0.93 <= sum(masks) / 400 <= 0.985  # sizes are whole numbers, so a little more than 95 %
        assert 0.93 <= sum(signs) / 400 <= 0.985
        distances = torch.tensor([each.start.relative_distance for each in rows])
        assert distances.mean() == pytest.approx(math.sqrt(2), abs=0.02)
        assert abs(torch.tensor([each.start.correlation for each in rows]).mean()) < 0.02


def test_signs_that_both_prefer_are_no_agreement():
    """Nine of ten values are negative in both tickets, in an order of their own: chance says 82 %."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(5000, generator=generator).abs() for _ in range(2)]
    signs = [1 - 2 * (torch.rand(5000, generator=generator) < 0.9).float() for _ in range(2)]
    one, other = (ticket({"w": [1] * 5000}, {"w": value * sign}) for value, sign in zip(values, signs, strict=True))
    start = compare(one, other).overall.start
    assert start.same_sign_by_chance == pytest.approx(0.82, abs=0.01)
    assert start.same_sign == pytest.approx(start.same_sign_by_chance, abs=0.01)


def test_disjoint_masks():
    found = compare(ticket({"w": [1, 1, 0, 0]}), ticket({"w": [0, 0, 1, 1]}))
    assert (found.overall.iou, found.overall.shared, found.nested) == (0.0, 0, None)
    assert set(vars(found.overall.start).values()) == {None}


def test_nothing_survives():
    found = compare(ticket({"w": [0, 0]}), ticket({"w": [0, 0]})).overall
    assert (found.iou, found.iou_by_chance, found.iou_range, found.z) == (None, None, None, None)


def test_dense_masks_have_no_choice():
    found = compare(ticket({"w": [1, 1]}), ticket({"w": [1, 1]})).overall
    assert (found.iou, found.iou_by_chance, found.iou_range, found.z) == (1.0, 1.0, (1.0, 1.0), None)


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [2.0, 2.0, 2.0], [float("nan"), 1.0, float("inf")]])
def test_values_without_spread_or_sign(values):
    """What is not defined is None, and JSON takes the rest."""
    mine = ticket({"w": [1, 1, 1]}, {"w": values})
    start = compare(mine, mine).overall.start
    assert start.correlation is None
    json.dumps(vars(start), allow_nan=False)


def test_nested_and_trained():
    outer = ticket({"v": [1, 1, 1, 0], "w": [1, 1]}, {"v": [1.0, 2.0, 3.0, 0.0], "w": [1.0, -1.0]})
    inner = ticket({"v": [0, 1, 1, 0], "w": [1, 0]}, outer.weights)
    outer, inner = (
        replace(outer, trained=outer.weights),
        replace(inner, trained={name: -value for name, value in inner.weights.items()}),
    )
    found, back = compare(outer, inner), compare(inner, outer)
    assert (found.nested, back.nested) == ("second in first", "first in second")
    assert found.overall.iou == found.overall.iou_at_most == back.overall.iou == 3 / 5
    assert found.overall.start.distance == 0
    assert found.overall.trained.same_sign == 0
    assert found.overall.trained.relative_distance == pytest.approx(2)
    assert found.overall.trained.correlation == pytest.approx(-1)


@pytest.mark.parametrize(
    ("other", "said"),
    [({"w": [[1, 0]]}, "w is (1, 2), there (2,)"), ({"w": [1, 0], "v": [1]}, "v is (1,), there none")],
)
def test_other_architectures(other, said):
    with pytest.raises(InputError) as raised:
        compare(ticket({"w": [1, 1]}), ticket(other))
    assert raised.value.option == "TICKET"
    assert said in str(raised.value)
    assert "allowed: two tickets of one architecture" in str(raised.value)


def test_settings_that_differ_are_in_the_labels():
    found = compare(ticket({"w": [1]}, lr=0.1, jobs=2), ticket({"w": [1]}, lr=0.5, jobs=1))
    assert found.settings == {"lr": (0.1, 0.5)}
    assert found.labels == ("fc1-toy, lr=0.1", "fc1-toy, lr=0.5")


def test_figure_of_masks_that_share_nothing(tmp_path):
    draw_comparison(compare(ticket({"w": [1, 0]}), ticket({"w": [0, 1]})), tmp_path / "new" / "figure.svg")
    assert (tmp_path / "new" / "figure.svg").read_text("utf-8").count("<svg") == 1


def said_no(done, *words):
    assert done.code == 2
    assert done.out == ""
    assert len(done.err.splitlines()) == 1
    for word in words:
        assert word in done.err


@pytest.mark.slow
def test_command(lt, quick_flags, tmp_path):
    assert lt("run", *quick_flags, "--seeds", 2, "--arms", "winning,reinit").code == 0
    listed = lt("tickets", "--json").json
    run = listed[0]["run_id"]
    trajectory = {(each["arm"], each["seed"]): each["trajectory"] for each in listed}

    rounds = lt("diff", f"{run}:1", f"{run}:2", "--json").json
    assert rounds["nested"] == "second in first"
    assert rounds["overall"]["iou"] == pytest.approx(0.8, abs=0.001)
    assert rounds["overall"]["start"]["distance"] == 0
    assert 0 < rounds["overall"]["trained"]["relative_distance"] < 1
    assert rounds["answer"].startswith("Two tickets: B lies within A, with the same start values.")
    assert (tmp_path / rounds["figure"]).read_bytes().startswith(b"\x89PNG")

    seeds = lt("diff", f"{trajectory['winning', 0]}:2", f"{trajectory['winning', 1]}:2", "--json").json
    assert "winning-seed0-round2-" in seeds["names"][0]
    assert "winning-seed1-round2-" in seeds["names"][1]
    assert seeds["overall"]["start"]["relative_distance"] == pytest.approx(math.sqrt(2), abs=0.02)
    assert seeds["figure"] != rounds["figure"]

    arms = f"{trajectory['winning', 0]}:2", f"{trajectory['reinit', 0]}:2"
    done = lt("diff", *arms, "--figure", "arms.pdf")
    assert done.code == 0, done.err
    assert "Two tickets: the same mask with other start values." in done.out
    assert "fc1.weight" in done.out
    assert "Figure: arms.pdf" in done.out
    assert (tmp_path / "arms.pdf").read_bytes().startswith(b"%PDF")

    said_no(lt("diff", *arms, "--figure", "arms.pdf"), "--figure: 'arms.pdf'", "is there already")
    said_no(lt("diff", *arms, "--figure", "arms.txt"), "--figure: 'arms.txt'", "allowed: a path that ends in .png")
    said_no(lt("diff", f"{run}:1", f"{'0' * 32}:1"), "TICKET: '0000", "allowed:")
    other = ticket({"w": [1, 0]}).save(tmp_path / "other")
    said_no(lt("diff", f"{run}:1", other), "TICKET: 'fc1-toy'", "allowed: two tickets of one architecture")

"""Under torch's own masks: networks whose weights are read past them give and train what they do without."""

import copy
import io
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import prune
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from lottery_ticket import InputError, Ticket
from lottery_ticket.data.sources import load_images
from lottery_ticket.tickets.export import export
from tests.tickets.test_export import make_ticket


class Coloured(nn.Module):
    """A network for colours, given grey images."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x.expand(-1, 3, -1, -1))


class Rows(nn.Module):
    """Over the 28 rows of an image."""

    def __init__(self, body, classes):
        super().__init__()
        self.rows, self.body, self.head = nn.Linear(28, 16), body, nn.Linear(16, classes)

    def forward(self, x):
        return self.head(self.body(self.rows(x.squeeze(1))).mean(1))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class Functional(nn.Module):
    """Takes the weight of a layer without calling it."""

    def __init__(self):
        super().__init__()
        self.taken, self.called = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        return self.called(nn.functional.linear(x, self.taken.weight).relu())


def vit(classes):
    return Coloured(VisionTransformer(28, 7, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=classes))


def swin(classes):
    return Coloured(SwinTransformer([4, 4], 8, [1, 2], [2, 2], [7, 7], num_classes=classes))


def encoder(classes):
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    return Rows(nn.TransformerEncoder(layer, 1), classes)


def attention(classes):
    return Rows(Attention(), classes)


def functional(classes):
    return Rows(Functional(), classes)


def plain(classes):
    return Rows(nn.ReLU(), classes)


PAST = {
    "vit": {"self_attention.out_proj.weight"},
    "swin": {"attn.qkv.weight", "attn.proj.weight"},
    "encoder": {"self_attn.out_proj.weight"},
    "attention": {"attention.out_proj.weight"},
    "functional": {"taken.weight"},
    "plain": set(),
}


@pytest.fixture(scope="module")
def images(small_npz):
    return load_images(str(small_npz))


@pytest.fixture(scope="module", params=PAST)
def case(request, images, small_npz):
    """A ticket, its model, and the endings of the names of the tensors that it reads past the masks."""
    model = f"{__name__}:{request.param}"
    ticket = make_ticket(images, model, 0.3, str(small_npz))
    settings = ticket.settings.model_copy(update={"validation_size": 0})
    return replace(ticket, settings=settings), model, PAST[request.param]


def endings(names, known):
    return {ending for ending in known for name in names if name.endswith(ending)}


def test_a_file_read_by_plain_torch_gives_the_tickets_scores(case, images, tmp_path):
    ticket, model, past = case
    done = export(ticket, tmp_path / "made", "torch-prune", images=images, model=model)
    assert endings(done.without_mask, past) == past
    state = load_file(done.path)
    fresh = ticket.network(model).build()
    masked = {name.removesuffix("_mask") for name in state if name.endswith("_mask")}
    assert masked == ticket.mask.keys() - set(done.without_mask)
    for name in masked:
        layer, _, parameter = name.rpartition(".")
        prune.identity(fresh.get_submodule(layer), parameter)
    fresh.load_state_dict(state)
    x = ticket.data.standardise(torch.from_numpy(images.x_test).unsqueeze(1).float())[:100]
    with torch.no_grad():
        expected, found = ticket.module(trained=True, model=model).eval()(x), fresh.eval()(x)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert all(not state[name][~ticket.mask[name]].any() for name in done.without_mask)

    with pytest.warns(UserWarning, match="their zeros count as pruned") if past else pytest.MonkeyPatch.context():
        again = Ticket.from_prune(fresh, ticket.settings)
    assert all(torch.equal(again.mask[name], kept) for name, kept in ticket.mask.items())
    assert all(torch.equal(again.weights[name], value) for name, value in ticket.trained.items())


def test_under_masks_it_trains_as_a_held_module_does(case, images):
    ticket, model, _ = case
    masked, held = copy.deepcopy(ticket.to_prune(model=model)).eval(), ticket.module(model=model).eval()
    ticket.apply_to(held)
    x = ticket.data.standardise(torch.from_numpy(images.x_train[:8]).unsqueeze(1).float())
    y = torch.from_numpy(images.y_train[:8])
    for module in (masked, held):
        optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
        for _ in range(2):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(x), y).backward()
            optimizer.step()
    again = copy.deepcopy(masked)
    with torch.no_grad():
        expected, found, copied = held(x), masked(x), again(x)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert torch.equal(copied, found)
    values = dict(held.named_parameters())
    for name, kept in ticket.mask.items():
        layer, _, parameter = name.rpartition(".")
        now = getattr(masked.get_submodule(layer), parameter)
        assert not now[~kept].any()
        torch.testing.assert_close(now, values[name].data)
        prune.remove(masked.get_submodule(layer), parameter)
    with torch.no_grad():
        assert torch.equal(masked(x), found)
    torch.save(masked, io.BytesIO())


def test_pruning_made_permanent_is_seen(case):
    ticket, model, _ = case
    module = ticket.to_prune(model=model)
    for name in ticket.mask:
        layer, _, parameter = name.rpartition(".")
        prune.remove(module.get_submodule(layer), parameter)
    with pytest.warns(UserWarning, match="there are no masks of "):
        again = Ticket.from_prune(module, ticket.settings)
    assert again.density == ticket.density < 0.4
    assert all(torch.equal(again.mask[name], kept) for name, kept in ticket.mask.items())


def test_masks_without_survivors_are_refused_and_zero_layers_are_none(case):
    ticket, model, _ = case
    module = ticket.network(model).build()
    nn.init.zeros_(module.get_submodule(next(iter(ticket.mask)).rpartition(".")[0]).weight)
    assert Ticket.from_prune(module, ticket.settings).density == 1
    name = list(ticket.mask)[-1]
    layer, _, parameter = name.rpartition(".")
    prune.custom_from_mask(module.get_submodule(layer), parameter, torch.zeros_like(ticket.mask[name]))
    with pytest.raises(InputError, match=f"has nothing left of {name}; allowed: masks with survivors"):
        Ticket.from_prune(module, ticket.settings)

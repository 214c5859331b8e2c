"""Which weights are prunable, which stay dense and why, and which layer is the output."""

import json
import re

import pytest
import torch
import torch.nn.functional as F
from mlflow import MlflowClient
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from lottery_ticket.config import load_preset, params_then, settings_then
from lottery_ticket.errors import InputError
from lottery_ticket.models.network import make_network, tensors_of
from lottery_ticket.runs.retrain import begin, retrain_settings, train_ticket
from lottery_ticket.store.seal import seal
from lottery_ticket.tickets.ticket import Ticket

SHAPE = (1, 6, 6)  # as a sequence: 6 rows of 6


def network(factory, classes=4, **settings):
    name = factory if isinstance(factory, str) else f"{__name__}:{factory.__name__}"
    return make_network(load_preset(model=name, **settings), SHAPE, classes)


def parameter(*shape):
    return nn.Parameter(torch.randn(*shape) / 4)


class Recurrent(nn.Module):
    def __init__(self, layer, outputs, classes):
        super().__init__()
        self.rnn, self.head = layer, nn.Linear(outputs, classes)

    def forward(self, x):
        return self.head(self.rnn(x[:, 0])[0][:, -1])


def lstm(classes):
    return Recurrent(nn.LSTM(6, 5, batch_first=True, bidirectional=True), 10, classes)


def gru(classes):
    return Recurrent(nn.GRU(6, 5, num_layers=2, batch_first=True), 5, classes)


def projected(classes):
    return Recurrent(nn.LSTM(6, 5, batch_first=True, proj_size=3), 3, classes)


class Attention(nn.Module):
    """With a token, positions and a learned query, which are no matrices of weights."""

    def __init__(self, classes):
        super().__init__()
        self.head = nn.Linear(6, classes)
        self.token, self.positions, self.query = parameter(1, 1, 6), parameter(1, 7, 6), parameter(1, 1, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x):
        x = torch.cat([self.token.expand(len(x), -1, -1), x[:, 0]], 1) + self.positions
        return self.head(self.attention(self.query.expand(len(x), -1, -1), x, x)[0][:, 0])


class OfRows(nn.Module):
    """For MNIST; the head is registered first."""

    def __init__(self, classes):
        super().__init__()
        self.head = nn.Linear(28, classes)
        self.positions = nn.Parameter(torch.zeros(1, 28, 28))
        self.attention = nn.MultiheadAttention(28, 2, batch_first=True)

    def forward(self, x):
        x = x[:, 0] + self.positions
        return self.head((x + self.attention(x, x, x)[0]).mean(1))


class Apart(nn.Module):
    """Keys and values of other widths, so that attention has three matrices; a positional table that is looked up."""

    def __init__(self, classes):
        super().__init__()
        self.table = nn.Embedding(6, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True, kdim=3, vdim=3)
        self.head = nn.Linear(6, classes)

    def forward(self, x):
        x = x[:, 0] + self.table(torch.arange(6))
        return self.head(self.attention(x, x[..., :3], x[..., 3:])[0].mean(1))


class Words(nn.Module):
    """Pixels as words: nothing differentiable leads from the images to the scores."""

    def __init__(self, classes):
        super().__init__()
        self.words = nn.Embedding(8, 5)
        self.pair = nn.Bilinear(5, 5, 3)
        self.head = nn.Linear(3, classes)

    def forward(self, x):
        words = self.words((x[:, 0] * 2 + 4).clamp(0, 7).long()).flatten(1, 2)
        return self.head(self.pair(words.mean(1), words.amax(1)))


class Matrices(nn.Module):
    """Bare parameters in a product each; a scale, a bias of two axes, and a vector that is multiplied with data."""

    def __init__(self, classes):
        super().__init__()
        self.listed = nn.ParameterList([parameter(36, 5), parameter(5, 5)])
        self.scale, self.bias = parameter(1, 5), parameter(1, 5)
        self.down, self.up = parameter(2, 5), parameter(5, 2)
        self.out = parameter(classes, 5)

    def forward(self, x):
        x = F.linear(x.flatten(1) @ self.listed[0], self.up @ self.down) * self.scale + self.bias
        return torch.einsum("oi,bi->bo", self.out, torch.relu(x @ self.listed[1]))


class Upwards(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 4, 3, 2), nn.ConvTranspose2d(4, 3, 3)
        self.depthwise = nn.Conv1d(3, 3, 3, groups=3, padding=1, padding_mode="circular")
        self.out = nn.Conv1d(3, classes, 1)

    def forward(self, x):
        return self.out(self.depthwise(self.up(self.down(x)).flatten(2))).mean(2)


def normed(classes):
    return nn.Sequential(
        weight_norm(nn.Conv2d(1, 4, 3)), nn.Flatten(), spectral_norm(nn.Linear(64, 5)), nn.Linear(5, classes)
    )


def normed_by_hooks(classes):
    one = nn.utils.weight_norm(nn.Linear(36, 5))
    return nn.Sequential(nn.Flatten(), one, nn.utils.spectral_norm(nn.Linear(5, 5)), nn.Linear(5, classes))


def pruned_before(classes):
    layer = prune.l1_unstructured(nn.Linear(36, 5), "weight", 0.5)
    return nn.Sequential(nn.Flatten(), layer, nn.Linear(5, classes))


class Standardised(nn.Conv2d):
    """Weights less their mean (Qiao et al. 2019): where they are zero, what is multiplied is not."""

    def forward(self, x):
        return F.conv2d(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)


def standardised(classes):
    return nn.Sequential(Standardised(1, 4, 3), nn.Flatten(), nn.Linear(64, classes))


class Shared(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(36, 5), nn.Linear(5, 5), nn.Linear(5, 5)
        self.third.weight = self.second.weight
        self.head = nn.Linear(5, classes)

    def forward(self, x):
        return self.head(self.third(torch.relu(self.second(torch.relu(self.first(x.flatten(1)))))))


def frozen(classes):
    layer = nn.Linear(36, 5)
    layer.weight.requires_grad_(False)
    return nn.Sequential(nn.Flatten(), layer, nn.ReLU(), nn.Linear(5, classes))


def lazy(classes):
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(classes))


AS_IT_IS, FROZEN = "in no matrix product as it is", "frozen"


@pytest.mark.parametrize(
    ("factory", "kinds", "dense"),
    [
        (
            lstm,
            "rnn.weight_ih_l0 rnn.weight_hh_l0 rnn.weight_ih_l0_reverse rnn.weight_hh_l0_reverse head.weight=output",
            {},
        ),
        (gru, "rnn.weight_ih_l0 rnn.weight_hh_l0 rnn.weight_ih_l1 rnn.weight_hh_l1 head.weight=output", {}),
        (projected, "rnn.weight_ih_l0 rnn.weight_hh_l0 rnn.weight_hr_l0 head.weight=output", {}),
        (
            Attention,
            "head.weight=output attention.in_proj_weight attention.out_proj.weight",
            {"token": AS_IT_IS, "positions": AS_IT_IS, "query": AS_IT_IS},
        ),
        (
            Apart,
            "attention.q_proj_weight attention.k_proj_weight attention.v_proj_weight attention.out_proj.weight "
            "head.weight=output",
            {"table.weight": AS_IT_IS},
        ),
        (Words, "pair.weight head.weight=output", {"words.weight": AS_IT_IS}),
        (Matrices, "down up out=output listed.0 listed.1", {"scale": AS_IT_IS, "bias": AS_IT_IS}),
        (Upwards, "down.weight=conv up.weight=conv depthwise.weight=conv out.weight=output", {}),
        (
            normed,
            "0.parametrizations.weight.original1=conv 2.parametrizations.weight.original 3.weight=output",
            {"0.parametrizations.weight.original0": AS_IT_IS},
        ),
        (normed_by_hooks, "1.weight_v 2.weight_orig 3.weight=output", {"1.weight_g": AS_IT_IS}),
        (pruned_before, "1.weight_orig 2.weight=output", {}),
        (standardised, "2.weight=output", {"0.weight": AS_IT_IS}),
        (Shared, "first.weight head.weight=output", {"second.weight": "shared by second.weight and third.weight"}),
        (frozen, "3.weight=output", {"1.weight": FROZEN}),
        (lazy, "0.weight=conv 3.weight=output", {}),
    ],
)
def test_prunable_is_what_is_multiplied(factory, kinds, dense):
    found = network(factory)
    expected = dict([*each.split("="), "fc"][:2] for each in kinds.split())
    assert {name: "output" if name in found.output else kind for name, kind in found.kinds.items()} == expected
    assert list(found.kinds) == [name for name, _ in found.module.named_parameters() if name in expected]
    assert {name: each.why for name, each in found.inventory.dense.items()} == dense
    sizes = {name: value.numel() for name, value in found.module.named_parameters()}
    assert found.inventory.prunable == {name: sizes[name] for name in found.kinds}
    assert {name: each.count for name, each in found.inventory.dense.items()} == {name: sizes[name] for name in dense}
    assert found.inventory.parameters == sum(sizes.values())


@pytest.mark.parametrize("factory", [Words, normed, lazy])
def test_looking_leaves_the_network_as_it_was(factory):
    torch.manual_seed(0)
    untouched = factory(4)
    torch.manual_seed(0)
    found = network(factory, init="module")
    if factory is lazy:
        untouched.eval()(torch.zeros(2, *SHAPE))
    for name, value in untouched.state_dict().items():
        assert torch.equal(tensors_of(found.module)[name], value), name


class HeadFirst(nn.Module):
    """The head is registered first, auxiliary ones last; one of these is called, the other is not."""

    def __init__(self, classes):
        super().__init__()
        self.head = nn.Linear(5, classes)
        self.body = nn.Linear(36, 5)
        self.aside, self.unused = nn.Linear(5, classes), nn.Linear(5, classes)

    def forward(self, x):
        x = torch.relu(self.body(x.flatten(1)))
        self.extra = self.aside(x)
        return self.head(x)


class TwoHeads(nn.Module):
    """What the head says of the features is added to what another says of the pixels."""

    def __init__(self, classes):
        super().__init__()
        self.pixels, self.head, self.body = nn.Linear(36, classes), nn.Linear(5, classes), nn.Linear(36, 5)

    def forward(self, x):
        x = x.flatten(1)
        out = self.head(torch.relu(self.body(x)))
        out += self.pixels(x)
        return out.log_softmax(1)


class ConvHead(nn.Module):
    """The scores are the mean of a convolution, as in SqueezeNet; the layer registered last scales the image."""

    def __init__(self, classes):
        super().__init__()
        self.score, self.first = nn.Conv2d(4, classes, 1), nn.Conv2d(1, 4, 3)
        self.gate = nn.Linear(36, 1)

    def forward(self, x):
        x = x * torch.sigmoid(self.gate(x.flatten(1)))[:, :, None, None]
        return self.score(torch.relu(self.first(x))).mean((2, 3))


@pytest.mark.parametrize(
    ("factory", "output"), [(HeadFirst, ["head"]), (TwoHeads, ["pixels", "head"]), (ConvHead, ["score"])]
)
def test_the_output_layer_is_what_the_scores_come_from(factory, output):
    found = network(factory)
    assert list(found.output) == [f"{name}.weight" for name in output]
    rates = found.rates(load_preset(prune_rate_output=0.1, prune_rate_conv=0.15))
    assert {name.partition(".")[0] for name, rate in rates.items() if rate == 0.1} == set(output)


def test_an_output_layer_that_is_a_convolution_is_pruned_as_one():
    """But where the output layer has a rate of its own."""
    rates = network(ConvHead).rates(load_preset(prune_rate=0.2, prune_rate_conv=0.1))
    assert rates == {"first.weight": 0.1, "gate.weight": 0.2, "score.weight": 0.1}


def test_a_layer_that_is_not_called_stays_dense():
    assert network(HeadFirst).inventory.dense["unused.weight"].why == "not used"


def test_output_layer_overrules():
    for named, output in (("body", "body.weight"), ("aside.weight", "aside.weight")):
        found = network(HeadFirst, output_layer=named)
        assert found.output == (output,)
    with pytest.raises(InputError, match=r"--output-layer: 'haed' names nothing in the network; nearest to it: head, "):
        network(HeadFirst, output_layer="haed")


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_patterns(scope):
    def kinds(**settings):
        return list(network("lenet5", scope=scope, **settings).kinds)

    assert kinds(keep_dense=("conv*",)) == ["fc1.weight", "fc2.weight", "output.weight"]
    assert kinds(keep_dense=("conv?.weight", "output.*")) == ["fc1.weight", "fc2.weight"]
    assert kinds(prune_only=("fc*",)) == ["fc1.weight", "fc2.weight"]
    assert kinds(prune_only=("fc*", "conv1.*"), keep_dense=("fc2*",)) == ["conv1.weight", "fc1.weight"]
    kept = network("lenet5", scope=scope, keep_dense=("conv*",)).inventory
    assert {name: each.why for name, each in kept.dense.items()} == dict.fromkeys(
        ["conv1.weight", "conv2.weight"], "kept by --keep-dense"
    )
    assert kept.weights + sum(each.count for each in kept.dense.values()) == network("lenet5").inventory.weights


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"keep_dense": ("haed.*",)},
            r"--keep-dense: 'haed.\*' names nothing in the network; nearest to it: head.bias, ",
        ),
        (
            {"prune_only": ("body", "head.*")},
            r"--prune-only: 'body' names nothing in the network; nearest to it: body.bias, ",
        ),
        ({"prune_only": ("unused.*",)}, r"--prune-only: 'unused.\*' cannot be pruned: unused.weight is not used; "),
        ({"keep_dense": ("*",)}, r"--keep-dense: '\*' leaves nothing to prune: "),
        ({"keep_dense": ("head.*",), "prune_rate_output": 0.1}, r"--prune-rate-output: 0.1 has no meaning: the output"),
    ],
)
def test_patterns_that_cannot_be(settings, said):
    with pytest.raises(InputError, match=said):
        network(HeadFirst, **settings)


OF_ROWS = f"{__name__}:OfRows"
IN, OUT, HEAD = "attention.in_proj_weight", "attention.out_proj.weight", "head.weight"


@pytest.mark.slow
def test_a_run_says_what_it_prunes(lt, quick_flags, tmp_path):
    flags = ["--model", OF_ROWS, "--arms", "winning", "--keep-dense", "head.*", "--scope", "global"]
    done = lt("run", *quick_flags, *flags, "--json")
    assert done.code == 0, done.err
    weights = 4 * 28 * 28
    assert f"prunable: {IN}, {OUT}: {weights:,} of {28 * 28 + 280 + 10 + weights + 4 * 28:,} parameters" in done.err
    assert f"dense: positions 784 (in no matrix product as it is), {HEAD} 280 (kept by --keep-dense)" in done.err
    run_id, uri = done.json["run_id"], f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    run = MlflowClient(uri).get_run(run_id)
    assert run.data.params["keep_dense"] == "head.*"
    told = {name: int(run.data.tags[f"lt.{name}"]) for name in ("prunable_weights", "dense_weights", "parameters")}
    assert told == {"prunable_weights": weights, "dense_weights": 1064, "parameters": 1064 + 10 + weights + 4 * 28}
    assert {r["round"]: r["survivors"] for r in done.json["rounds"]}[0] == {IN: 3 * 784, OUT: 784}
    left = {r["round"]: r["density"] for r in done.json["rounds"]}
    assert left[1] == pytest.approx((weights - round(0.2 * weights)) / weights)

    pulled = lt("pull", f"{run_id}:1", "ticket", "--model", OF_ROWS)
    assert pulled.code == 0, pulled.err
    card = json.loads((tmp_path / "ticket" / "ticket.json").read_bytes())
    assert card["inventory"]["prunable"] == {IN: 3 * 784, OUT: 784}
    assert card["inventory"]["dense"][HEAD] == {"count": 280, "why": "kept by --keep-dense"}
    trained = lt("train", "ticket", "--model", OF_ROWS, "--iterations", 5, "--json")
    assert trained.code == 0, trained.err
    assert {r["density"] for r in trained.json["rounds"] if r["round"] == 1} == {left[1]}


@pytest.mark.slow
def test_stored_runs_keep_the_rule_they_began_with(lt, quick_flags, tmp_path):
    """As a run of 0.3 would be, interrupted in its last round: its settings lack what came later."""
    done = lt("run", *quick_flags, "--model", OF_ROWS, "--arms", "winning", "--prunable", "layers", "--json")
    assert done.code == 0, done.err
    run_id, client = done.json["run_id"], MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    settings = done.json["settings"]
    for name in ("prunable", "keep_dense", "prune_only", "output_layer"):
        del settings[name]
    client.log_text(run_id, seal(json.dumps(settings)), "settings.json")
    (last,) = tmp_path.glob("mlruns/artifacts/**/rounds/02/round.json")
    last.unlink()
    resumed = lt("run", "--resume", run_id, "--model", OF_ROWS, "--json")
    assert resumed.code == 0, resumed.err
    assert [r["survivors"].keys() for r in resumed.json["rounds"]] == [{HEAD, OUT}] * 3
    ticket = Ticket.load(f"runs:/{run_id}:2", tracking_uri=client.tracking_uri)
    assert ticket.mask.keys() == {HEAD, OUT}
    assert ticket.network(OF_ROWS).kinds == {HEAD: "fc", OUT: "fc"}
    assert train_ticket(ticket, model=OF_ROWS, tracking_uri=client.tracking_uri, arms="winning", iterations=2).rounds


def test_what_stored_settings_leave_out():
    assert settings_then({"model": "mine:net"})["prunable"] == "layers"
    assert settings_then({"model": "mine:net", "prunable": "products"})["prunable"] == "products"
    assert settings_then({"model": "lenet5"})["prunable"] == "products"  # both find the same there
    assert params_then({"model": "fc1"})["keep_dense"] == "None"


@pytest.mark.parametrize("model", ["fc1", "lenet5"])
def test_both_rules_agree_on_the_packages_networks(model):
    assert network(model, prunable="layers").kinds == network(model).kinds
    assert network(model, prunable="layers").output == network(model).output == ("output.weight",)


@pytest.mark.parametrize("factory", [normed, HeadFirst, Matrices])
def test_other_classes_change_the_output_layer_alone(factory, small):
    """A ticket is trained on data of another number of classes."""
    model = f"{__name__}:{factory.__name__}"
    before, after = network(factory, classes=4, init="module"), network(factory, classes=7, init="module")
    start, settings = before.draw(0, "init"), load_preset(model=model, init="module")
    ticket = Ticket(before.dense_mask(), start, settings, small.info)
    changed = {name for name, value in after.draw(0, "init").items() if value.shape != start[name].shape}
    if factory is HeadFirst:  # two layers have as many outputs as there are classes
        with pytest.raises(InputError, match=r"aside\.bias, aside\.weight"):
            begin(ticket, retrain_settings(ticket, {}), after, before)
        return
    begun = begin(ticket, retrain_settings(ticket, {"arms": "winning"}), after, before)[0]
    assert {name for name, value in begun.start.items() if value.shape != start[name].shape} == changed
    assert all(torch.equal(begun.start[name], start[name]) for name in start.keys() - set(after.output) - changed)


def takes_any(**options):
    return nn.Sequential(nn.Flatten(), nn.Linear(36, options["num_classes"]))


def passes_on(**options):
    return pruned_before(**options, classes=4)


def num_classes_named(num_classes, input_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[1] * input_shape[2], num_classes))


@pytest.mark.parametrize("factory", [takes_any, passes_on, num_classes_named])
def test_num_classes_is_filled_in(factory):
    assert network(factory, classes=4).inventory.parameters


def test_torchvision_as_it_is():
    found = make_network(load_preset(model="torchvision.models:squeezenet1_1"), (3, 32, 32), 10)
    assert found.output == ("classifier.1.weight",)
    assert found.inventory.weights == 724_672


def compiled(classes):
    return torch.compile(nn.Sequential(nn.Flatten(), nn.Linear(36, classes)))


def partly_compiled(classes):
    made = nn.Sequential(nn.Flatten(), torch.compile(nn.Linear(36, 5)), nn.Linear(5, classes))
    made[2].compile()
    return made


@pytest.mark.parametrize("factory", [compiled, partly_compiled])
@pytest.mark.slow
def test_what_torch_compile_wraps_is_trained(factory):
    found = network(factory)
    assert all(re.fullmatch(r"\d\.weight", name) for name in found.kinds)
    assert all(part._compiled_call_impl is None for part in found.build().modules())


class Pair(nn.Linear):
    def __init__(self, classes):
        super().__init__(36, classes)

    def forward(self, x):
        scores = super().forward(x.flatten(1))
        return scores, scores.softmax(1)


class Listed(Pair):
    def forward(self, x):
        return list(super().forward(x))


class Named(Pair):
    def forward(self, x):
        return dict(zip(("scores", "odds"), super().forward(x), strict=True))


@pytest.mark.parametrize(
    ("factory", "said"),
    [(Pair, "a tuple of 2 values"), (Listed, "a list of 2 values"), (Named, "a dict of scores, odds")],
)
def test_outputs_that_are_no_scores(factory, said):
    with pytest.raises(InputError, match=f"returns {said} in training; allowed: one tensor, N×4 scores"):
        network(factory)

"""`lottery_ticket.find`: pruning and rewinding around functions of a user's own."""

import copy
import doctest
import importlib.util
import itertools
import json
import math
import multiprocessing
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mlflow import MlflowClient
from torch import nn

import lottery_ticket
from lottery_ticket import InputError, Ticket, cli
from lottery_ticket.config import OF_THE_LOOP
from lottery_ticket.models.lenet import fc1
from lottery_ticket.randomness import generator
from lottery_ticket.runs import find as find_module
from lottery_ticket.runs.listener import Listener
from lottery_ticket.runs.sync import sync
from lottery_ticket.store import reading
from tests.help.outcomes import outcome

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


QUICK = {"rounds": 3, "listener": Listener()}


class Task:
    """Signs of a product of two numbers: a task of no data set of lt's, learnt in a moment."""

    def __init__(self):
        source = torch.Generator().manual_seed(7)
        self.x = torch.randn(400, 6, generator=source)
        self.y = (self.x[:, 0] * self.x[:, 1] > 0).long()


TASK = Task()


def make():
    return nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Dropout(0.1), nn.Linear(24, 2))


def train(module, job):
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    total = 0.0
    for batch in torch.randperm(300).split(30):  # of the global generator
        optimizer.zero_grad()
        loss = F.cross_entropy(module(TASK.x[batch]), TASK.y[batch])
        loss.backward()
        optimizer.step()
        total += loss.item() / 10
    return {"train_loss": total}


def evaluate(module):
    return {"correct": module(TASK.x[300:]).argmax(1) == TASK.y[300:], "margin": module(TASK.x[300:]).std().item()}


def refused(says):
    return pytest.raises(InputError, match=re.escape(says))


def find(train=train, evaluate=evaluate, factory=make, **settings):
    return lottery_ticket.find(
        factory, train=train, evaluate=evaluate, **{"rounds": 3, "listener": Listener()} | settings
    )


def find_in(folder, trained_by, **settings):
    os.chdir(folder)
    torch.set_num_threads(1)
    find(trained_by, **settings)


def masks(result, arm="winning", seed=0):
    return [
        reading.read_mask(result.client, result.stored.children[arm, seed], r.round)
        for r in result.rounds
        if (r.arm, r.seed) == (arm, seed)
    ]


@pytest.mark.slow
def test_our_loop_written_by_hand_finds_what_run_finds(settings, small):
    """fc1 on MNIST: as many survivors in each tensor, masks nested, accuracies as close as rounding leaves them."""
    images, labels = small.train.x, small.train.y

    def by_hand(module, job):
        optimizer = torch.optim.Adam(module.parameters(), lr=settings.lr)
        iteration, total = 0, settings.iterations
        while iteration < total:
            epoch = iteration // math.ceil(len(labels) / 60)
            order = torch.randperm(len(labels), generator=generator(job.seed, "order", job.round, epoch))
            for batch in order.split(60)[: total - iteration]:
                optimizer.zero_grad()
                F.cross_entropy(module(images[batch]), labels[batch]).backward()
                optimizer.step()
                iteration += 1

    def right(module):
        with torch.no_grad():
            return {"correct": module(small.test.x).argmax(1) == small.test.y}

    told = {name: getattr(settings, name) for name in ("rounds", "init", "prune_rate")}
    ours = lottery_ticket.run(settings, listener=Listener())
    theirs = find(
        by_hand,
        right,
        lambda: fc1(small.input_shape, small.classes),
        example=small.test.x[:2],
        prunable="products",
        **told,
    )
    assert [r.survivors for r in ours.rounds] == [r.survivors for r in theirs.rounds]
    assert [r.iterations for r in theirs.rounds] == [settings.iterations] * 8
    a, b = masks(ours), masks(theirs)
    for larger, smaller in itertools.pairwise(b):
        assert all((larger[name] | ~smaller[name]).all() for name in larger)
    shared = [
        sum(int((x[n] & y[n]).sum()) for n in x) / sum(int(x[n].sum()) for n in x) for x, y in zip(a, b, strict=True)
    ]
    assert min(shared) > 0.995
    for one, other in zip(ours.rounds, theirs.rounds, strict=True):
        assert (one.arm, one.round) == (other.arm, other.round)
        assert one.test_accuracy == pytest.approx(other.test_accuracy, abs=0.02)
    assert ours.verdict.method == theirs.verdict.method == "mcnemar"


def lt(*arguments):
    """A command in this process."""
    cli.app([*map(str, arguments)], standalone_mode=False)


def test_everything_of_a_run_is_in_the_store(tmp_path, capsys):
    lines = []

    class Told(Listener):
        def started(self, plan, run_id, done):
            lines.append(plan.length)

    arms = "winning,reinit,random-mask,reinit-own"
    result = find(arms=arms, seeds=3, name="signs", dataset="products", listener=Told())
    assert lines == ["3 rounds of a loop of your own, one network after another"]
    assert len(result.rounds) == 4 * 3 * 3
    assert result.verdict.method == "t-interval"
    assert [path.stem for path in result.figures] == ["accuracy", "learning_curves", "survivors"]
    parent = result.client.get_run(result.run_id)
    assert not parent.data.params.keys() & set(OF_THE_LOOP)
    assert parent.data.params["prune_rate"] == "0.2"
    assert parent.data.params["dataset"] == "products"
    child = result.client.get_run(result.stored.children["winning", 0])
    assert {"test_accuracy", "train_loss", "margin", "density/0.weight"} <= child.data.metrics.keys()
    for record in result.rounds:
        if record.round:
            assert record.density == pytest.approx(0.8**record.round, abs=0.01)

    capsys.readouterr()
    lt("tickets", "--json")
    listed = json.loads(capsys.readouterr().out)
    assert {each["run_name"] for each in listed} == {"signs"}
    assert len(listed) == 4 * 3 * 2
    lt("figures", result.run_id, "--json")
    assert json.loads(capsys.readouterr().out)["verdict"] == json.loads(result.verdict.to_json())
    lt("figures", result.run_id)
    assert "signs" in capsys.readouterr().out
    lt("pull", f"{result.run_id}:2", "mine", "--trained")
    assert "tests.runs.test_find.make on products" in capsys.readouterr().out
    ticket = Ticket.load(tmp_path / "mine")
    module = make()
    held = ticket.apply_to(module)
    train(module, None)
    assert all((module.get_parameter(name)[~kept] == 0).all() for name, kept in ticket.mask.items())
    held.remove()
    for arm in arms.split(","):
        found = Ticket.load(f"runs:/{result.run_id}:2:{arm}-seed1")
        assert found.density == pytest.approx(0.64, abs=0.01)
    lt("diff", f"{result.run_id}:1", "mine")
    assert "B lies within A" in " ".join(capsys.readouterr().out.split())

    reference = f"{result.run_id}:2"
    for command in ("train", reference), ("export", reference), ("export", "mine"), ("register", reference, "--name=x"):
        with refused("was found by lottery_ticket.find, with a network, data and training that lt does not know"):
            lt(*command)
    with refused(f'allowed: lottery_ticket.find(…, resume="{result.run_id}") with the same functions'):
        lt("run", "--resume", result.run_id)
    with refused("was found by lottery_ticket.find"):
        ticket.module()


@pytest.mark.slow
def test_seeds_and_arms_start_from_other_values_and_nothing_else_is_random():
    starts, orders = {}, {}

    def noted(module, job):
        starts[job.arm, job.seed, job.round] = module[0].weight.detach().clone()
        orders[job.arm, job.seed, job.round] = (torch.rand(1).item(), np.random.rand(), job.generator().initial_seed())
        return train(module, job)

    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = find(noted, arms="winning,reinit", seeds="0,5")
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert not torch.equal(starts["winning", 0, 0], starts["winning", 5, 0])
    kept = masks(first)[2]["0.weight"]
    assert torch.equal(starts["winning", 0, 2], starts["winning", 0, 0] * kept)
    drawn = [starts["reinit", 0, 2], starts["reinit", 5, 2], starts["reinit", 0, 1], starts["winning", 0, 2]]
    assert torch.equal(drawn[0] != 0, kept)
    assert len({value[value != 0][:3].numpy().tobytes() for value in drawn}) == 4
    assert orders["winning", 0, 1] == orders["reinit", 0, 1]
    assert len(set(orders.values())) == 6
    torch.rand(3)
    again = find(noted, arms="winning,reinit", seeds="0,5")
    assert outcome_of(again) == outcome_of(first)


def outcome_of(result):
    return outcome(result.client, result.run_id)


class Dies:
    """Trains, and kills its process in a round."""

    def __init__(self, at):
        self.at = at

    def __call__(self, module, job):
        if (job.arm, job.seed, job.round) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return dies_not(module, job)


def dies_not(module, job):
    job.evaluate()
    return train(module, job)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_end(tmp_path):
    how = {"arms": "winning,reinit,random-mask", "seeds": 2, "rounds": 4, "rewind_iteration": 3}
    process = multiprocessing.get_context("forkserver").Process(  # a fork of this one may wait for its threads for ever
        target=find_in, args=(tmp_path, Dies(("reinit", 1, 2))), kwargs=how
    )
    process.start()
    process.join(240)
    assert process.exitcode == -signal.SIGKILL
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    (run,) = client.search_runs(["1"], "tags.`lt.kind` = 'find'")
    run_id = run.info.run_id
    assert {record.round for record in reading.read_run(client, run_id).records} <= {0, 1}  # some are on their way
    assert not sync(run_id).finished  # what was on its way is there now
    assert len(reading.read_run(client, run_id).records) == 6 * 2
    with refused("--rounds: '5' cannot go on with it; allowed: 4, with which run"):
        find(Dies(None), resume=run_id, **how | {"rounds": 5})
    with refused("is not what this run is judged by; allowed: test_accuracy from 0.0 to 1.0"):
        find(Dies(None), resume=run_id, score=("margin", 0, 9), **how)
    with refused("the code of tests.runs.test_find.evaluate_otherwise"):
        find(Dies(None), evaluate_otherwise, resume=run_id, **how)
    with refused(
        "model_factory: 'tests.runs.test_find.wider' cannot go on with it; allowed: tests.runs.test_find.make"
    ):
        find(Dies(None), factory=wider, resume=run_id, **how)
    ended = find(Dies(None), resume=run_id, **how)
    undisturbed = find(Dies(None), **how)
    assert outcome_of(ended) == outcome_of(undisturbed)
    assert ended.verdict == undisturbed.verdict


def wider():
    return nn.Sequential(nn.Linear(6, 25), nn.ReLU(), nn.Linear(25, 2))


def evaluate_otherwise(module):
    return evaluate(module)


@pytest.mark.slow
def test_late_rewinding_goes_on_at_theta_k():
    starts, begins = {}, {}
    warned = []

    class Told(Listener):
        def warned(self, message):
            warned.append(message)

    def going_on(module, job):
        starts[job.arm, job.round], begins[job.arm, job.round] = copy.deepcopy(module), job.begins_at
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        order = torch.randperm(300, generator=job.generator()).split(30)
        for iteration in range(job.begins_at, 10):
            optimizer.zero_grad()
            F.cross_entropy(module(TASK.x[order[iteration]]), TASK.y[order[iteration]]).backward()
            optimizer.step()
            if (job.arm, job.round, iteration + 1) == ("winning", 0, job.rewind_iteration):
                starts["theta_k"] = copy.deepcopy(module)

    result = find(going_on, rewind_iteration=4, listener=Told())
    assert begins == {(arm, r): 4 * (arm == "winning" and r > 0) for arm in ("winning", "reinit") for r in range(3)}
    kept = masks(result)[2]["0.weight"]
    assert torch.equal(starts["winning", 2][0].weight, starts["theta_k"][0].weight * kept)
    assert {record.iterations for record in result.rounds} == {10}
    assert not warned
    find(train, rewind_iteration=4, listener=Told())
    assert warned[0] == (
        "round 1 of winning-seed0 took 10 steps from iteration 4 on, the dense network 10 in all: train does not go on "
        "at job.begins_at; rewind_steps='restart' says so"
    )
    with refused("--rewind-iteration: 11 is not reached: tests.runs.test_find.train took 10 steps"):
        find(train, rewind_iteration=11)


def test_what_is_evaluated_within_a_round_is_its_learning_curve():
    def watched(module, job):
        assert 0 <= job.evaluate() <= 1
        assert module.training
        train(module, job)

    plain, result = find(), find(watched)
    assert [point.iteration for point in result.rounds[0].curve] == [0, 10]
    assert [record.correct for record in result.rounds] == [record.correct for record in plain.rounds]


class Translator(nn.Module):
    """Reads words, answers in the same number of words: attention, embeddings, and inputs that are whole numbers."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(12, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.output = nn.Linear(16, 12)

    def forward(self, source, *, padding):
        return {"scores": self.output(self.layer(self.words(source), src_key_padding_mask=padding))}


def test_a_task_that_is_no_classification():
    """A translation of words one by one, judged by a score in percent, on the seeds alone."""
    source = torch.randint(0, 12, (80, 5), generator=torch.Generator().manual_seed(1))
    target, none = (5 * source + 1) % 12, torch.zeros(80, 5, dtype=torch.bool)

    def translate(module, job):
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.02)
        for part in torch.randperm(60).split(20):
            optimizer.zero_grad()
            F.cross_entropy(
                module(source[part], padding=none[part])["scores"].flatten(0, 1), target[part].flatten()
            ).backward()
            optimizer.step()

    def bleu(module):
        found = module(source[60:], padding=none[60:])["scores"].argmax(2)
        return {"bleu": 100 * (found == target[60:]).double().mean(), "test_loss": 0.5, "words/unknown": 0}

    example = {"source": source[:2], "padding": none[:2]}
    result = find(translate, bleu, Translator, example=example, score=("bleu", 0, 100), seeds=2)
    tensors = {"layer.self_attn.in_proj_weight", "layer.self_attn.out_proj.weight", "layer.linear1.weight"}
    tensors |= {"layer.linear2.weight", "output.weight"}
    assert result.rounds[0].densities.keys() == tensors
    for record in result.rounds:
        assert record.measured["bleu"] == pytest.approx(100 * record.test_accuracy)
        assert record.measured["words/unknown"] == 0
        assert record.test_size == 0
    assert result.verdict.method == "t-interval"
    assert "test images" not in result.verdict.evidence
    one = find(translate, bleu, Translator, score=("bleu", 0, 100), prune_only="output.weight")
    assert one.rounds[0].densities.keys() == {"output.weight"}
    assert {r.wins for r in one.verdict.rounds} == {"undecided"}
    assert "fewer than 2 seeds can be compared" in one.verdict.remarks[-1]


def test_a_score_where_less_is_better():
    def error(module):
        right = evaluate(module)["correct"].double().mean()
        return {"endpoint_error": 20 * (1 - right), "right": right}

    result = find(evaluate=error, score=("endpoint_error", 20, 0), rounds=2)
    for record in result.rounds:
        assert record.test_accuracy == pytest.approx(record.measured["right"])
        assert record.measured["endpoint_error"] == pytest.approx(20 - 20 * record.test_accuracy)
    worse = find(evaluate=lambda module: 30.0, score=("endpoint_error", 20, 0), rounds=1)
    assert worse.rounds[0].test_accuracy == 0
    assert worse.rounds[0].measured == {"endpoint_error": 30.0}
    with refused("evaluate: -1.0 is no endpoint_error; allowed: 20 (worst) to 0 (best)"):
        find(evaluate=lambda module: -1.0, score=("endpoint_error", 20, 0))


def bits(*values):
    return {"correct": np.array(values)}


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (math.nan, "nan is no test_accuracy, and all weights are finite; allowed: a number from 0"),
        (27.3, r"27.3 is no test_accuracy; allowed: 0 .worst. to 1 .best., or score=.name, worst, best."),
        (-0.2, "-0.2 is no test_accuracy"),
        (True, "True of type bool is no number"),
        ("0.5", "'0.5' of type str is no number"),
        (None, "None of type NoneType is no number for 'test_accuracy'; allowed: a float, or a mapping"),
        (torch.zeros(2), "of type Tensor is no number"),
        ({"accuracy": 0.5}, r"\['accuracy'\] has no 'test_accuracy' and no 'correct'; allowed"),
        ({"test_accuracy": 0.5, "note": "good"}, "'good' of type str is no number for 'note'"),
        ({"test_accuracy": 0.5, "density": 1}, "'density' cannot be the name of a metric"),
        ({"test_accuracy": 0.5, "a:b": 1}, "'a:b' cannot be the name of a metric"),
        (bits(0.5, 1), r"'correct' is float64 of shape \(2,\); allowed: one bool for each"),
        (bits(), "'correct' is float64"),
        (bits([True]), r"'correct' is bool of shape \(1, 1\)"),
        (bits(True, False) | {"test_accuracy": 0.6}, "is not the mean of 'correct', 0.5; allowed: that, or one"),
    ],
)
def test_an_evaluation_that_cannot_be_judged_is_refused_before_training(told, says, tmp_path):
    with pytest.raises(InputError, match=says) as error:
        find(evaluate=lambda module: told)
    assert str(error.value).startswith("evaluate: ")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "mlruns").exists()


def test_examples_stay_the_same():
    sizes = iter([3, 3, 4])
    with refused("tells of 4 examples whether they are right, told of 3 before"):
        find(evaluate=lambda module: bits(*[True] * next(sizes)))


def test_what_diverges_ends_as_in_run():
    def explodes(module, job):
        train(module, job)
        if job.arm == "reinit" and job.round == 1:
            with torch.no_grad():
                module[3].bias.fill_(math.inf)
        return {"train_loss": 1.0}

    result = find(explodes, lambda module: module(TASK.x).softmax(1)[0, 0], rounds=3)
    assert [(r.arm, r.round) for r in result.rounds if r.diverged] == [("reinit", 1)]
    assert result.verdict.diverged == ("reinit-seed0",)
    assert len(result.rounds) == 6


def replaces(module, job):
    module[0] = nn.Linear(6, 24)


def swaps(module, job):
    module[0].weight = nn.Parameter(module[0].weight.detach().clone())


def copies(module, job):
    train(copy.deepcopy(module), job)


def returns(module, job):
    other = copy.deepcopy(module)
    train(other, job)
    return other


def moves(module, job):
    train(module, job)
    with torch.no_grad():
        module[0].weight += 0.1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("test_accuracy", "cannot be the name of a metric"),
        ("bad@name", "cannot be the name of a metric"),
        ("own", "is also what tests.runs.test_find.counted returns; allowed: another name"),
    ],
)
def test_names_of_metrics_are_told_apart(name, says):
    def named(module, job):
        train(module, job)
        return {"train_loss": 0.5, name: 0.99}

    with pytest.raises(InputError, match=f"train: '{name}' {re.escape(says)}"):
        find(named, evaluate=counted)


def counted(module):
    return {"test_accuracy": 0.5, "own": 1}


def adds(module, job):
    train(module, job)
    module.extra = nn.Parameter(torch.zeros(1))


@pytest.mark.parametrize(
    ("trained", "says"),
    [
        (replaces, "put another parameter in the place of 0.weight"),
        (swaps, "put another parameter in the place of 0.weight"),
        (adds, "put another parameter in the place of extra"),
        (copies, "changed no parameter of the module, as where a copy of it is trained"),
        (returns, "returned another module than the one that it was given"),
        (moves, "moved 29 pruned weights of 0.weight from zero, past all torch.optim optimisers"),
    ],
)
def test_a_loop_that_trains_something_else_is_refused(trained, says):
    with pytest.raises(
        InputError, match=re.escape(f"train: 'tests.runs.test_find.{trained.__name__}' {says}")
    ) as error:
        find(trained)
    assert "\n" not in str(error.value)
    assert 'go on with lottery_ticket.find(…, resume="' in error.value.__notes__[0]


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.Muon])
def test_pruned_weights_stay_zero_at_every_step(optimizer):
    seen = []

    def train(module, job):
        weights = [module[0].weight, module[3].weight]
        stepping = optimizer(weights, lr=0.05, weight_decay=0.1)
        for part in torch.arange(300).split(60):
            F.cross_entropy(module(TASK.x[part]), TASK.y[part]).backward()
            stepping.step()
            seen.append(all((module.get_parameter(name)[~kept] == 0).all() for name, kept in job.mask.items()))

    find(train, arms="winning")
    assert seen == [True] * 15


ONE = make()


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        (lambda: ONE, "returns the same module, or the same parameters, each time; allowed: a new module"),
        (lambda: nn.Sequential(ONE), "returns the same module, or the same parameters, each time"),
        (
            lambda: copy.deepcopy(ONE),
            "model_factory: 'tests.runs.test_find.lambda' gives reinit the same 0.weight",
        ),
        (lambda: "none", "returned a str; allowed: a torch.nn.Module"),
        (lambda size: make(), "could not be called without arguments: TypeError"),
        (lambda: nn.Sequential(nn.LazyLinear(3)), "is lazy in 0; allowed: example="),
        (lambda: nn.Sequential(nn.ReLU()), "has no prunable weights"),
    ],
)
def test_a_factory_that_makes_no_networks_is_refused(factory, says, tmp_path):
    with pytest.raises(InputError, match=re.escape(says)):
        find(factory=factory)
    assert not (tmp_path / "mlruns").exists()


def test_a_module_that_is_copied_may_be_drawn_by_lt():
    result = find(factory=lambda: copy.deepcopy(ONE), init="kaiming-normal", rounds=1)
    assert len({record.correct for record in result.rounds}) == 2


def test_lazy_layers_are_made_by_the_example():
    result = find(
        factory=lambda: nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.Dropout(0.1), nn.LazyLinear(2)),
        example=TASK.x[:2],
        rounds=1,
        keep_dense="3.*",
    )
    assert result.rounds[0].survivors == {"0.weight": 48}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lr": 0.1}, "lr: 0.1 is not for lottery_ticket.find to say: your own functions do"),
        ({"model": "fc1"}, "model: 'fc1' is not for lottery_ticket.find to say"),
        ({"round": 3}, "did you mean 'rounds'?"),
        ({"arms": "winner"}, "did you mean 'winning'?"),
        ({"prunable": "products"}, "allowed with it: example="),
        ({"rewind_steps": "all"}, "allowed: remaining, restart"),
        ({"example": torch.zeros(2, 5)}, "does not take the example: RuntimeError"),
        ({"score": 100}, "is no score; allowed: (name, worst, best)"),
        ({"score": ("bleu", 1, 1)}, "has no range"),
        ({"keep_dense": "*"}, "leaves nothing to prune"),
        ({"train": None}, "train: None cannot be called"),
    ],
)
def test_settings_that_cannot_be(settings, says, tmp_path):
    with pytest.raises(InputError, match=re.escape(says)):
        find(**settings)
    assert not (tmp_path / "mlruns").exists()


def test_an_evaluation_that_trains_is_refused():
    def steals(module):
        train(module, None)
        return 0.5

    with refused("changes 0.weight of the module; allowed: a function that leaves it"):
        find(evaluate=steals)


@pytest.mark.slow
def test_a_run_of_lt_is_not_gone_on_with(settings):
    made = lottery_ticket.run(settings.model_copy(update={"rounds": 1}), listener=Listener())
    with refused("is no run of lottery_ticket.find; allowed: lt run --resume"):
        find(resume=made.run_id)


def test_the_docstrings_example():
    (example,) = (each for each in doctest.DocTestFinder().find(find_module.find, "find") if each.examples)
    assert doctest.DocTestRunner().run(example).failed == 0


def blocks():
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs/own-loop.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.slow
def test_the_documents_example(capsys):
    code = blocks()[0]
    assert "lottery_ticket.find(" in code
    exec(compile(code.replace("rounds=12", "rounds=3"), "own-loop.md", "exec"), {"__name__": "own_loop"})
    assert "% of the weights" in capsys.readouterr().out


def test_the_lightning_callback():
    pytest.importorskip("lightning")
    spec = importlib.util.spec_from_file_location("lightning_callback", ROOT / "docs/lightning_callback.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    result = module.main(rounds=2, epochs=1, seeds=1)
    assert [record.iterations for record in result.rounds] == [module.STEPS] * 4
    assert all(record.measured["held"] == 1 for record in result.rounds)

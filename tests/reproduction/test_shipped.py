"""The packaged reproductions: what each asks for is trained, at the densities that its settings give."""

import functools
import math
import tomllib
from itertools import product

import pytest
import torch

from lottery_ticket import shipped
from lottery_ticket.config import load_preset
from lottery_ticket.method.arms import arm_named
from lottery_ticket.method.schedule import left_after, pruning_of
from lottery_ticket.models.network import make_network
from lottery_ticket.reproduction.claims import Experiment, decide, read_as
from lottery_ticket.reproduction.definition import setup_of
from lottery_ticket.reproduction.jobs import _joined, carry_out, make_jobs
from lottery_ticket.reproduction.parse import load_reproduction, parse, reproduction_names
from lottery_ticket.reproduction.records import sources_of
from tests.analysis.test_verdict import record

SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


PRUNING = ("model", "width", "dataset", "rounds", "prune_rate", "prune_rate_conv", "prune_rate_output", "density",
           "tensor_densities", "scope", "criterion", "pruning", "keep_dense", "prune_only", "output_layer")  # fmt: skip
"""What the densities of the arm winning depend on."""

a_record = functools.cache(record)


@functools.cache
def densities(told):
    """Survivors / weights of the arm winning in each round, by the values of `PRUNING`."""
    settings = load_preset().model_copy(update=dict(zip(PRUNING, told, strict=True)))
    network = make_network(settings, SHAPES[settings.dataset], 10)
    dense = before = network.dense_mask()
    total = sum(kept.numel() for kept in dense.values())
    made = [1.0]
    for r in range(1, settings.rounds):
        counts = left_after(settings, network, before, r)
        if isinstance(counts, int):  # of all tensors together: whichever they are
            rest, counts = counts, {}
            for name, kept in dense.items():
                counts[name] = min(kept.numel(), rest)
                rest -= counts[name]
        made.append(sum(counts.values()) / total)
        if pruning_of(settings) == "iterative":
            before = {
                name: (torch.arange(kept.numel()) < counts[name]).view(kept.shape) for name, kept in dense.items()
            }
    return made


def rounds_of(settings):
    """Made-up rounds of every arm and seed, with what such an arm's records have and lack."""
    made = []
    for r, density in enumerate(densities(tuple(getattr(settings, name) for name in PRUNING))):
        for arm in settings.arms:
            training = arm_named(arm).training
            untrained = training == "untrained" or (training in ("edge-popup", "supermask") and r == 0)
            kept = 0.7 * density if training == "supermask" and r else density  # which is where training takes it
            for seed in settings.seeds:
                accuracy = 0.9 + 0.001 * ((3 * seed + len(arm) + r) % 5)
                more = {"density": kept, "iterations": 1000, "test_accuracy_best": accuracy}
                if settings.validation_size and not untrained:
                    more |= {"early_stop_iteration": 500 + seed, "test_accuracy_early_stop": accuracy}
                made.append(a_record(arm, seed, r, accuracy).model_copy(update=more))
    return made


@pytest.mark.parametrize("name", reproduction_names())
def test_every_setup_and_variant_is_asked_for(name):
    told, _ = load_reproduction(name)
    setups, variants = map(set, zip(*told.experiments, strict=True))
    assert (setups, variants) == (set(told.setups), set(told.variants))


AT_SCALES = [(name, scale) for name in reproduction_names() for scale in load_reproduction(name)[0].scales]


@pytest.mark.parametrize(("name", "scale"), AT_SCALES)
def test_every_part_is_measured(name, scale):
    told, _ = load_reproduction(name)
    experiments = {}
    jobs = make_jobs(told, scale)
    for job in jobs:
        assert len(job.settings.seeds) >= 3
        job.found = sources_of(job.settings, "", "", {}, "", rounds_of(job.settings))
    for pair in told.experiments:
        pieces = [job for job in jobs if pair in job.experiments]
        records = pieces[0].records if len(pieces) == 1 else _joined(pieces)
        experiments[pair] = Experiment(read_as(records, told.variants[pair[1]]), 1.0)
    for outcome in decide(told, experiments):
        for finding in outcome.findings:
            where = f"{outcome.claim.id}, {outcome.variant}: {finding.part.says}"
            assert finding.estimate is not None, where
            assert finding.lost == 0, where
            assert finding.part.measure == "winning_streak" or math.isfinite(finding.estimate.mean), where


@pytest.mark.parametrize(("name", "scale"), AT_SCALES)
def test_trained_networks_that_are_compared_are_trained_as_long(name, scale):
    """Those of two setups in one part, but for what is never trained or learns a mask alone."""
    told, _ = load_reproduction(name)
    for claim in told.claims:
        for part, variant in product(claim.parts, claim.variants):
            sides = [side for side in (part.of, part.minus or part.over) if side]
            arms = [told.variants[variant].control if side == "control" else side.rpartition(":")[2] for side in sides]
            if any(arm != "dense" and arm_named(arm).fixed for arm in arms):
                continue
            lengths = {
                (each.epochs, each.iterations, each.batch_size if each.iterations else None)
                for side in sides
                for each in told.settings(setup_of(side) or part.setup, variant, scale)
            }
            assert len(lengths) == 1, f"{claim.id}: {part.says}: {lengths}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shu-biases", "ma-jackpot", "ma-resnet20", "gradient-flow", "edge-popup", "zhou"])
def test_each_is_run_in_small(name, small_npz, tmp_path):
    """On a few images, for a few iterations, whatever the network: what it asks for can be trained and judged."""
    told = tomllib.loads(shipped.text("reports", name, "REPORT"))
    for setup in told["setups"].values():
        quick = setup["quick"]
        given = {**tomllib.loads(shipped.text("presets", setup["preset"], "--preset")), **setup.get("settings", {})}
        lengths = {"mask_from": 1, "mask_until": 5, "mask_every": 1} if "mask_every" in given else {}
        few = {"dataset": str(small_npz), "iterations": 6, "normalise": "unit", "validation_size": 200, "seeds": 2}
        setup["quick"] = {key: value for key, value in quick.items() if key != "epochs"} | few | lengths
    done = carry_out(parse(name, told), name, tracking_uri=f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    for outcome in done.outcomes:
        for finding in outcome.findings:
            assert finding.estimate is not None, f"{outcome.claim.id}: {finding.part.says}"
            assert len(finding.estimate.values) + finding.lost == 2

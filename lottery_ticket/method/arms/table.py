"""The arms by name, ours and guests'."""

import re
from collections.abc import Iterable, Sequence

from lottery_ticket import plugins
from lottery_ticket.config import OF_CHANGES, OF_PRUNING, Settings, flag
from lottery_ticket.engine.changing import When
from lottery_ticket.engine.job import CHANGING, LEARNING, REGROWING, in_iterations, iterations_per_round
from lottery_ticket.errors import InputError
from lottery_ticket.method.arms import masks, small, trunk, values
from lottery_ticket.method.arms.contract import Arm
from lottery_ticket.models.narrow import obstacle
from lottery_ticket.models.network import Network
from lottery_ticket.names import ARM

ARMS = {
    "winning": Arm(trunk.winning, own_mask=True, colour="#0072B2"),
    "reinit": Arm(trunk.reinit, own_mask=False, control=True, colour="#D55E00", draws=True),
    "random-mask": Arm(masks.random_mask, own_mask=False, colour="#009E73"),
    "degree-preserving": Arm(masks.degree_preserving, own_mask=False, colour="#882255"),
    "mask-inverted": Arm(trunk.winning, own_mask=True, colour="#CC6677", goes_on=True, inverted=True),
    "other-seed": Arm(masks.of_another_seed, own_mask=False, colour="#117733", lender=masks.neighbour),
    "sign-only": Arm(values.sign_only, own_mask=False, colour="#332288"),
    "signs-random": Arm(values.signs_random, own_mask=False, colour="#AA4499"),
    "shuffle": Arm(values.shuffle, own_mask=False, colour="#999933"),
    "shuffle-all": Arm(values.shuffle_all, own_mask=False, colour="#DDCC77"),
    "reinit-own": Arm(trunk.reinit_own, own_mask=True, control=True, colour="#CC79A7", draws=True),
    "lr-rewinding": Arm(trunk.trained_last, own_mask=True, keep_start=True, colour="#E69F00", goes_on=True),
    "finetune": Arm(
        trunk.trained_last, own_mask=True, keep_start=True, colour="#661100", goes_on=True, training="last-rate"
    ),
    "dense-as-long": Arm(
        trunk.dense_as_long, own_mask=True, keep_start=True, colour="#222255", goes_on=True, dense=True
    ),
    "small-dense": Arm(
        small.small_dense, own_mask=False, colour="#A50026", draws=True, size_alone=True, unfit=obstacle
    ),
    "freeze": Arm(trunk.freeze, own_mask=True, colour="#6699CC", goes_on=True, training="pruned-frozen"),
    "freeze-towards-zero": Arm(
        trunk.freeze_towards_zero,
        own_mask=True,
        keep_start=True,
        colour="#44AA99",
        goes_on=True,
        training="pruned-frozen",
    ),
    "on-random-labels": Arm(trunk.winning, own_mask=True, colour="#9A8C98", goes_on=True, training="random-labels"),
    "mask-random-labels": Arm(masks.of_another_training, own_mask=False, colour="#4A4E69", lender=masks.random_labels),
    "on-half-data": Arm(trunk.winning, own_mask=True, colour="#C9ADA7", goes_on=True, training="half-data"),
    "mask-half-data": Arm(masks.of_another_training, own_mask=False, colour="#7B2D26", lender=masks.half_data),
    "gmp": Arm(masks.dense_at_first, own_mask=False, colour="#A6761D", training="gmp"),
    "set": Arm(masks.sparse_from_the_start, own_mask=False, colour="#66A61E", training="set"),
    "rigl": Arm(masks.sparse_from_the_start, own_mask=False, colour="#7570B3", training="rigl"),
    "untrained": Arm(trunk.untrained, own_mask=False, colour="#B2ABD2", training="untrained"),
    "untrained-signs": Arm(values.untrained_signs, own_mask=False, colour="#696969", training="untrained"),
    "edge-popup": Arm(masks.learned, own_mask=False, colour="#E7298A", training="edge-popup"),
    "supermask": Arm(masks.learned, own_mask=False, colour="#40004B", training="supermask"),
    "mask-gmp": Arm(masks.of_the_same_round, own_mask=False, colour="#FDB863", lender=masks.gradual),
    "reinit-gmp": Arm(trunk.reinit, own_mask=False, colour="#A63603", draws=True, lender=masks.gradual),
    "mask-edge-popup": Arm(masks.of_the_same_round, own_mask=False, colour="#F781BF", lender=masks.popped_up),
}

_FREE = ("#56B4E9", "#F0E442", "#000000", "#8C564B", "#7F7F7F")
"""Colours of arms that have none of their own (Okabe & Ito's, which colour-blind people tell apart, first)."""


def arm_named(name: str, option: str = "--arms") -> Arm:
    """The arm of that name, ours or a guest's; InputError where there is none."""
    found = plugins.named("arms", name, ARMS, option)
    if not isinstance(found, Arm):
        raise plugins.unfit(option, name, found, "a lottery_ticket.method.Arm")
    return found


def colours_of(arms: Iterable[str]) -> dict[str, str]:
    """The colours of these arms in figures: their own, or those that are left over, in order."""
    own = {name: arm_named(name).colour for name in arms}
    free = [colour for colour in _FREE if colour not in own.values()]
    return {name: colour or (free.pop(0) if free else "0.5") for name, colour in own.items()}


def in_order(arms: Iterable[str]) -> tuple[str, ...]:
    """These arms, each once, ours first and in one order."""
    given = dict.fromkeys(arms)
    return (*(name for name in ARMS if name in given), *(name for name in given if name not in ARMS))


def controls_among(arms: Iterable[str]) -> tuple[str, ...]:
    """Those of these arms that winning tickets have to beat, ours first."""
    return tuple(name for name in in_order(arms) if arm_named(name).control)


def across_seeds(arms: Iterable[str], seeds: Sequence[int]) -> tuple[str, ...]:
    """Those of these arms that take masks from another seed than their own: seeds of theirs are not trained apart."""
    return tuple(name for name in arms if any(arm_named(name).finder(name, seed, seeds)[1] != seed for seed in seeds))


def check_changes(settings: Settings, images: int) -> None:
    """InputError where a round of so many images has no iteration at which an arm's masks could change."""
    arms = {name: arm_named(name) for name in settings.arms}
    changing = [name for name, arm in arms.items() if arm.training in CHANGING]
    if not changing:
        return
    end = iterations_per_round(settings, images)
    when = When.told(in_iterations(settings, images), end)
    if when.until > end:
        why = f"is after the end of a round; allowed: at most its {end} iterations"
        raise InputError("--mask-until", settings.mask_until, why)
    if when.first >= when.until:
        why = f"is not before masks stop changing; allowed: fewer than {when.until} iterations"
        raise InputError("--mask-from", settings.mask_from, why)
    regrowing = next((name for name in changing if arms[name].training in REGROWING), None)
    if regrowing and when.first + when.every >= when.until:
        why = f"leaves {regrowing} no change before iteration {when.until}, where masks stop changing"
        allowed = f"allowed: fewer than {when.until - when.first} iterations, or longer rounds"
        raise InputError("--mask-every", settings.mask_every, f"{why}; {allowed}")


def check_network(settings: Settings, network: Network) -> None:
    """InputError where one of the arms cannot be had of this network."""
    for name in settings.arms:
        if (unfit := arm_named(name).unfit) and (why := unfit(network)):
            raise InputError("--arms", name, f"cannot be had: {why}; allowed: other arms, or a network that can")


def check_arms(settings: Settings) -> None:
    """InputError for an unknown arm, one with a name that it must not have, or one that cannot be trained so."""
    trainings = {arm_named(name).training for name in settings.arms}
    for field in OF_CHANGES:
        given, default = getattr(settings, field), Settings.model_fields[field].default
        needed = CHANGING if field != "mask_fraction" else REGROWING
        if given != default and not trainings & set(needed):
            why = f"has no meaning without an arm whose masks change so; allowed: with {', '.join(needed)}"
            raise InputError(flag(field), given, f"{why} among --arms, or none")
    if settings.frozen == "non-positive" and (regrowing := trainings & set(REGROWING)):
        why = f"freezes weights that grow from 0; allowed with {', '.join(sorted(regrowing))}: pruned"
        raise InputError("--frozen", settings.frozen, why)
    _check_learned(settings)
    for name in settings.arms:
        arm = arm_named(name)
        if not re.fullmatch(ARM, name):
            allowed = "allowed: a small letter, then small letters, digits, _ and -, 50 in all, or module:name"
            raise InputError("--arms", name, f"is no name for an arm; {allowed}")
        if arm.goes_on and settings.rewind_iteration and "winning" not in settings.arms:
            raise InputError("--arms", name, "goes on at the iteration that winning keeps; allowed: winning beside it")
        finder, seed = arm.finder(name, settings.seeds[0], settings.seeds)
        if finder not in settings.arms:
            raise InputError("--arms", name, f"takes its masks from {finder}; allowed: {finder} beside it")
        lends = arm_named(finder)
        if not (lends.own_mask or lends.makes_mask):
            raise InputError("--arms", name, f"takes its masks from {finder}, which finds none; allowed: one that does")
        if arm.lender and (finder, seed) == ("winning", settings.seeds[0]):
            why = f"has no second seed, whose mask {name} could take; allowed: two seeds or more"
            raise InputError("--seeds", settings.seeds[0], why)
        if arm.training == "last-rate" and settings.schedule == "cosine":
            why = f"is next to 0 at its end, where {name} goes on; allowed: constant, step"
            raise InputError("--schedule", settings.schedule, why)


def _check_learned(settings: Settings) -> None:
    """InputError where settings leave open, or say what has no meaning, of an arm that learns its mask."""
    arms = {name: arm_named(name) for name in settings.arms}
    learning = next((name for name, arm in arms.items() if arm.training in LEARNING), None)
    if learning is None:
        return
    if settings.scope == "global":
        why = f"leaves it to trained weights how many of each tensor stay, and {learning} has none"
        allowed = "allowed: layer (by --tensor-densities TICKET as many as a ticket found so has), erk, smart-ratio"
        raise InputError("--scope", settings.scope, f"{why}; {allowed}")
    if settings.frozen == "non-positive":
        raise InputError(
            "--frozen", settings.frozen, f"freezes weights, of which {learning} trains none; allowed: pruned"
        )
    pruned = any(arm.own_mask for arm in arms.values())
    for field in () if pruned else OF_PRUNING:
        given, default = getattr(settings, field), Settings.model_fields[field].default
        if given != default:
            why = f"has no meaning without an arm whose weights are pruned; allowed: winning beside {learning}"
            raise InputError(flag(field), given, f"{why}, or {default}")

"""The package's own things by name: a name that nobody knows is refused before what it would name is imported."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lottery_ticket import plugins
from lottery_ticket.data import npz
from lottery_ticket.data.sources import KNOWN
from lottery_ticket.errors import unknown
from lottery_ticket.plugins import Kind

OURS: Mapping[Kind, tuple[str, ...]] = {
    "models": (
        *("fc1", "lenet5", "lenet5-lecun", "conv2", "conv4", "conv6", "conv8"),
        *("conv2-dropout", "conv4-dropout", "conv6-dropout", "conv8-dropout"),
        *("resnet20", "resnet32", "resnet56", "resnet110", "resnet18", "vgg11", "vgg16", "vgg19", "wrn22-2"),
    ),
    "arms": (
        *("winning", "reinit", "random-mask", "degree-preserving", "mask-inverted", "other-seed"),
        *("sign-only", "signs-random", "shuffle", "shuffle-all", "reinit-own", "lr-rewinding", "finetune"),
        *("dense-as-long", "small-dense"),
        *("freeze", "freeze-towards-zero", "on-random-labels", "mask-random-labels", "on-half-data", "mask-half-data"),
        *("gmp", "set", "rigl", "untrained", "untrained-signs", "edge-popup", "supermask"),
        *("mask-gmp", "reinit-gmp", "mask-edge-popup"),
    ),
    "criteria": (
        *("magnitude", "magnitude-init", "magnitude-increase", "movement"),
        *("large-init-large-final", "small-init-small-final", "magnitude-same-sign", "magnitude-diff-sign"),
        *("magnitude-increase-same-sign", "magnitude-increase-diff-sign", "random"),
        *("gradient", "snip", "grasp", "synflow", "taylor", "fisher"),
    ),
    "datasets": tuple(KNOWN),
    "augmentations": ("flip", "crop"),
    "analyses": ("overlap",),
    "executors": ("auto", "here", "workers"),
    "listeners": (),
    "samplers": ("grid", "qmc", "tpe", "gp", "boundary"),
}
"""Kind → the names in the table of its things, which imports torch, Optuna or matplotlib."""

_FORMS: Mapping[Kind, tuple[str, ...]] = {
    "models": ("mlp:300-100", "torchvision:NAME", "timm:NAME"),
    "datasets": ("folder:PATH", "hf:PATH", "the path of an .npz file"),
}
"""What names may be besides; whether such a one is right takes more than a table to say."""

_SETTINGS: Mapping[str, Kind] = {
    "arms": "arms",
    "criterion": "criteria",
    "executor": "executors",
    "dataset": "datasets",
    "model": "models",
    "augment": "augmentations",
}


def check_settings(values: Mapping[str, Any]) -> None:
    """InputError where one of these settings, given as values or as text, names what nobody knows."""
    for name, kind in _SETTINGS.items():
        value = values.get(name)
        names = value.split(",") if isinstance(value, str) and name in ("arms", "augment") else value
        for each in [names] if isinstance(names, str) else names or ():
            check_name(kind, each.strip(), f"--{name}")


def check_name(kind: Kind, name: str, option: str) -> None:
    """InputError unless it is ours, an installed package's, one with a colon, or the .npz of a data set."""
    if kind == "datasets" and name.endswith(".npz"):
        npz.outline(Path(name), option)
    elif ":" not in name and name not in OURS[kind] and name not in (guests := plugins.installed(kind)):
        raise unknown(option, name, [*OURS[kind], *guests, *_FORMS.get(kind, ()), "module:name"])

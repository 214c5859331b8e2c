"""Which weights of a network are pruned, which stay dense and why, and which are its output layer."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt
from torch import nn
from torch.nn.modules.conv import _ConvNd

from lottery_ticket.config import Settings, as_text
from lottery_ticket.errors import InputError
from lottery_ticket.models.products import Products

Kind = Literal["fc", "conv"]


class Dense(BaseModel):
    """Weights that are never pruned: how many values the tensor has, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: NonNegativeInt
    why: str


class Inventory(BaseModel):
    """What of a network may be pruned and what stays dense, in numbers.

    Attributes:
        prunable: tensor → its number of weights; densities are fractions of their sum.
        dense: the other parameters with two axes or more.
        parameters: of the whole network, biases and normalisation among them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prunable: dict[str, NonNegativeInt]
    dense: dict[str, Dense]
    parameters: NonNegativeInt

    @property
    def weights(self) -> int:
        """The number of prunable weights: the denominator of every density."""
        return sum(self.prunable.values())

    def as_tags(self) -> dict[str, str]:
        """The numbers as tags of a run."""
        dense = sum(each.count for each in self.dense.values())
        counts = {"prunable_weights": self.weights, "dense_weights": dense, "parameters": self.parameters}
        return {f"lt.{name}": str(count) for name, count in counts.items()}

    def in_words(self) -> list[str]:
        """A line on what is prunable and, where weights stay dense, one on them."""
        lines = [f"prunable: {', '.join(self.prunable)}: {self.weights:,} of {self.parameters:,} parameters"]
        if self.dense:
            named = ", ".join(f"{name} {each.count:,} ({each.why})" for name, each in self.dense.items())
            count = sum(each.count for each in self.dense.values())
            lines.append(f"dense: {named}: {count:,} weights that no density counts")
        return lines


@dataclass(frozen=True)
class Choice:
    """What is pruned of a network.

    Attributes:
        kinds: prunable tensor → "fc" or "conv", in the module's order.
        output: the weights of the output layer, prunable or not.
        inventory: the same in numbers, with what stays dense.
    """

    kinds: dict[str, Kind]
    output: tuple[str, ...]
    inventory: Inventory


def of_layers(module: nn.Module) -> Products:
    """The weights of linear and convolutional layers, the last registered as output: all that lt 0.3 pruned."""
    own = dict(module.named_parameters())
    layers = {f"{path}.weight" if path else "weight": layer for path, layer in module.named_modules()}
    kinds: dict[str, Kind] = {
        name: "conv" if isinstance(layer, _ConvNd) else "fc"
        for name, layer in layers.items()
        if isinstance(layer, nn.Linear | _ConvNd) and name in own
    }
    return Products(kinds, frozenset([*kinds][-1:]), frozenset(own))


def choose(module: nn.Module, found: Products, settings: Settings) -> Choice:
    """What the settings leave prunable of what was found. InputError where they name what is not there."""
    parameters = dict(module.named_parameters())
    dense = {name: why for name in parameters if (why := _obstacle(module, name, found))}
    candidates = [name for name in found.kinds if name not in dense]
    for pattern in settings.keep_dense or ():
        _must_match("--keep-dense", pattern, parameters)
    for pattern in settings.prune_only or ():
        _must_match("--prune-only", pattern, parameters)
        if not _matches(pattern, candidates):
            barred = next(name for name in parameters if _matches(pattern, [name]))
            why = f"cannot be pruned: {barred} is {dense[barred]}; allowed: {', '.join(candidates)}"
            raise InputError("--prune-only", pattern, why)
    output = _output_layer(settings.output_layer, found)
    for name in candidates:
        if any(_matches(pattern, [name]) for pattern in settings.keep_dense or ()):
            dense[name] = "kept by --keep-dense"
        elif settings.prune_only and not any(_matches(pattern, [name]) for pattern in settings.prune_only):
            dense[name] = "not among --prune-only"
    kinds: dict[str, Kind] = {name: kind for name, kind in found.kinds.items() if name not in dense}
    weights = {
        name: Dense(count=value.numel(), why=dense[name])
        for name, value in parameters.items()
        if name in dense and value.ndim > 1
    }
    if not kinds:
        why = ", ".join(f"{name} is {each.why}" for name, each in weights.items()) or "it has no weights"
        if candidates:
            raise InputError("--keep-dense", as_text(settings.keep_dense), f"leaves nothing to prune: {why}")
        raise InputError(
            "--model",
            settings.model,
            f"has no prunable weights ({why}); allowed: a module that "
            "multiplies its input with weights of its own that are trained",
        )
    if settings.prune_rate_output is not None and not kinds.keys() & set(output):
        why = f"has no meaning: the output layer ({', '.join(output)}) stays dense; allowed: none"
        raise InputError("--prune-rate-output", settings.prune_rate_output, why)
    counts = {name: parameters[name].numel() for name in kinds}
    total = sum(value.numel() for value in parameters.values())
    return Choice(kinds, output, Inventory(prunable=counts, dense=weights, parameters=total))


def layer_of(tensor: str) -> str:
    """The path of the layer that a tensor belongs to; empty for one of the network itself."""
    path = tensor.partition(".parametrizations.")[0]
    return path if path != tensor else tensor.rpartition(".")[0]


def _obstacle(module: nn.Module, name: str, found: Products) -> str | None:
    """Why a parameter cannot be pruned, whatever the settings say; None where it can."""
    value = module.get_parameter(name)
    names = [other for other, each in module.named_parameters(remove_duplicate=False) if each is value]
    if len(names) > 1:
        return f"shared by {' and '.join(names)}"
    if not value.requires_grad:
        return "frozen"
    if name in found.kinds:
        return None
    return "in no matrix product as it is" if name in found.used else "not used"


def _matches(pattern: str, names: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names)


def _must_match(option: str, pattern: str, names: Iterable[str]) -> None:
    if not _matches(pattern, names):
        raise _absent(option, pattern, names)


def _absent(option: str, asked: str, names: Iterable[str]) -> InputError:
    """An error for what names nothing in the network, with the names that are nearest to it."""
    near = get_close_matches(asked.replace("*", ""), list(names), n=3, cutoff=0)
    return InputError(option, asked, f"names nothing in the network; nearest to it: {', '.join(near)}")


def _output_layer(asked: str | None, found: Products) -> tuple[str, ...]:
    """The weights of the output layer, as the graph or the user says."""
    if asked is None:
        return tuple(name for name in found.kinds if name in found.output)
    chosen = tuple(name for name in found.kinds if f"{name}.".startswith(f"{asked}."))
    if not chosen:
        raise _absent("--output-layer", asked, dict.fromkeys(layer_of(name) or name for name in found.kinds))
    return chosen

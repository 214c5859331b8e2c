"""A network: how it is built, how its weights are drawn, which tensors are prunable."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from lottery_ticket import plugins
from lottery_ticket.config import Settings
from lottery_ticket.errors import InputError, one_line
from lottery_ticket.masks import Weights
from lottery_ticket.models import building
from lottery_ticket.models.conv import CONVS
from lottery_ticket.models.cost import MultiplyAdds, Uncounted, multiply_adds
from lottery_ticket.models.fingerprint import Fingerprint, fingerprint
from lottery_ticket.models.lenet import fc1, lenet5, lenet5_lecun
from lottery_ticket.models.libraries import LIBRARIES, is_of_library, library_factory, library_of
from lottery_ticket.models.mlp import PREFIX, mlp_named
from lottery_ticket.models.products import products
from lottery_ticket.models.prunable import Inventory, Kind, choose, of_layers
from lottery_ticket.models.resnet import RESNETS
from lottery_ticket.models.tensors import tensors_of
from lottery_ticket.models.vgg import VGGS
from lottery_ticket.models.wide_resnet import WIDE_RESNETS
from lottery_ticket.names import is_name
from lottery_ticket.randomness import derive, forked

MODELS: dict[str, Callable[..., nn.Module]] = {
    "fc1": fc1,
    "lenet5": lenet5,
    "lenet5-lecun": lenet5_lecun,
    **CONVS,
    **RESNETS,
    **VGGS,
    **WIDE_RESNETS,
}
"""The package's own networks; `mlp:300-100` and the like beside them."""


@dataclass(frozen=True)
class Network:
    """An architecture: how to build it, how to draw its weights, which tensors are prunable.

    Attributes:
        module: one instance, whose own values are never used.
        factory: with its arguments.
        ready: makes what the factory returns a module to train.
        kinds: prunable tensor → "fc" or "conv", in the module's order.
        output: the weights of the output layer, prunable or not.
        inventory: what is prunable and what stays dense, in numbers.
        code: functions or classes of its user's that train and evaluate it, where this package does not.
        library: that builds it, with its version, where one does.
        input_shape: of one image as it takes it; None of a user's own loop, of whose inputs nothing is known.
    """

    module: nn.Module
    factory: partial[Any] = field(repr=False)
    ready: Callable[[Any], Any] = field(repr=False)
    kinds: Mapping[str, Kind]
    output: tuple[str, ...]
    inventory: Inventory
    init: str
    bias_init: str
    code: tuple[Any, ...] = ()
    library: str = ""
    bn_init: str = "module"
    input_shape: tuple[int, ...] | None = None

    def build(self) -> nn.Module:
        """Another instance, its values drawn from the global generators."""
        return self.ready(self.factory())

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What the network is, but for its values."""
        with forked(0):
            return fingerprint(self.build(), self.factory.func, *self.code, library=self.library)

    @cached_property
    def multiply_adds(self) -> MultiplyAdds | Uncounted:
        """The multiply-adds of one image, or why they cannot be told."""
        if self.input_shape is None:
            return Uncounted("what a loop of your own trains on is not known")
        with forked(0):
            module = self.build()
        try:
            return multiply_adds(module, self.input_shape)
        except Uncounted as why:
            return why

    @property
    def trainable(self) -> list[str]:
        """The names of the parameters that are trained; the others and the buffers are not."""
        return [name for name, value in self.module.named_parameters() if value.requires_grad]

    def draw(self, seed: int, purpose: str, *at: int) -> Weights:
        """New initial weights, the same for the same (seed, purpose, at): Glorot & Bengio 2010, He et al. 2015."""
        return {name: value.cpu().clone() for name, value in tensors_of(self.drawn(seed, purpose, *at)).items()}

    def drawn(self, seed: int, purpose: str, *at: int) -> nn.Module:
        """Another instance, which has the weights that `draw` gives."""
        own = derive(seed, purpose, *at)
        with forked(own):
            module = self.build()
            if torch.initial_seed() != own:  # the factory has seeded torch's generator, with one number for every seed
                torch.manual_seed(own)
            for layer in module.modules():
                if isinstance(layer, nn.Linear | _ConvNd) and self.init != "module":
                    _INIT[self.init](layer.weight)
                    if layer.bias is not None:
                        (nn.init.zeros_ if self.bias_init == "zero" else nn.init.normal_)(layer.bias)
                if isinstance(layer, _BatchNorm) and layer.affine and self.bn_init != "module":
                    (nn.init.ones_ if self.bn_init == "one" else nn.init.uniform_)(layer.weight)
        return module

    def dense_mask(self) -> dict[str, Tensor]:
        """The mask of round 0: everything survives. Prunable tensor → bool tensor of its shape."""
        state = tensors_of(self.module)
        return {name: torch.ones(state[name].shape, dtype=torch.bool) for name in self.kinds}

    def rates(self, settings: Settings) -> dict[str, float]:
        """The fraction of its survivors that each prunable tensor loses a round."""
        of_kind = {"fc": settings.prune_rate, "conv": settings.prune_rate_conv or settings.prune_rate}
        of_output = dict.fromkeys(self.output, settings.prune_rate_output)
        return {name: of_output.get(name) or of_kind[kind] for name, kind in self.kinds.items()}


@torch.no_grad()
def _signed_constant(weight: Tensor) -> Tensor:
    """± the standard deviation of `kaiming-normal`. Ramanujan et al. 2020 (arXiv 1911.13299), section 4."""
    fan_in = weight[0].numel()
    nn.init.kaiming_normal_(weight, nonlinearity="relu")
    return weight.copy_(torch.where(weight < 0, -1.0, 1.0) * math.sqrt(2 / fan_in))


_INIT: dict[str, Callable[[Tensor], Tensor]] = {
    "xavier-normal": nn.init.xavier_normal_,
    "xavier-uniform": nn.init.xavier_uniform_,
    "kaiming-normal": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "kaiming-uniform": lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu"),
    "signed-constant": _signed_constant,
}


def factory_named(name: str) -> Callable[..., Any]:
    """What builds the network of that name; InputError where there is none."""
    if is_of_library(name):
        return library_factory(name)
    if name.startswith(PREFIX) and not plugins.is_code(name):
        return mlp_named(name)
    more = (f"{PREFIX}300-100", *(f"{library}:NAME" for library in LIBRARIES))
    return plugins.named("models", name, MODELS, "--model", more)


def outline(settings: Settings, input_shape: tuple[int, ...], classes: int) -> nn.Module | None:
    """The network without room for its values, where it is the package's own or a library's and can be had so."""
    name = settings.model
    if not (name in MODELS or is_of_library(name) or (name.startswith(PREFIX) and not plugins.is_code(name))):
        return None
    try:
        with forked(), torch.device("meta"):
            return building.call(factory_named(name), input_shape, classes, settings.width)[1]
    except InputError:
        raise
    except Exception:  # what it says of such images is told by `make_network`
        return None


def make_network(settings: Settings, input_shape: tuple[int, ...], classes: int) -> Network:
    """The network that the settings name, checked against the data's shape.

    A factory `package.module:factory` is called with those of the arguments `input_shape`, `classes` and `num_classes`
    that it names (`num_classes` also where it takes any, as torchvision's do). Raises InputError when it is missing,
    raises, returns no module, does not take the data, gives anything but a score for each class, or has no weights
    that the settings leave prunable (see `lottery_ticket.models.prunable`).
    """
    name = settings.model

    def refuse(why: str) -> InputError:
        return InputError("--model", name, why)

    as_before = settings.prunable == "layers"
    ready = building.as_it_is if as_before else partial(building.ready, input_shape=input_shape)
    factory = factory_named(name)
    if not callable(factory):
        raise refuse("cannot be called; allowed: a function or class that makes a module")
    if settings.width is not None and not building.takes_width(factory):
        raise InputError("--width", settings.width, f"has no meaning for {name}; allowed: none")
    try:
        with forked():
            called, made = building.call(factory, input_shape, classes, settings.width)
            module = ready(made)
    except (Exception, SystemExit) as error:
        raise refuse(f"could not be built for data of shape {tuple(input_shape)}: {one_line(error)}") from error
    check_module(module, refuse)
    try:
        found, scores = products(module, input_shape)
    except Exception as error:
        raise refuse(f"does not take data of shape {tuple(input_shape)}: {one_line(error)}") from error
    if not isinstance(scores, Tensor):
        why = f"returns {building.in_words(scores)} in training; allowed: one tensor, N×{classes} scores"
        raise refuse(f"{why}, as of a factory of your own that picks them or has aux_logits=False, say")
    if scores.shape != (2, classes):
        why = f"gives {tuple(scores.shape)} for 2 images; allowed: one score for each of {classes} classes"
        raise refuse(f"{why}, which a factory is told that takes `num_classes` or `classes`")
    check_normalisation(module, settings)
    choice = choose(module, of_layers(module) if as_before else found, settings)
    return Network(
        module,
        called,
        ready,
        choice.kinds,
        choice.output,
        choice.inventory,
        settings.init,
        settings.bias_init,
        library=library_of(name),
        bn_init=settings.bn_init,
        input_shape=input_shape,
    )


def check_normalisation(module: nn.Module, settings: Settings) -> None:
    """InputError where the settings say how batch normalisation is drawn and a network has none with scales."""
    if settings.bn_init != "module" and not any(
        isinstance(layer, _BatchNorm) and layer.affine for layer in module.modules()
    ):
        why = f"has no meaning for {settings.model}, which has no batch normalisation; allowed: module"
        raise InputError("--bn-init", settings.bn_init, why)


def check_module(module: Any, refuse: Callable[[str], InputError]) -> None:
    """Raise what `refuse` makes of the reason where a factory returned what no run can keep or train."""
    if not isinstance(module, nn.Module):
        raise refuse(f"returned a {type(module).__name__}; allowed: a torch.nn.Module")
    if extra := next((each for each in module.state_dict() if each.rpartition(".")[2] == "_extra_state"), None):
        raise refuse(f"keeps {extra} by get_extra_state, which no ticket does; allowed: parameters and buffers")
    if odd := next((each for each in module.state_dict() if not is_name(each)), None):
        raise refuse(
            f"has a tensor named {odd[:60]!a}; allowed: names that can be printed, of at most 4,096 characters"
        )
    kept = {name for name, _ in module.named_buffers()} & module.state_dict().keys()
    if odd := next((name for name in kept if not module.get_buffer(name).isfinite().all()), None):
        why = f"has a buffer {odd} that is not finite, as what diverged has"
        raise refuse(f"{why}; allowed: finite ones, or register_buffer(…, persistent=False)")
    if (path := building.scripted(module)) is not None:
        where = f"its {path}" if path else "it"
        raise refuse(f"cannot be trained: {where} is made by torch.jit; allowed: the module from which that was made")

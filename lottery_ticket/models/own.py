"""The network of a user's own factory whose inputs are not known, or known by an example alone."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.utils._pytree import tree_map

from lottery_ticket.config import Settings
from lottery_ticket.errors import InputError, one_line
from lottery_ticket.models import building
from lottery_ticket.models.network import Network, check_module, check_normalisation
from lottery_ticket.models.products import products_with
from lottery_ticket.models.prunable import choose, of_layers
from lottery_ticket.randomness import forked


def code_of(function: Any) -> Any:
    """What holds the code of something that can be called: a function or class."""
    while isinstance(function, partial):
        function = function.func
    function = getattr(function, "__func__", function)
    return function if hasattr(function, "__qualname__") else type(function)


def label(function: Any) -> str:
    """What a function is called in settings and names: its module and name, e.g. `translate.make_model`."""
    named = code_of(function)
    return re.sub(r"[^\w.]+", "", f"{named.__module__}.{named.__qualname__}".replace("<locals>.", ""))


def own_network(
    factory: Callable[[], nn.Module], settings: Settings, example: Any, *code: Callable[..., Any]
) -> Network:
    """The network of a factory that takes no arguments.

    Args:
        factory: makes a new module each time.
        settings: what of it is pruned, and how it is drawn.
        example: what the module is called with: a dict of named arguments, a tuple of arguments, or one argument; then
            all that a pass multiplies with is prunable. None: the weights of linear and convolutional layers are.
        code: the functions that train and evaluate it.

    Raises:
        InputError: it cannot be built, is no module or not a new one each time, does not take the example, or has
            nothing to prune.
    """

    def refuse(why: str) -> InputError:
        return InputError("model_factory", label(factory), why)

    def ready(made: Any) -> Any:
        return building.unlazy(building.uncompiled(made), lambda module: _called(module, example))

    if not callable(factory):
        raise InputError("model_factory", factory, "cannot be called; allowed: a function or class that makes a module")
    try:
        with forked():
            made, other = factory(), factory()
    except Exception as error:
        raise refuse(f"could not be called without arguments: {one_line(error)}") from error
    if isinstance(made, nn.Module) and _share(made, other):
        why = "returns the same module, or the same parameters, each time; allowed: a new module"
        raise refuse(f"{why}, as lambda: copy.deepcopy(module) makes one")
    if example is None and isinstance(made, nn.Module):
        lazy = next((path for path, part in made.named_modules() if isinstance(part, LazyModuleMixin)), None)
        if lazy is not None:
            raise refuse(f"is lazy in {lazy or 'itself'}; allowed: example=, what the module is called with")
    try:
        with forked():
            module = ready(made)
        check_module(module, refuse)
        found = of_layers(module)
        if settings.prunable == "products":
            args, kwargs = _arguments(example)
            found, _ = products_with(module, *args, **kwargs)
    except InputError:
        raise
    except Exception as error:
        raise refuse(f"does not take the example: {one_line(error)}") from error
    check_normalisation(module, settings)
    choice = choose(module, found, settings)
    return Network(
        module,
        partial(factory),
        ready,
        choice.kinds,
        choice.output,
        choice.inventory,
        settings.init,
        settings.bias_init,
        tuple(map(code_of, code)),
        bn_init=settings.bn_init,
    )


def _share(one: nn.Module, other: Any) -> bool:
    """Whether two modules are one, or have a parameter in common."""
    mine = {id(value) for value in one.parameters()}
    return one is other or (isinstance(other, nn.Module) and any(id(value) in mine for value in other.parameters()))


def _called(module: nn.Module, example: Any) -> Any:
    args, kwargs = _arguments(example)
    return module(*args, **kwargs)


def _arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The example as arguments; its tensors are copies, which the module may write into."""
    copied = tree_map(lambda value: value.detach().clone() if isinstance(value, Tensor) else value, example)
    if isinstance(copied, Mapping):
        return (), dict(copied)
    return (copied if isinstance(copied, tuple) else (copied,)), {}

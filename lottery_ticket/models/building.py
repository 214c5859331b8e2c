"""A user's factory called with what it takes, and the module that it returns made ready to be trained as it is."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin


def call(
    factory: Callable[..., Any], input_shape: tuple[int, ...], classes: int, width: float | None = None
) -> tuple[partial[Any], Any]:
    """A factory with those of the arguments input_shape, classes and num_classes that it names, and what it returns.

    One that takes any others (`**kwargs`, as torchvision's builders do) is given `num_classes`, unless it refuses that.
    `width`, where it is set, is given to one that names it (see `takes_width`), whole numbers as such.
    """
    named = inspect.signature(factory).parameters
    offered: dict[str, Any] = {"input_shape": tuple(input_shape), "classes": classes, "num_classes": classes}
    if width is not None:
        offered["width"] = int(width) if width == int(width) else width
    bound = partial(factory, **{name: value for name, value in offered.items() if name in named})
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in named.values())
    if takes_any and not {"classes", "num_classes"} & named.keys():
        try:
            return (told := partial(bound, num_classes=classes)), told()
        except TypeError:
            pass
    return bound, bound()


def takes_width(factory: Callable[..., Any]) -> bool:
    """Whether a factory names the argument `width`."""
    return "width" in inspect.signature(factory).parameters


def as_it_is(made: Any) -> Any:
    """What a factory returned, as it is."""
    return made


def ready(made: Any, input_shape: tuple[int, ...]) -> Any:
    """A module without torch.compile around it or its parts, its lazy layers made for such images."""
    return unlazy(uncompiled(made), lambda module: module(torch.zeros(2, *input_shape)))


def uncompiled(made: Any) -> Any:
    """A module without torch.compile around it or its parts."""
    made = getattr(made, "_orig_mod", made)
    if not isinstance(made, nn.Module):
        return made
    for part in list(made.modules()):
        part._compiled_call_impl = None
        for name, child in part.named_children():
            if hasattr(child, "_orig_mod"):
                setattr(part, name, child._orig_mod)
    return made


def unlazy(made: Any, call: Callable[[nn.Module], Any]) -> Any:
    """A module whose lazy layers are made, by calling it."""
    if isinstance(made, nn.Module) and any(isinstance(part, LazyModuleMixin) for part in made.modules()):
        with torch.no_grad():
            call(made.eval())
        made.train()
    return made


def scripted(module: nn.Module) -> str | None:
    """The path of a part made by torch.jit, whose code cannot be read; None where there is none."""
    return next((path for path, part in module.named_modules() if isinstance(part, torch.jit.ScriptModule)), None)


def in_words(result: object) -> str:
    """What a module returned, as far as it is told apart from one tensor of scores."""
    shown = type(result).__name__
    if isinstance(result, Mapping):
        return f"a {shown} of {', '.join(map(str, result))}"
    if isinstance(result, tuple | list):
        names = getattr(result, "_fields", None)
        return f"a {shown} of {', '.join(names) if names else f'{len(result)} values'}"
    return f"a {shown}"

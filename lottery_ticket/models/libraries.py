"""Networks of torchvision and timm by name: `torchvision:resnet18`, `timm:vit_tiny_patch16_224`.

Both are fixed registries of what is installed, so that a file may name them as it names the package's own. They are
built without trained weights, for the number of classes, the channels and the size of the images at hand.
"""

import importlib
import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import nn

from lottery_ticket.errors import InputError, one_line
from lottery_ticket.models.sizes import picture

LIBRARIES = ("torchvision", "timm")

_PATTERN = re.compile(rf"({'|'.join(LIBRARIES)}):(.*)", re.DOTALL)


def is_of_library(name: str) -> bool:
    """Whether a model's name is that of a network of these libraries, be there one or not."""
    return _PATTERN.fullmatch(name) is not None


def library_of(name: str) -> str:
    """The library of a network and its version, e.g. `torchvision 0.29.2`; empty of a network that is of none."""
    matched = _PATTERN.fullmatch(name)
    return f"{matched[1]} {version(matched[1])}" if matched else ""


def networks_of(library: str) -> list[str]:
    """The networks of a library that classify pictures, e.g. `torchvision:resnet18`; none where it is not installed."""
    try:
        version(library)
    except PackageNotFoundError:
        return []
    return [f"{library}:{name}" for name in _names(library)]


def library_factory(name: str, option: str = "--model") -> Callable[..., nn.Module]:
    """What builds the network of that name; InputError where the library lacks it or is not installed."""
    matched = _PATTERN.fullmatch(name)
    assert matched
    library, network = matched.groups()
    try:
        names = _names(library)
    except Exception as error:
        extra = "pip install 'lottery-ticket-lab[timm]'" if library == "timm" else f"pip install {library}"
        why = f"is of {library}, which cannot be imported ({one_line(error)}); allowed: with {extra}"
        raise InputError(option, name, why) from None
    if network not in names:
        if not network:
            raise InputError(option, name, f"names no network; allowed: those of lt models '{library}:*'")
        near = get_close_matches(network, names, n=1)
        hint = f"did you mean {library}:{near[0]}? " if near else ""
        raise InputError(option, name, f"is unknown; {hint}allowed: those of lt models '{library}:*'")
    return partial({"torchvision": _torchvision, "timm": _timm}[library], network)


def made_for_channels(name: str, input_shape: tuple[int, ...]) -> str | None:
    """What is done to a network that its library makes for colour alone, in words; None where nothing is."""
    if name.startswith("torchvision:") and input_shape[0] != 3:
        made = f"is made for images of {input_shape[0]} channel(s) instead of 3, its values drawn as PyTorch does"
        return f"{name}: its first convolution {made}"
    return None


def _names(library: str) -> list[str]:
    module: Any = importlib.import_module(f"{library}.models" if library == "torchvision" else library)
    return module.list_models(module=module) if library == "torchvision" else module.list_models()


def _torchvision(name: str, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """A network of torchvision that gives scores alone; the first convolution is another one for other channels."""
    models: Any = importlib.import_module("torchvision.models")
    channels, height, width = picture(input_shape)
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        if height != width:
            raise ValueError("it takes square pictures alone")
        options["image_size"] = height
    elif name.startswith("maxvit"):
        options["input_size"] = (height, width)
    elif name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    module: nn.Module = models.get_model(name, weights=None, num_classes=classes, **options)
    if channels != 3:
        path, first = next((path, layer) for path, layer in module.named_modules() if isinstance(layer, nn.Conv2d))
        other = nn.Conv2d(
            channels,
            first.out_channels,
            first.kernel_size,  # type: ignore[arg-type]
            first.stride,  # type: ignore[arg-type]
            first.padding,  # type: ignore[arg-type]
            first.dilation,  # type: ignore[arg-type]
            first.groups,
            first.bias is not None,
            first.padding_mode,
        )
        parent, _, own = path.rpartition(".")
        setattr(module.get_submodule(parent), own, other)
    return module


def _timm(name: str, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """A network of timm; the size of the images is told to those that ask for it."""
    timm: Any = importlib.import_module("timm")
    channels, height, width = picture(input_shape)
    options = {"pretrained": False, "num_classes": classes, "in_chans": channels}
    try:
        return timm.create_model(name, **options, img_size=(height, width))
    except TypeError:  # it takes pictures of any size
        return timm.create_model(name, **options)

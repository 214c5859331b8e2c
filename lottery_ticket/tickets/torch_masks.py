"""Modules under the masks of `torch.nn.utils.prune`, those too whose weights are read past its hooks.

That package keeps a pruned tensor as `NAME_orig` and `NAME_mask` and makes `NAME` anew whenever its layer is called.
Some networks take weights without a call: attention reads its `out_proj`, torchvision's Swin transformer `qkv` and
`proj`. What they read then is whatever `NAME` was before.
"""

import weakref
from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from lottery_ticket.masks import Mask
from lottery_ticket.randomness import forked


def put_under_masks(module: nn.Module, mask: Mask, past: Mapping[str, str] | None = None) -> nn.Module:
    """The module itself, its tensors under masks.

    Args:
        module: a module; its pruned weights are zero.
        mask: tensor → bool tensor of its shape, True where the weight survives.
        past: the tensors that are read past the hooks, see `read_past`: they are made anew when the module around them
            is called.
    """
    around: dict[str, list[nn.Module]] = {}
    for name, kept in mask.items():
        path, _, parameter = name.rpartition(".")
        layer = module.get_submodule(path)
        _Kept.apply(layer, parameter, mask=kept)
        _let_go(weakref.ref(layer), parameter)
        if past and name in past:
            around.setdefault(past[name], []).append(layer)
    for path, layers in around.items():
        module.get_submodule(path).register_forward_pre_hook(_Anew(layers))
    return module


class _Kept(prune.CustomFromMask):
    """A mask whose tensor holds its graph no longer than until it is used: what has one cannot be copied."""

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        super().__call__(module, inputs)
        made = getattr(module, self._tensor_name)
        if made.requires_grad:
            made.register_hook(partial(_let_go, weakref.ref(module), self._tensor_name))


def _let_go(layer: weakref.ref[nn.Module], parameter: str, gradient: Tensor | None = None) -> None:
    """Leave a tensor that was made under a mask without its graph."""
    there = layer()
    if there is not None:
        setattr(there, parameter, getattr(there, parameter).detach())


class _Anew:
    """A hook of a module that makes the pruned tensors of layers within it anew; a class, so that it can be copied."""

    def __init__(self, layers: list[nn.Module]) -> None:
        self._layers = layers

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        for layer in self._layers:
            for hook in [*layer._forward_pre_hooks.values()]:
                if isinstance(hook, prune.BasePruningMethod):
                    hook(layer, inputs)


def read_past(module: nn.Module, names: Iterable[str], images: Tensor) -> dict[str, str]:
    """The tensors whose layer is not called where they are read, each with the path of the module around it that is.

    Args:
        module: is run on the images in training and evaluation, which changes its buffers.
        names: of its tensors.
        images: as it takes them, two at least.
    """
    always = _called(module.train(), images) & _called(module.eval(), images)
    past = {}
    for name in names:
        layer = around = name.rpartition(".")[0]
        while around not in always and around:
            around = around.rpartition(".")[0]
        if around != layer:
            past[name] = around
    return past


def _called(module: nn.Module, images: Tensor) -> set[str]:
    """The paths of the modules that are called when the module is."""
    called: set[str] = set()
    hooks = [
        layer.register_forward_pre_hook(lambda *_, path=path: called.add(path))
        for path, layer in module.named_modules()
    ]
    with torch.no_grad(), forked():
        module(images)
    for hook in hooks:
        hook.remove()
    return called

"""Chains of layers: read off a module, and made again from what a file says of them."""

import json
import operator
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, fx, nn

from lottery_ticket.errors import LotteryTicketError, one_line
from lottery_ticket.tickets.torch_masks import put_under_masks


class Select(nn.Module):
    """Of values N×C×… the entries of the second axis that `index` lists: N×count×…."""

    index: Tensor

    def __init__(self, count: int):
        super().__init__()
        self.count = count
        self.register_buffer("index", torch.zeros(count, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        """The entries listed."""
        if x.ndim > 2:
            return x.index_select(1, self.index)
        return x.mT.index_select(0, self.index).mT  # onnxruntime picks rows twice as fast as columns


class NotAChain(Exception):
    """Something that makes a network no chain of known layers."""


def read_chain(module: nn.Module) -> list[tuple[str, str, Any]]:
    """The layers of a module in the order in which they are called: name, path in the module ("" of a function), layer.

    Dropout and identities are left out. Raises NotAChain where the module is no chain of layers in `KINDS`.
    """
    layers = dict(module.named_modules())
    chain: dict[str, tuple[str, str, Any]] = {}
    used: set[str] = set()
    last: list[fx.Node] = []
    for node in fx.Tracer().trace(module).nodes:
        if _tells_a_size(node):
            continue
        if [each for each in node.all_input_nodes if not _tells_a_size(each)] != last:
            raise NotAChain(f"{node.name} takes something else than what the layer before it gives")
        last = [node]
        if node.op in ("placeholder", "output"):
            continue
        path = str(node.target) if node.op == "call_module" else ""
        layer = layers[path] if path else _functional(node)
        if type(layer) in (nn.Dropout, nn.Dropout2d, nn.Identity):
            continue
        if type(layer) not in KINDS or _peculiar(layer):
            raise NotAChain(f"{node.name} is {layer}")
        if path in used and layer.state_dict():
            raise NotAChain(f"{path} is used twice")
        used.add(path)
        name = (path or node.name).replace(".", "_")
        while name in chain or hasattr(nn.Sequential, name):
            name += "_"
        chain[name] = name, path, layer
    return list(chain.values())


def load_compact(path: str | Path) -> nn.Module:
    """The module in a file that `lt export` wrote compact as `state-dict` or `torch-prune`, in eval mode.

    It takes standardised images. No code in the file is run: only the layers in `KINDS` are made.
    Raises LotteryTicketError where the file is not what it must be.

    Example:
        >>> ticket = lottery_ticket.Ticket.load(f"{run_id}:1")
        >>> exported = lottery_ticket.export(ticket, "small.safetensors", "state-dict", compact=True)
        >>> module = lottery_ticket.load_compact("small.safetensors")
        >>> module(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 10])
    """
    try:
        with safe_open(os.fspath(path), "pt") as file:
            told = json.loads((file.metadata() or {})["layers"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 – not a dict
        kinds = {kind.__name__: kind for kind in KINDS}
        module = nn.Sequential()
        with torch.device("meta"):  # where a file that declares huge layers takes no memory
            for name, kind, options in told:
                if options.keys() != set(KINDS[kinds[kind]]):
                    raise ValueError(f"{name} has other options than a {kind}")
                module.add_module(name, kinds[kind](**options))
        mask = {name.removesuffix("_mask"): state.pop(name) for name in [*state] if name.endswith(".weight_mask")}
        values = {name.removesuffix("_orig") if name[:-5] in mask else name: value for name, value in state.items()}
        module.load_state_dict(values, assign=True)
        return (put_under_masks(module, mask) if mask else module).eval()
    except Exception as error:  # whatever a damaged file makes the layers say
        raise LotteryTicketError(f"{path} cannot be read as a compact network: {one_line(error)}") from None


def describe_layer(name: str, layer: Any) -> tuple[str, str, dict[str, Any]]:
    """A layer as JSON can hold it: name, kind and options."""
    options = {option: getattr(layer, option) for option in KINDS[type(layer)]}
    return name, type(layer).__name__, options | ({"bias": layer.bias is not None} if "bias" in options else {})


def _tells_a_size(node: fx.Node) -> bool:
    """Whether a node is the size of a value, such as goes into `x.view(x.size(0), -1)`."""
    if node.target is operator.getitem:
        return _tells_a_size(node.all_input_nodes[0])
    return node.target == "size" or (node.target is getattr and str(node.args[1]) == "shape")


def _functional(node: fx.Node) -> nn.Module:
    """The layer that does what a function or method does."""
    if node.target not in _FUNCTIONS:
        raise NotAChain(f"{node.name} is no layer")
    return _FUNCTIONS[node.target](*node.args[1:], **node.kwargs)


def _peculiar(layer: Any) -> bool:
    """Whether a layer of a known kind groups channels, normalises by the batch or flattens other axes than all."""
    if type(layer) is nn.Conv2d:
        return layer.groups > 1
    if type(layer) is nn.Flatten:
        return layer.start_dim != 1 or layer.end_dim != -1
    return getattr(layer, "running_mean", ...) is None


def _view(first: Any, *others: Any) -> nn.Module:
    if len(others) != 1:
        raise NotAChain("a view is no flatten")
    return nn.Flatten()


SIZES: dict[type[nn.Module], tuple[str, str]] = {
    nn.Linear: ("in_features", "out_features"),
    nn.Conv2d: ("in_channels", "out_channels"),
}
"""The layers that mix their inputs: what they call the number of those and of their units."""

KINDS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Linear: (*SIZES[nn.Linear], "bias"),
    nn.Conv2d: (*SIZES[nn.Conv2d], "kernel_size", "stride", "padding", "dilation", "bias", "padding_mode"),
    nn.BatchNorm1d: ("num_features", "eps", "affine"),
    nn.BatchNorm2d: ("num_features", "eps", "affine"),
    nn.MaxPool2d: ("kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    nn.AvgPool2d: ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    nn.AdaptiveAvgPool2d: ("output_size",),
    nn.LeakyReLU: ("negative_slope",),
    nn.ELU: ("alpha",),
    nn.GELU: ("approximate",),
    **dict.fromkeys([nn.Flatten, nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Tanh, nn.Sigmoid], ()),
    Select: ("count",),
}
"""The layers of compact networks, and the arguments that make another one of the same kind."""

_FUNCTIONS: dict[Any, Callable[..., nn.Module]] = {
    **dict.fromkeys([F.relu, torch.relu, "relu"], nn.ReLU),
    **dict.fromkeys([F.tanh, torch.tanh, "tanh"], nn.Tanh),
    **dict.fromkeys([F.sigmoid, torch.sigmoid, "sigmoid"], nn.Sigmoid),
    **{F.leaky_relu: nn.LeakyReLU, F.elu: nn.ELU, F.gelu: nn.GELU, F.silu: nn.SiLU},
    **{F.max_pool2d: nn.MaxPool2d, F.avg_pool2d: nn.AvgPool2d, F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d},
    **dict.fromkeys([torch.flatten, "flatten"], lambda start_dim=0, end_dim=-1: nn.Flatten(start_dim, end_dim)),
    **dict.fromkeys(["view", "reshape"], _view),
    F.dropout: lambda **_: nn.Identity(),
}
"""Function or method → what makes the layer that does the same, from the further arguments."""

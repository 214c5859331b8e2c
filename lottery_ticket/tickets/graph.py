"""Graphs of layers: read off a module, and made again from what a file says of them."""

import copy
import json
import operator
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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


class Add(nn.Module):
    """The sum of values of one shape."""

    def forward(self, *values: Tensor) -> Tensor:
        """It."""
        return sum(values[1:], start=values[0])


class Cat(nn.Module):
    """Values one after another along the second axis."""

    def forward(self, *values: Tensor) -> Tensor:
        """Them."""
        return torch.cat(values, 1)


class Wired(nn.Module):
    """Layers that are called in their order, each with what earlier ones gave; the last one's value is the result.

    Args:
        layers: name → layer.
        wiring: name → the names of the layers whose values it takes; "" is the network's input.
    """

    def __init__(self, layers: Mapping[str, nn.Module], wiring: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.wiring = {name: tuple(wiring[name]) for name in layers}
        self._last_use: dict[str, str] = {}
        known = {""}
        for name, layer in layers.items():
            if not self.wiring[name] or not known.issuperset(self.wiring[name]):
                raise ValueError(f"{name} takes what no layer before it gives")
            known.add(name)
            self._last_use |= dict.fromkeys(self.wiring[name], name)
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of standardised images."""
        values, value = {"": x}, x
        for name, layer in self.named_children():
            value = values[name] = layer(*(values[each] for each in self.wiring[name]))
            for each in dict.fromkeys(self.wiring[name]):
                if self._last_use[each] == name:
                    del values[each]
        return value


class UnknownGraph(Exception):
    """Something that makes a network no graph of known layers."""


class Node(NamedTuple):
    """A layer that is called once.

    Attributes:
        name: in the graph.
        path: in the module; empty of a function.
        layer: it.
        takes: the names of the nodes whose values it is called with; "" is the network's input.
    """

    name: str
    path: str
    layer: Any
    takes: tuple[str, ...]


def read_graph(module: nn.Module) -> list[Node]:
    """The layers of a module in the order in which they are called; they will not work in place.

    Dropout and identities are left out. Raises UnknownGraph where the module is no graph of layers in `KINDS`.
    """
    layers = dict(module.named_modules())
    nodes: dict[str, Node] = {}
    gives: dict[fx.Node, str] = {}
    used: set[str] = set()
    for node in fx.Tracer().trace(module).nodes:
        if _tells_a_size(node):
            continue
        before = [gives[each] for each in node.all_input_nodes if not _tells_a_size(each)]
        if node.op == "placeholder":
            if gives:
                raise UnknownGraph("it takes more than images")
            gives[node] = ""
            continue
        if node.op == "output":
            if before != list(nodes)[-1:]:
                raise UnknownGraph("it gives something else than what its last layer does")
            continue
        path = str(node.target) if node.op == "call_module" else ""
        made = [layers[path]] if path else _functional(node)
        if path in used and made[0].state_dict():
            raise UnknownGraph(f"{path} is used twice")
        made = copy.deepcopy(made) if path in used else made
        used.add(path)
        for layer in made:
            if type(layer) in (nn.Dropout, nn.Dropout2d, nn.Identity):
                continue
            if type(layer) not in KINDS or _peculiar(layer):
                raise UnknownGraph(f"{node.name} is {layer}")
            if len(before) != 1 and not isinstance(layer, Add | Cat):
                raise UnknownGraph(f"{node.name} takes several values")
            if hasattr(layer, "inplace"):
                layer.inplace = False
            name = (path or node.name).replace(".", "_")
            while name in nodes or hasattr(nn.Sequential, name) or hasattr(Wired, name) or name == "wiring":
                name += "_"
            nodes[name] = Node(name, path, layer, tuple(before))
            before = [name]
        gives[node] = before[0]
    return list(nodes.values())


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
        layers: dict[str, nn.Module] = {}
        wiring: dict[str, list[str]] = {}
        with torch.device("meta"):  # where a file that declares huge layers takes no memory
            for name, kind, options, *takes in told:
                if options.keys() | _SINCE != set(KINDS[kinds[kind]]) | _SINCE:
                    raise ValueError(f"{name} has other options than a {kind}")
                layers[name] = kinds[kind](**options)
                wiring |= {name: takes[0]} if takes else {}
        module = wired(layers, wiring)
        mask = {name.removesuffix("_mask"): state.pop(name) for name in [*state] if name.endswith(".weight_mask")}
        values = {name.removesuffix("_orig") if name[:-5] in mask else name: value for name, value in state.items()}
        module.load_state_dict(values, assign=True)
        return (put_under_masks(module, mask) if mask else module).eval()
    except Exception as error:  # whatever a damaged file makes the layers say
        raise LotteryTicketError(f"{path} cannot be read as a compact network: {one_line(error)}") from None


def wired(layers: Mapping[str, nn.Module], wiring: Mapping[str, Sequence[str]]) -> nn.Module:
    """Layers as a module: one after another where nothing says what each takes."""
    return Wired(layers, wiring) if wiring else nn.Sequential(OrderedDict(layers))


def describe_layers(module: nn.Module) -> list[list[Any]]:
    """The layers of a compact network as JSON can hold them: name, kind, options, and what they take if wired."""
    told = []
    for name, layer in module.named_children():
        options = {option: getattr(layer, option) for option in KINDS[type(layer)]}
        options |= {"bias": layer.bias is not None} if "bias" in options else {}
        if options.get("groups") == 1:
            del options["groups"]  # as it was when there were none
        told.append([name, type(layer).__name__, options])
        told[-1] += [list(module.wiring[name])] if isinstance(module, Wired) else []
    return told


def _tells_a_size(node: fx.Node) -> bool:
    """Whether a node is the size of a value, such as goes into `x.view(x.size(0), -1)`."""
    if node.target is operator.getitem:
        return _tells_a_size(node.all_input_nodes[0])
    return node.target == "size" or (node.target is getattr and str(node.args[1]) == "shape")


def _functional(node: fx.Node) -> list[nn.Module]:
    """The layers that do what a function or method does."""
    if node.target in _MEANS:
        keepdim = node.kwargs.get("keepdim", node.args[2] if len(node.args) > 2 else False)
        return _mean(node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None), bool(keepdim))
    if node.target not in _FUNCTIONS:
        raise UnknownGraph(f"{node.name} is no layer")
    if node.target in _SUMS:
        if len(node.all_input_nodes) != len(node.args) or node.kwargs:
            raise UnknownGraph(f"{node.name} adds something else than what layers give")
        return [Add()]
    return [_FUNCTIONS[node.target](*node.args[1:], **node.kwargs)]


def _peculiar(layer: Any) -> bool:
    """Whether a layer of a known kind normalises by the batch or flattens other axes than all."""
    if type(layer) is nn.Flatten:
        return layer.start_dim != 1 or layer.end_dim != -1
    return getattr(layer, "running_mean", ...) is None


def _view(first: Any, *others: Any) -> nn.Module:
    if len(others) != 1:
        raise UnknownGraph("a view is no flatten")
    return nn.Flatten()


def _cat(dim: int = 0) -> nn.Module:
    if dim != 1:
        raise UnknownGraph("it joins values along another axis than that of channels")
    return Cat()


def _mean(dim: Any, keepdim: bool) -> list[nn.Module]:
    if not isinstance(dim, list | tuple) or sorted(dim) not in ([2, 3], [-2, -1]):
        raise UnknownGraph("a mean is over other axes than height and width")
    return [nn.AdaptiveAvgPool2d(1), *([] if keepdim else [nn.Flatten()])]


SIZES: dict[type[nn.Module], tuple[str, str]] = {
    nn.Linear: ("in_features", "out_features"),
    nn.Conv2d: ("in_channels", "out_channels"),
}
"""The layers that mix their inputs: what they call the number of those and of their units."""

KINDS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Linear: (*SIZES[nn.Linear], "bias"),
    nn.Conv2d: (*SIZES[nn.Conv2d], "kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode"),
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
    Add: (),
    Cat: (),
}
"""The layers of compact networks, and the arguments that make another one of the same kind."""

_SINCE = {"groups"}
"""Options that files of earlier versions have not."""

_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
_MEANS = (torch.mean, "mean")

_FUNCTIONS: dict[Any, Callable[..., nn.Module]] = {
    **dict.fromkeys([F.relu, torch.relu, "relu"], nn.ReLU),
    **dict.fromkeys([F.tanh, torch.tanh, "tanh"], nn.Tanh),
    **dict.fromkeys([F.sigmoid, torch.sigmoid, "sigmoid"], nn.Sigmoid),
    **{F.relu6: nn.ReLU6, F.leaky_relu: nn.LeakyReLU, F.elu: nn.ELU, F.gelu: nn.GELU, F.silu: nn.SiLU},
    **{F.max_pool2d: nn.MaxPool2d, F.avg_pool2d: nn.AvgPool2d, F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d},
    **dict.fromkeys([torch.flatten, "flatten"], lambda start_dim=0, end_dim=-1: nn.Flatten(start_dim, end_dim)),
    **dict.fromkeys(["view", "reshape"], _view),
    F.dropout: lambda **_: nn.Identity(),
    **dict.fromkeys(_SUMS, Add),
    **dict.fromkeys([torch.cat, torch.concat, torch.concatenate], _cat),
}
"""Function or method → what makes the layer that does the same, from the further arguments."""

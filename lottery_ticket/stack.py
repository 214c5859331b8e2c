"""A stack: K networks of one architecture as one set of tensors with a leading member axis.

`Stack` reads a module's graph and runs it on the stacked tensors: linear layers become one batched product,
convolutions one grouped convolution, normalisation layers one over the channels of all members side by side. Between
the layers a value has one of two layouts:

- members first, K×B×features (or K×B×C×H×W, as images come in);
- channels side by side, B×(K·C)×H×W, where convolutions, pooling and normalisation want it.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from lottery_ticket.errors import one_line
from lottery_ticket.models import Weights
from lottery_ticket.tensors import call, tensors_of


def stack(members: Sequence[Mapping[str, Tensor]], device: torch.device) -> Weights:
    """K dicts of tensors → one dict whose tensors have a leading axis of K, on the device."""
    return {name: torch.stack([member[name] for member in members]).to(device).contiguous() for name in members[0]}


def unstack(stacked: Mapping[str, Tensor]) -> list[Weights]:
    """The inverse of `stack`: K dicts of tensors of their own, on the CPU."""
    host = {name: value.detach().cpu() for name, value in stacked.items()}
    count = len(next(iter(host.values())))
    return [{name: value[k].clone() for name, value in host.items()} for k in range(count)]


class Stack:
    """An architecture as a function of stacked weights.

    Args:
        module: the network; its own values are not used. Known are linear and convolutional layers, batch and group
            normalisation, element-wise activations, pooling, flatten, dropout, and sums as in residual networks.
        input_shape: of one image.
        precision: `bfloat16` for products in bfloat16 while training; the weights stay float32. `medium` for the same,
            evaluations too, but for linear layers on a CPU, which are left to the processor (see `Settings`).

    Attributes:
        unknown: what keeps the engine from training several such networks at once, in words; None if nothing does.
            Such a network is called with one member, as it is.
        draws: whether training it takes random numbers from generators of its members.
    """

    def __init__(self, module: nn.Module, input_shape: tuple[int, ...], precision: str = "float32") -> None:
        self.unknown: str | None = None
        self._module = module
        self._low, self._medium = precision in ("bfloat16", "medium"), precision == "medium"
        self.draws = any(type(layer) is nn.Dropout for layer in module.modules())
        try:
            self._steps = _translate(module)
            self._check(input_shape)
        except _Unknown as error:
            self.unknown = str(error)
        except Exception as error:  # whatever a user's module does when it is traced, it still trains alone
            self.unknown = one_line(error)

    def __call__(
        self,
        weights: Mapping[str, Tensor],
        x: Tensor,
        *,
        training: bool,
        generators: Sequence[torch.Generator] = (),
    ) -> Tensor:
        """Class scores K×B×classes of K networks for the images x, K×B×….

        Args:
            weights: parameters and buffers with a leading axis of K; buffers are updated in place when `training`.
            x: every member's own images.
            training: whether dropout draws and batch normalisation uses the batch.
            generators: one a member, on the device, if the network `draws` in training.
        """
        low = self._low and (training or self._medium)
        if self.unknown is None:
            low_linear = low and not (self._medium and x.device.type == "cpu")
            return self._run(_Call(weights, len(x), training, low, low_linear, generators), x)
        single = {name: value.squeeze(0) for name, value in weights.items()}
        self._module.train(training)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=low):
            return call(self._module, single, x.squeeze(0)).unsqueeze(0)

    def _run(self, call: "_Call", x: Tensor) -> Tensor:
        values: dict[str, Any] = {}
        for step in self._steps:
            values[step.name] = x if step.run is None else step.run(call, *[_value(a, values) for a in step.arguments])
            for name in step.last_used:
                del values[name]
        return values[self._steps[-1].name]

    def _check(self, input_shape: tuple[int, ...]) -> None:
        """Scores, gradients and buffers of two different members must be those of the module itself, in float64."""
        draw = torch.Generator().manual_seed(0)
        own = tensors_of(self._module)
        members = [{name: _shaken(value, by, draw) for name, value in own.items()} for by in (0, 0.1)]
        trained = [name for name, value in self._module.named_parameters() if value.requires_grad]
        x = torch.randn(2, 4, *input_shape, generator=draw, dtype=torch.float64)
        for training in (False,) if self.draws else (False, True):
            self._module.train(training)
            both = _Call(stack(members, x.device), 2, training, False, False, ())
            together = _outcome(both.weights, trained, partial(self._run, both, x))
            for k, member in enumerate(members):
                single = {name: value.clone() for name, value in member.items()}
                alone = _outcome(single, trained, partial(call, self._module, single, x[k]))
                size = max(value.norm() for value in alone)
                for mine, its in zip(together, alone, strict=True):
                    if mine[k].shape != its.shape or not torch.dist(mine[k], its) <= 1e-6 * size:
                        raise _Unknown("a network whose graph does not say all that it does")


def _shaken(value: Tensor, by: float, draw: torch.Generator) -> Tensor:
    """A parameter or buffer as float64, moved by up to this much."""
    if not value.is_floating_point():
        return value.clone()
    return value.detach().double() + by * torch.rand(value.shape, generator=draw, dtype=torch.float64)


def _outcome(weights: Mapping[str, Tensor], trained: Sequence[str], scores: Callable[[], Tensor]) -> list[Tensor]:
    """The scores, the gradients of the sum of their squares, and the buffers after it."""
    leaves = [weights[name].requires_grad_() for name in trained]
    result = scores()
    gradients = torch.autograd.grad(result.square().sum(), leaves, materialize_grads=True)
    buffers = [value.double() for name, value in weights.items() if name not in trained]
    return [result.detach(), *gradients, *buffers]


class _Unknown(Exception):
    """Something that the engine cannot do for several networks at once."""


@dataclass(frozen=True)
class _Call:
    """What the steps of one pass share; `low`: products in bfloat16, `low_linear`: those of linear layers too."""

    weights: Mapping[str, Tensor]
    members: int
    training: bool
    low: bool
    low_linear: bool
    generators: Sequence[torch.Generator]

    def channels(self, x: Tensor) -> Tensor:
        """Any layout of images → B×(K·C)×H×W."""
        if x.ndim == 5:
            x = x.transpose(0, 1).flatten(1, 2)
        if x.ndim != 4:
            raise _Unknown("a layer for images after a layer for vectors")
        return x

    def first(self, x: Tensor) -> Tensor:
        """Any layout → members first."""
        return x.unflatten(1, (self.members, -1)).transpose(0, 1) if x.ndim == 4 else x

    def side_by_side(self, name: str) -> Tensor | None:
        """A stacked parameter or buffer K×C×… as one of K·C channels, sharing its memory."""
        value = self.weights.get(name)
        return None if value is None else value.flatten(0, 1)


Run = Callable[..., Any]


@dataclass
class _Step:
    """One node of the graph: `run(call, *arguments)`, None for the input; arguments are `_Name`s or plain values."""

    name: str
    run: Run | None
    arguments: list[Any] = field(default_factory=list)
    last_used: list[str] = field(default_factory=list)


class _Name(str):
    """An argument that is the value of an earlier step."""


def _value(argument: Any, values: Mapping[str, Any]) -> Any:
    return values[argument] if type(argument) is _Name else argument


def _translate(module: nn.Module) -> list[_Step]:
    """The module's graph as steps over stacked values. Raises for what is not known."""
    if len(dict(module.named_parameters())) != len(dict(module.named_parameters(remove_duplicate=False))):
        raise _Unknown("parameters shared by two layers")
    layers = dict(module.named_modules())
    if any(value._backward_hooks for value in module.parameters()):
        raise _Unknown("a hook on a parameter")
    if not all(layer.training for layer in module.train().modules()):
        raise _Unknown("a layer that stays out of training")
    graphs = [fx.Tracer().trace(module.train(training)) for training in (True, False)]
    if str(graphs[0]) != str(graphs[1]):
        raise _Unknown("a network whose own code asks whether it is in training")
    steps: list[_Step] = []
    for node in graphs[0].nodes:
        if node.op == "output":
            if not isinstance(node.args[0], fx.Node) or node.args[0].name != steps[-1].name:
                raise _Unknown("a network that gives more than its scores")
            break
        run = None if node.op == "placeholder" else _step(node, layers)
        steps.append(_Step(node.name, run, [_Name(a.name) if isinstance(a, fx.Node) else a for a in node.args]))
    if sum(step.run is None for step in steps) != 1:
        raise _Unknown("a network of several inputs")
    seen: set[str] = set()
    for step in reversed(steps):
        used = {str(argument) for argument in step.arguments if type(argument) is _Name}
        step.last_used = sorted(used - seen)
        seen |= used
    return steps


def _step(node: fx.Node, layers: Mapping[str, nn.Module]) -> Run:
    """What runs one node for the members of a stack."""
    target: Any = node.target
    if node.op == "call_module":
        layer = layers[target]
        hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
        if type(layer) in LAYERS and not any(hooks):
            return LAYERS[type(layer)](layer, target)
        raise _Unknown(f"a layer of type {type(layer).__name__}")
    known = {"call_function": FUNCTIONS, "call_method": METHODS}.get(node.op, {})
    if target not in known:
        raise _Unknown(f"the use of {getattr(target, '__name__', target)} outside of a layer")
    return known[target](node.kwargs)


@cache
def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has products of bfloat16; a CPU that has none takes many times longer for them."""
    here = torch.cpu.get_capabilities()
    return device.type != "cpu" or bool(here.get("avx512_bf16") or here.get("amx_bf16"))


def _rounded(value: Tensor) -> Tensor:
    """A factor rounded to bfloat16, in the type that its device multiplies.

    The product is rounded to bfloat16 too, and so are the gradients of both, so that nothing but the order in which
    products are summed depends on the device.
    """
    low = value.to(torch.bfloat16)
    return low if multiplies_bfloat16(value.device) else low.float()


def _linear(layer: Any, path: str) -> Run:
    def run(call: _Call, x: Tensor) -> Tensor:
        if x.ndim != 3:
            raise _Unknown("a linear layer over more than one axis")
        weight, bias = call.weights[f"{path}.weight"], call.weights.get(f"{path}.bias")
        if call.low_linear:
            x, weight, bias = _rounded(x), _rounded(weight), None if bias is None else _rounded(bias)
        # W·xᵀ instead of x·Wᵀ: this way round autograd gives a gradient that lies in memory as the weights do
        x = x.to(weight.dtype).mT
        result = (torch.bmm(weight, x) if bias is None else torch.baddbmm(bias.unsqueeze(2), weight, x)).mT
        return result.to(torch.bfloat16) if call.low_linear else result

    return run


def _conv2d(layer: Any, path: str) -> Run:
    if layer.padding_mode != "zeros":
        raise _Unknown(f"padding of mode {layer.padding_mode}")

    def run(call: _Call, x: Tensor) -> Tensor:
        x, weight, bias = call.channels(x), call.side_by_side(f"{path}.weight"), call.side_by_side(f"{path}.bias")
        assert weight is not None
        if call.low:
            x, weight, bias = _rounded(x), _rounded(weight), None if bias is None else _rounded(bias)
            if call.members == 1:
                x = x.contiguous(memory_format=torch.channels_last)
        result = F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, call.members * layer.groups)
        return result.to(torch.bfloat16) if call.low else result

    return run


def _normalisation(one: Callable[[_Call, Tensor], Tensor]) -> Run:
    """A normalisation of B×(K·C)×… for vectors and images."""

    def run(call: _Call, x: Tensor) -> Tensor:
        if x.ndim == 3:
            return one(call, x.transpose(0, 1).flatten(1)).unflatten(1, (call.members, -1)).transpose(0, 1)
        return one(call, call.channels(x))

    return run


def _batch_norm(layer: Any, path: str) -> Run:
    if layer.momentum is None:
        raise _Unknown("batch normalisation with a cumulative average")

    def one(call: _Call, x: Tensor) -> Tensor:
        mean, var = call.side_by_side(f"{path}.running_mean"), call.side_by_side(f"{path}.running_var")
        if call.training and mean is not None:
            call.weights[f"{path}.num_batches_tracked"].add_(1)
        weight, bias = call.side_by_side(f"{path}.weight"), call.side_by_side(f"{path}.bias")
        return F.batch_norm(x, mean, var, weight, bias, call.training or mean is None, layer.momentum, layer.eps)

    return _normalisation(one)


def _group_norm(layer: Any, path: str) -> Run:
    def one(call: _Call, x: Tensor) -> Tensor:
        weight, bias = call.side_by_side(f"{path}.weight"), call.side_by_side(f"{path}.bias")
        return F.group_norm(x.float() if call.low else x, call.members * layer.num_groups, weight, bias, layer.eps)

    return _normalisation(one)


def _dropout(layer: Any, path: str) -> Run:
    """Draws of the member's own generator, so that they do not depend on who else is in the stack."""
    scale = 1 / (1 - layer.p) if layer.p < 1 else 0.0

    def run(call: _Call, x: Tensor) -> Tensor:
        if not call.training:
            return x
        kept = torch.empty(call.first(x).shape, dtype=x.dtype, device=x.device)
        for own, generator in zip(kept, call.generators, strict=True):
            own.bernoulli_(1 - layer.p, generator=generator)
        return x * (call.channels(kept) if x.ndim == 4 else kept) * scale

    return run


def _plain(layer: Any, path: str) -> Run:
    """An element-wise layer."""
    return lambda call, x: layer(x)


def _pool(layer: Any, path: str) -> Run:
    if getattr(layer, "return_indices", False):
        raise _Unknown("pooling that gives indices")
    return lambda call, x: layer(call.channels(x))


def _flatten(layer: Any, path: str) -> Run:
    return lambda call, x: _flat(call, x, layer.start_dim, layer.end_dim)


def _flat(call: _Call, x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    x = call.first(x)
    if start_dim != 1 or end_dim not in (-1, x.ndim - 2):
        raise _Unknown("a flatten of other axes than all of an image's")
    return x.flatten(2)


def _view(call: _Call, x: Tensor, *sizes: Any) -> Tensor:
    flat = call.first(x).flatten(2)
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = tuple(sizes[0])
    if len(sizes) != 2 or sizes[1] not in (-1, flat.shape[2]):
        raise _Unknown("a view other than a flatten")
    return flat


def _mean(call: _Call, x: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    if keepdim or x.ndim not in (4, 5) or sorted(axis % 4 for axis in dim) != [2, 3]:
        raise _Unknown("a mean over other axes than an image's height and width")
    return call.first(x).mean((3, 4))


def _elementwise(function: Callable[..., Tensor]) -> Callable[[Mapping[str, Any]], Run]:
    """A function of one or more values of one shape, such as a residual sum."""

    def make(options: Mapping[str, Any]) -> Run:
        def run(call: _Call, *values: Any) -> Tensor:
            layouts = {value.ndim for value in values if isinstance(value, Tensor)}
            if layouts == {4, 5}:
                values = tuple(call.channels(value) if isinstance(value, Tensor) else value for value in values)
            elif len(layouts) != 1:
                raise _Unknown(f"{function.__name__} of values of different shapes")
            return function(*values, **options)

        return run

    return make


def _on_channels(function: Callable[..., Tensor]) -> Callable[[Mapping[str, Any]], Run]:
    return lambda options: lambda call, x, *rest: function(call.channels(x), *rest, **options)


def _own(run: Run) -> Callable[[Mapping[str, Any]], Run]:
    return lambda options: lambda call, *values: run(call, *values, **options)


LAYERS: dict[type, Callable[[Any, str], Run]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv2d,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.GroupNorm: _group_norm,
    nn.Dropout: _dropout,
    nn.Flatten: _flatten,
    **dict.fromkeys([nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d], _pool),
    **dict.fromkeys([nn.Identity, nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ELU, nn.Tanh, nn.Sigmoid], _plain),
}
"""Layer type → what makes its step from (the layer, its path in the network)."""

FUNCTIONS: dict[Any, Callable[[Mapping[str, Any]], Run]] = {
    **{
        function: _elementwise(function)
        for function in (operator.add, torch.add, torch.relu, F.relu, F.gelu, torch.tanh, F.silu)
    },
    operator.iadd: _elementwise(operator.add),  # the left side may be the images
    **{function: _on_channels(function) for function in (F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d)},
    torch.flatten: _own(_flat),
    getattr: _own(lambda call, x, name: getattr(call.first(x)[0], name) if name == "shape" else _refuse(name)),
    operator.getitem: _own(lambda call, shape, index: shape[index] if not isinstance(shape, Tensor) else _refuse("[]")),
}

METHODS: dict[str, Callable[[Mapping[str, Any]], Run]] = {
    "relu": _elementwise(torch.relu),
    "tanh": _elementwise(torch.tanh),
    "add": _elementwise(torch.add),
    "flatten": _own(_flat),
    "view": _own(_view),
    "reshape": _own(_view),
    "mean": _own(_mean),
    "size": _own(lambda call, x, *axis: call.first(x)[0].size(*axis)),
}


def _refuse(name: str) -> Any:
    raise _Unknown(f"the use of {name} outside of a layer")

"""A stack: K networks of one architecture as one set of tensors with a leading member axis.

`Stack` reads a module's graph and runs it on the stacked tensors: linear layers become one batched product,
convolutions one grouped convolution, normalisation layers one over the channels of all members side by side. Between
the layers a value has one of two layouts:

- members first, K×B×features (or K×B×C×H×W, as images come in);
- channels side by side, B×(K·C)×H×W, where convolutions, pooling and normalisation want it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from lottery_ticket.engine.chains import chains, has_hooks
from lottery_ticket.engine.layers import FUNCTIONS, LAYERS, METHODS, BatchNorm, Call, NotStackable, Run
from lottery_ticket.errors import one_line
from lottery_ticket.masks import Weights
from lottery_ticket.models.tensors import call, tensors_of

SMALL = 3
"""The largest kernel that is trained faster with channels last on a CPU (bench/README.md).

With batch normalisation all are; evaluated faster are all networks.
"""


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
        layers = list(module.modules())
        kernels = [max(layer.kernel_size) for layer in layers if isinstance(layer, nn.Conv2d)]
        self._small_kernels = max(kernels, default=0) <= SMALL
        self._normalises = any(type(layer) is nn.BatchNorm2d for layer in layers)
        try:
            self._steps = _translate(module)
            self._check(input_shape)
        except NotStackable as error:
            self.unknown = str(error)
        except Exception as error:  # whatever a user's module does when it is traced, it still trains alone
            self.unknown = one_line(error)

    def __call__(
        self,
        weights: Mapping[str, Any],
        x: Tensor,
        *,
        training: bool,
        generators: Sequence[torch.Generator] = (),
    ) -> Tensor:
        """Class scores K×B×classes of K networks for the images x, K×B×….

        Args:
            weights: parameters and buffers with a leading axis of K, tensors or a layer's `SparseWeight`; buffers are
                updated in place when `training`.
            x: every member's own images.
            training: whether dropout draws and batch normalisation uses the batch.
            generators: one a member, on the device, if the network `draws` in training.
        """
        low = self._low and (training or self._medium)
        if self.unknown is None:
            low_linear = low and not (self._medium and x.device.type == "cpu")
            trained_faster = self._small_kernels or self._normalises
            faster = low or (x.device.type == "cpu" and (trained_faster or not training))
            channels_last = faster and len(x) == 1
            return self._run(Call(weights, len(x), training, low, low_linear, generators, channels_last), x)
        single = {name: value.squeeze(0) for name, value in weights.items()}
        self._module.train(training)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=low):
            return call(self._module, single, x.squeeze(0)).unsqueeze(0)

    def _run(self, call: "Call", x: Tensor) -> Tensor:
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
            both = Call(stack(members, x.device), 2, training, False, False, ())
            together = _outcome(both.weights, trained, partial(self._run, both, x))
            for k, member in enumerate(members):
                single = {name: value.clone() for name, value in member.items()}
                alone = _outcome(single, trained, partial(call, self._module, single, x[k]))
                size = max(value.norm() for value in alone)
                for mine, its in zip(together, alone, strict=True):
                    if mine[k].shape != its.shape or not torch.dist(mine[k], its) <= 1e-6 * size:
                        raise NotStackable("a network whose graph does not say all that it does")


@lru_cache(maxsize=4)
def architecture_of(module: nn.Module, input_shape: tuple[int, ...], precision: str) -> Stack:
    """The `Stack` of a network's own module, which nothing changes: its check takes seconds for a large one."""
    return Stack(module, input_shape, precision)


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
        raise NotStackable("parameters shared by two layers")
    layers = dict(module.named_modules())
    if any(value._backward_hooks for value in module.parameters()):
        raise NotStackable("a hook on a parameter")
    if not all(layer.training for layer in module.train().modules()):
        raise NotStackable("a layer that stays out of training")
    graphs = [fx.Tracer().trace(module.train(training)) for training in (True, False)]
    if str(graphs[0]) != str(graphs[1]):
        raise NotStackable("a network whose own code asks whether it is in training")
    steps: list[_Step] = []
    chained = chains(graphs[0], layers)
    inner = {node for chain in chained.values() for node in chain.inner}
    for node in graphs[0].nodes:
        if node.op == "output":
            if not isinstance(node.args[0], fx.Node) or node.args[0].name != steps[-1].name:
                raise NotStackable("a network that gives more than its scores")
            break
        if node in inner:
            continue
        run, arguments = None, node.args
        if node in chained:
            chain = chained[node]
            norm = _step(chain.norm, layers)
            assert isinstance(norm, BatchNorm)
            run = norm.followed(chain.rectified)
            arguments = (*chain.norm.args, *([chain.added] if chain.added is not None else []))
        elif node.op != "placeholder":
            run = _step(node, layers)
        steps.append(_Step(node.name, run, [_Name(a.name) if isinstance(a, fx.Node) else a for a in arguments]))
    if sum(step.run is None for step in steps) != 1:
        raise NotStackable("a network of several inputs")
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
        if type(layer) in LAYERS and not has_hooks(layer):
            return LAYERS[type(layer)](layer, target)
        raise NotStackable(f"a layer of type {type(layer).__name__}")
    known = {"call_function": FUNCTIONS, "call_method": METHODS}.get(node.op, {})
    if target not in known:
        raise NotStackable(f"the use of {getattr(target, '__name__', target)} outside of a layer")
    return known[target](node.kwargs)

"""What a network multiplies with: its parameters followed through the operations of one training pass.

A parameter is a factor where it enters a matrix product, a convolution or a recurrent layer: as it is, in parts (the
query rows of attention's `in_proj_weight`), rearranged, or through functions that leave its zeros at zero (as of weight
and spectral norm). Those that are only added, looked up or multiplied element by element are none: biases,
normalisation, position embeddings, class tokens, embedding tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lottery_ticket.randomness import forked

FACTORS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(["mm", "bmm"], ("self", "mat2")),
    "addmm": ("mat1", "mat2"),
    **dict.fromkeys(["baddbmm", "addbmm"], ("batch1", "batch2")),
    "mv": ("self", "vec"),
    "addmv": ("mat", "vec"),
    "dot": ("self", "tensor"),
    "vdot": ("self", "other"),
    "linear": ("input", "weight"),
    "_trilinear": ("i1", "i2", "i3"),
    "mkldnn_rnn_layer": ("input", "weight0", "weight1", "hx_"),
    "_scaled_dot_product_flash_attention_for_cpu": ("query", "key", "value"),
    **dict.fromkeys(["convolution", "deform_conv2d"], ("input", "weight")),
}
"""Operation → its arguments that are multiplied and summed over."""

CONVOLUTIONS = ("convolution", "deform_conv2d")

REARRANGES = frozenset(
    (
        *("cat", "stack", "index", "index_select", "gather", "repeat", "roll", "flip", "constant_pad_nd"),
        *("clone", "copy", "_to_copy", "_unsafe_view", "_reshape_copy"),
        *("unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes"),
    )
)
"""Operations, beside views, whose results are values of their arguments in other places."""

KEEPS_ZEROS: dict[str, tuple[str, ...]] = {
    "mul": ("self", "other"),
    "div": ("self",),
    "_weight_norm_interface": ("v",),
    **dict.fromkeys(["neg", "abs", "sign", "relu", "tanh", "native_dropout", "tril", "triu"], ("self", "input")),
}
"""Operation → those of its arguments whose zeros are zeros of a result of the same shape."""


@dataclass(frozen=True)
class Products:
    """What a network multiplies with.

    Attributes:
        kinds: parameter that is a factor → "conv" of convolutions, else "fc"; in the module's order.
        output: those of them from whose product a way leads to the scores that passes no other one's.
        used: the parameters that take part in anything.
    """

    kinds: Mapping[str, Literal["fc", "conv"]]
    output: frozenset[str]
    used: frozenset[str]


def products(module: nn.Module, input_shape: tuple[int, ...]) -> tuple[Products, Any]:
    """What a module multiplies with in a training pass over two images of noise, and what it returns.

    The module's parameters and buffers are afterwards what they were. Raises what the module raises.
    """
    return products_with(module, torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0)))


def products_with(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Products, Any]:
    """The same in a training pass over these arguments, whose tensors count as data."""
    parameters = dict(module.named_parameters())
    before = [(value, value.clone()) for value in module.buffers()]
    flow = Flow(parameters, _tensors((args, kwargs)))
    module.train()
    with forked(0), torch.no_grad():
        with flow:
            result = module(*args, **kwargs)
        for value, kept in before:
            value.copy_(kept)
    output = _joined([flow.trace(value) for value in _tensors(result)]).last
    return Products({name: flow.kinds[name] for name in parameters if name in flow.kinds}, output, flow.used), result


@dataclass(frozen=True)
class Trace:
    """Where a value comes from.

    Attributes:
        data: whether the images have a part in it.
        sources: the parameters whose values it holds, rearranged or scaled.
        last: the factors of the last products on the ways to it.
    """

    data: bool = False
    sources: frozenset[str] = frozenset()
    last: frozenset[str] = frozenset()

    def __or__(self, other: "Trace") -> "Trace":
        return Trace(self.data or other.data, self.sources | other.sources, self.last | other.last)


class Flow(TorchDispatchMode):
    """While it is active, every operation's results get a trace made of its arguments'.

    A value is known by its place in memory, as several objects may be views of one. Nothing is freed meanwhile.
    """

    def __init__(self, parameters: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.kinds: dict[str, Literal["fc", "conv"]] = {}
        self.used: frozenset[str] = frozenset()
        self._parameters = parameters
        self._traces = {_place(value): Trace(sources=frozenset([name])) for name, value in parameters.items()}
        self._traces |= {_place(value): Trace(data=True) for value in inputs}
        self._own = {_storage(value) for value in parameters.values()}
        self._written: dict[int, Trace] = {}
        self._alive: list[Any] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Without this torch imports its compiler, two seconds, to exempt what no compiler ever sees."""
        return False

    def trace(self, value: Tensor) -> Trace:
        """Where a value comes from."""
        return self._traces.get(_place(value), Trace()) | self._written.get(_storage(value), Trace())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do the operation and trace its results."""
        schema = func._schema
        given = dict(zip((argument.name for argument in schema.arguments), args, strict=False)) | (kwargs or {})
        tensors = {name: _tensors(value) for name, value in given.items()}
        traces = {name: _joined([self.trace(value) for value in values]) for name, values in tensors.items()}
        result = func(*args, **(kwargs or {}))
        self._alive += [args, kwargs, result]
        self.used |= _joined(list(traces.values())).sources
        operation = schema.name.partition("::")[2].removesuffix("_")
        self.seen(schema.name, given, traces, result)
        changes = any(argument.alias_info and argument.alias_info.is_write for argument in schema.arguments)
        views = {a.name for a in schema.arguments if a.alias_info and not a.alias_info.is_write}
        for value in _tensors(result):
            if operation in FACTORS:
                made = self._multiplied(operation, traces)
            else:
                whole = operation in REARRANGES
                same = [
                    name
                    for name, each in tensors.items()
                    if whole or name in views or (name in KEEPS_ZEROS.get(operation, ()) and _is_like(each, value))
                ]
                joined = _joined(list(traces.values()))
                sources = _joined([traces[name] for name in same]).sources
                made = Trace(joined.data, frozenset() if joined.data else sources, joined.last)
            self._note(value, made, changes)
        return result

    def seen(self, operation: str, given: Mapping[str, Any], traces: Mapping[str, Trace], result: Any) -> None:
        """Told of each operation that was done: its name with the library's, its arguments and where they come from."""

    def _note(self, value: Tensor, made: Trace, changed: bool) -> None:
        """Keep a result's trace; where memory was written, all that lies there has it, but for parameters."""
        place = _storage(value)
        if not changed:
            self._traces[_place(value)] = made
        elif place not in self._own:
            self._traces[_place(value)] = made
            self._written[place] = self._written.get(place, Trace()) | made

    def factors(self, operation: str, traces: Mapping[str, Trace]) -> dict[str, frozenset[str]]:
        """Each argument of a product that is multiplied → the parameters that are factors there."""
        operands = {name: traces[name] for name in FACTORS[operation] if name in traces}
        found = {}
        for name, operand in operands.items():
            others = [other for key, other in operands.items() if key != name]
            if operand.data:
                found[name] = frozenset[str]()
            elif any(other.data or not other.sources for other in others):
                found[name] = operand.sources
            else:  # a product of parameters alone: a query or token that weights are applied to is no weight
                found[name] = frozenset(each for each in operand.sources if not _is_vector(self._parameters[each]))
        return found

    def _multiplied(self, operation: str, traces: Mapping[str, Trace]) -> Trace:
        """A product's trace. Its factors are noted."""
        found = frozenset[str]().union(*self.factors(operation, traces).values())
        for name in found:
            self.kinds.setdefault(name, "conv" if operation in CONVOLUTIONS else "fc")
        added = [trace for name, trace in traces.items() if name not in FACTORS[operation]]
        last = found | _joined(added).last if found else _joined(list(traces.values())).last
        return Trace(_joined(list(traces.values())).data, frozenset(), last)


def _joined(traces: Sequence[Trace]) -> Trace:
    whole = Trace()
    for each in traces:
        whole |= each
    return whole


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _is_like(values: Sequence[Tensor], result: Tensor) -> bool:
    return all(value.shape == result.shape for value in values)


def _is_vector(value: Tensor) -> bool:
    return sum(size > 1 for size in value.shape) < 2


def _storage(value: Tensor) -> int:
    return value.untyped_storage()._cdata if value.layout is torch.strided else id(value)  # also on `meta`


def _place(value: Tensor) -> tuple[Any, ...]:
    where = (value.storage_offset(), value.stride()) if value.layout is torch.strided else ()
    return _storage(value), value.shape, *where

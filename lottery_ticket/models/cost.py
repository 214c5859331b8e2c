"""How many multiply-adds a network's forward pass takes."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lottery_ticket.models.products import FACTORS
from lottery_ticket.randomness import forked


def multiply_adds(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiply-adds of one image's forward pass in evaluation: of matrix products, convolutions and attention.

    Additions of biases, normalisation, activations and pooling are not counted. Nothing is computed: the module is
    moved to torch's device `meta`, where tensors have no values, and stays there. Raises what the module raises.
    """
    counter = _Counter()
    image = torch.zeros(1, *input_shape, device="meta")
    with forked(0), counter:  # with gradients, without which attention takes a way that tells of no products
        module.to("meta").eval()(image)
    return counter.count


class _Counter(TorchDispatchMode):
    """Counts the multiply-adds of the operations done while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do the operation and count it."""
        result = func(*args, **(kwargs or {}))
        schema = func._schema
        operation = schema.name.partition("::")[2]
        if operation in FACTORS or operation.startswith("_scaled_dot_product"):
            given = dict(zip((argument.name for argument in schema.arguments), args, strict=False)) | (kwargs or {})
            first = result[0] if isinstance(result, tuple) else result
            self.count += _products(operation, given, first)
        return result


def _products(operation: str, given: dict[str, Any], result: Tensor) -> int:
    """Multiply-adds of one operation: of each value of its result, as many as are summed."""
    if operation == "convolution":
        weight = given["weight"]
        if given["transposed"]:  # each value of the image goes into as many sums
            return given["input"].numel() * math.prod(weight.shape[1:])
        return result.numel() * math.prod(weight.shape[1:])
    if operation.startswith("_scaled_dot_product"):
        query, key, value = given["query"], given["key"], given["value"]
        pairs = math.prod(query.shape[:-1]) * key.shape[-2]
        return pairs * (query.shape[-1] + value.shape[-1])
    left = given[FACTORS[operation][0]]
    return result.numel() * left.shape[-1]

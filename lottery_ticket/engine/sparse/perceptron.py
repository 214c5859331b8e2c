"""A training step's losses and gradients of a multilayer perceptron of survivors in one compiled call.

Of a fully connected network with few survivors, what torch takes to call its operations is most of a step. So networks
of linear layers with ReLU between them, `fc1` among them, are taken as a whole: images gathered, forward pass,
cross-entropy and backward pass of a member at a time, members side by side on the threads.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from lottery_ticket.engine.chains import is_relu
from lottery_ticket.engine.sparse.threads import side_by_side
from lottery_ticket.engine.sparse.weights import SparseLinear, arrays, lanes


def linear_layers(module: nn.Module) -> list[str] | None:
    """The paths of a perceptron's linear layers in their order; None of any other network.

    One that calls a layer twice is another: a gradient is of one product here.
    """
    layers = dict(module.named_modules())
    graph = fx.Tracer().trace(module)
    found: list[str] = []
    flat = rectified = False
    for before, node in zip(graph.nodes, list(graph.nodes)[1:], strict=False):
        if node.op == "output":
            return found if found and not rectified and len(set(found)) == len(found) else None
        if len(before.users) != 1 or node.args[:1] != (before,):
            return None
        layer = layers.get(str(node.target)) if node.op == "call_module" else None
        if is_relu(node, layers) and found and not rectified:
            rectified = True
        elif type(layer) is nn.Linear and flat and (rectified or not found):
            found.append(str(node.target))
            rectified = False
        elif not found and not flat and (type(layer) is nn.Flatten or node.target in (torch.flatten, "flatten")):
            flat = True  # of all of an image's axes: the engine knows no other
        else:
            return None
    return None


class Perceptron:
    """The linear layers of K networks, all of them survivors.

    Args:
        paths: of the layers in their order.
        weights: of the stack, by name.
    """

    def __init__(self, paths: Sequence[str], weights: Mapping[str, Any]) -> None:
        self._names = [(f"{path}.weight", f"{path}.bias") for path in paths]
        self._weights: list[SparseLinear] = [weights[name] for name, _ in self._names]
        members = self._weights[0].shape[0]
        self._sizes = [own.shape[2] for own in self._weights] + [self._weights[-1].shape[1]]
        own = [
            weights.get(bias, torch.zeros(members, out))
            for (_, bias), out in zip(self._names, self._sizes[1:], strict=True)
        ]
        self._of_values = [torch.empty_like(each.values) for each in self._weights]
        self._of_biases = [torch.empty_like(each) for each in own]
        self._known = (
            tuple(each.pattern for each in self._weights),
            tuple((first, row, order.numpy()) for first, row, order in (each.transposed for each in self._weights)),
            tuple(arrays(*(each.values for each in self._weights))),
            tuple(arrays(*own)),
            tuple(arrays(*(torch.zeros(members, size) for size in self._sizes[:-1]))),
        )
        self._gradients = tuple(arrays(*self._of_values)), tuple(arrays(*self._of_biases))
        self._members, self._batch = members, -1

    def __call__(self, images: Tensor, labels: Tensor, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Losses K×B of the images `batch` K×B, and the gradients of the sum over members of their means, by name.

        The gradients' memory is used again by the next call.
        """
        from lottery_ticket.engine.sparse import kernels

        if batch.shape[1] != self._batch:
            self._make_room(batch.shape[1])
        losses = torch.empty(batch.shape)
        flat, targets, index = arrays(images.flatten(1), labels, batch)
        activations, permuted, of_activations = self._room
        side_by_side(
            kernels.perceptron,
            self._members,
            *(flat, targets, index),
            *self._known,
            *(activations, permuted, of_activations),
            *self._gradients,
            *arrays(losses),
        )
        found: dict[str, Tensor] = {}
        for (weight, bias), of_weight, of_bias in zip(self._names, self._of_values, self._of_biases, strict=True):
            found |= {weight: of_weight, bias: of_bias}
        return losses, found

    def _make_room(self, images: int) -> None:
        wide = lanes(images)
        activations = [torch.zeros(self._members, size, wide) for size in self._sizes]
        self._room = (
            tuple(arrays(*activations)),
            tuple(arrays(*(torch.empty_like(each) for each in self._of_values))),
            tuple(arrays(*(torch.zeros_like(each) for each in activations))),
        )
        self._batch = images

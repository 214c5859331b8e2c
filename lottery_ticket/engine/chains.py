"""Batch normalisation with the residual sum and the ReLU that follow it, found in a network's graph."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

SUMS: tuple[Any, ...] = (operator.add, operator.iadd, torch.add)
RECTIFIERS: tuple[Any, ...] = (F.relu, torch.relu, "relu", "relu_")


@dataclass(frozen=True)
class Chain:
    """Nodes that can be one step: `norm`, the sum with `added` if there is one, ReLU if `rectified`.

    `inner` are all of them but the last.
    """

    norm: fx.Node
    added: fx.Node | None
    rectified: bool
    inner: tuple[fx.Node, ...]


def chains(graph: fx.Graph, layers: Mapping[str, nn.Module]) -> dict[fx.Node, Chain]:
    """The chains of a graph by their last node; only the next node of a chain makes use of one."""
    found: dict[fx.Node, Chain] = {}
    for norm in graph.nodes:
        if norm.op != "call_module" or type(layers[norm.target]) is not nn.BatchNorm2d:
            continue
        nodes, added = [norm], None
        after = _only_user(norm)
        if after is not None and after.op == "call_function" and after.target in SUMS and not after.kwargs:
            others = [value for value in after.args if value is not norm]
            if len(others) == 1 and isinstance(others[0], fx.Node):
                nodes, added = [norm, after], others[0]
                after = _only_user(after)
        rectified = after is not None and is_relu(after, layers)
        if rectified:
            nodes.append(after)
        taken = {node for chain in found.values() for node in chain.inner} | found.keys()
        if len(nodes) > 1 and not taken.intersection(nodes):
            found[nodes[-1]] = Chain(norm, added, rectified, tuple(nodes[:-1]))
    return found


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def is_relu(node: fx.Node, layers: Mapping[str, nn.Module]) -> bool:
    """Whether a node is ReLU of one value, and nothing else."""
    if node.op == "call_module":
        layer = layers[str(node.target)]
        return type(layer) is nn.ReLU and not has_hooks(layer)
    return node.op in ("call_function", "call_method") and node.target in RECTIFIERS


def has_hooks(layer: nn.Module) -> bool:
    """Whether something else is called with a layer, forward or backward."""
    return any((layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks))

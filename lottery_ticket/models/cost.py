"""How many multiply-adds a network takes, by tensor: dense and over survivors, for an image and for a round.

Those of matrix products, convolutions and attention are counted. Additions of biases, normalisation, activations,
pooling and the optimiser's steps are not; nor is what is done once a batch, such as products of parameters alone. A
weight takes part in as many multiply-adds of an image as there are places where it is applied, a padding's zeros
included.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lottery_ticket.errors import one_line
from lottery_ticket.masks import Mask
from lottery_ticket.models.products import FACTORS, Flow, Trace
from lottery_ticket.randomness import forked
from lottery_ticket.record import Both, Cost

ACTIVATIONS = "activations alone"
"""What products in which no weight has a part are entered under, such as attention's of queries and keys."""

IMAGES = (2, 3)
"""Images in the passes that are counted: in their difference is nothing that is done once a batch."""


class Uncounted(Exception):
    """Why the multiply-adds of a network cannot be told."""


@dataclass(frozen=True)
class MultiplyAdds:
    """Multiply-adds of one image by parameter (or `ACTIVATIONS`), nothing pruned.

    Attributes:
        inference: of the forward pass in evaluation.
        training: of the forward pass in training and of the gradients: of each weight that is trained, and of what it
            is multiplied with, where a trained parameter has a part in that (so not of the images).
    """

    inference: Mapping[str, int]
    training: Mapping[str, int]

    @property
    def image(self) -> int:
        """Of one image's forward pass in evaluation, over all parameters."""
        return sum(self.inference.values())

    def cost(
        self,
        mask: Mask,
        images: int,
        sparse: Collection[str] = (),
        scored: int = 0,
        to_find: int | None = None,
        densities: Mapping[str, float] | None = None,
        dense_gradients: int = 0,
    ) -> Cost:
        """The cost of a round.

        Args:
            mask: prunable tensor → bool tensor, True where it survives.
            images: how many were trained on, each as often as it was.
            sparse: the tensors that were trained over survivors alone.
            scored: images of which a criterion asked for gradients.
            to_find: see `Cost`.
            densities: where the mask changed in the round, prunable tensor → the part that survived, the mean over
                the images; the mask is then the one that it ended with.
            dense_gradients: of how many images pruned weights had gradients taken too, each as many multiply-adds as
                the forward pass.
        """
        training = _under(self.training, mask)
        for name, mean in (densities or {}).items():
            if name in training:
                dense = training[name].dense
                grown = self.inference.get(name, 0) * (1 - mean) * dense_gradients / images
                training[name] = Both(dense, round(dense * mean + grown))
        an_image = sum(each.sparse if name in sparse else each.dense for name, each in training.items())
        scoring = scored * sum(self.training.values())
        return Cost(
            images=images,
            inference=_under(self.inference, mask),
            training=training,
            computed=images * an_image + scoring,
            to_find=to_find,
        )


def _under(counts: Mapping[str, int], mask: Mask) -> dict[str, Both]:
    """Multiply-adds by parameter with those over survivors alone: each weight takes part in as many as any other."""
    return {
        name: Both(count, count * int(mask[name].sum()) // mask[name].numel() if name in mask else count)
        for name, count in counts.items()
    }


def multiply_adds(module: nn.Module, input_shape: tuple[int, ...]) -> MultiplyAdds:
    """Count a network's multiply-adds; Uncounted where that cannot be done, with the reason.

    The module is tried on images of noise, which its buffers will have seen. One that looks at the values on its way
    may do otherwise with other images, and cannot be counted.
    """
    try:
        inference = [_passed(module.eval(), input_shape, images).forward for images in IMAGES]
        trained = [_passed(module.train(), input_shape, images) for images in IMAGES]
    except Uncounted:
        raise
    except Exception as error:  # whatever a user's module does when it is tried
        raise Uncounted(one_line(error)) from error
    forward, back = ([getattr(each, way) for each in trained] for way in ("forward", "back"))
    more = _of_an_image(back)
    training = {name: count + more.get(name, 0) for name, count in _of_an_image(forward).items()}
    return MultiplyAdds(_of_an_image(inference), training)


def _of_an_image(passes: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """What one image more adds to a pass."""
    fewer, more = passes
    return {name: count - fewer[name] for name, count in more.items() if count > fewer[name]}


def _passed(module: nn.Module, input_shape: tuple[int, ...], images: int) -> "_Counter":
    where = next((value.device for value in module.parameters()), None)
    batch = torch.randn(images, *input_shape, generator=torch.Generator().manual_seed(0)).to(where)
    counter = _Counter(module, batch)
    # without gradients attention, and with oneDNN recurrent layers, take ways that tell of no products
    with forked(0), torch.enable_grad(), _without_onednn(), counter:
        module(batch)
    counter.must_be_even()
    return counter


@contextmanager
def _without_onednn() -> Iterator[None]:
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


class _Counter(Flow):
    """Counts the multiply-adds of the operations done while it is active, by parameter.

    Attributes:
        forward, back: parameter → multiply-adds of the operations, and of the gradients that they will be asked for.
    """

    def __init__(self, module: nn.Module, batch: Tensor) -> None:
        parameters = dict(module.named_parameters())
        super().__init__(parameters, [batch])
        self.forward: dict[str, int] = defaultdict(int)
        self.back: dict[str, int] = defaultdict(int)
        self._sizes = {name: value.numel() for name, value in parameters.items()}
        self._parts: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def seen(self, operation: str, given: Mapping[str, Any], traces: Mapping[str, Trace], result: Any) -> None:
        """Count an operation."""
        library, _, name = operation.partition("::")
        if library not in ("aten", "prim", "torchvision") or name in _UNKNOWN:
            raise Uncounted(f"it is not known what {operation} multiplies")
        if name in _VALUES and any(trace.data for trace in traces.values()):
            raise Uncounted(f"what it does may depend on the values of an image, which {operation} looks at")
        if name.startswith("_scaled_dot_product"):
            self._attention(given, traces)
        elif name in FACTORS:
            factors = self.factors(name, traces)
            count = _products(name, given, result)
            back = count * sum(given[each].requires_grad for each in factors)
            self._enter([(given[each].numel(), names) for each, names in factors.items() if names], count, back)

    def _attention(self, given: Mapping[str, Any], traces: Mapping[str, Trace]) -> None:
        """Queries by keys, and what comes of it by values."""
        query, key, value = (given[name] for name in ("query", "key", "value"))
        if any(traces[name].sources for name in ("query", "key", "value")):
            raise Uncounted("a weight stands in attention as it is")
        pairs = math.prod(query.shape[:-1]) * key.shape[-2]
        scores, sums = pairs * query.shape[-1], pairs * value.shape[-1]
        asked = query.requires_grad + key.requires_grad
        self._enter([], scores + sums, scores * asked + sums * (value.requires_grad + bool(asked)))

    def _enter(self, weights: list[tuple[int, frozenset[str]]], count: int, back: int) -> None:
        """Enter a product under the parameters that are multiplied in it, each weight of which has an equal part.

        Args:
            weights: of each argument that holds parameters how many values it has, and which they are.
            count, back: multiply-adds.
        """
        if len(weights) != 1:
            self.forward[ACTIVATIONS] += count
            self.back[ACTIVATIONS] += back
            return
        ((size, names),) = weights
        whole = sum(self._sizes[name] for name in names)
        if len(names) > 1 and size % whole:
            raise Uncounted(f"{' and '.join(sorted(names))} are multiplied as one")
        for name in names:
            if size % whole:  # a part of it, as the rows that make attention's queries
                self._parts[name].append((size, count // size))
            self.forward[name] += count * self._sizes[name] // whole
            self.back[name] += back * self._sizes[name] // whole

    def must_be_even(self) -> None:
        """Uncounted where some weights of a parameter take part more often than others."""
        for name, parts in self._parts.items():
            if sum(size for size, _ in parts) != self._sizes[name] or len({places for _, places in parts}) > 1:
                raise Uncounted(f"some weights of {name} are multiplied more often than others")


_UNKNOWN = frozenset(("_trilinear", "mkldnn_rnn_layer", "conv_tbc"))
"""Operations that multiply in ways of their own."""

_VALUES = frozenset(("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select"))
"""Operations by which a module can choose its way, or how much it multiplies, by values."""


def _products(operation: str, given: Mapping[str, Any], result: Tensor) -> int:
    """Multiply-adds of one operation: of each value of its result, as many as are summed."""
    if operation in ("convolution", "deform_conv2d"):
        each = math.prod(given["weight"].shape[1:])
        # transposed, each value of the image goes into as many sums
        return (given["input"] if given.get("transposed") else result).numel() * each
    left = given[FACTORS[operation][0]]
    batches = len(left) if operation == "addbmm" else 1
    return batches * result.numel() * left.shape[-1]

"""Derivatives of a network's loss over training images, for criteria that rank weights by them."""

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from lottery_ticket.data.prepared import Split
from lottery_ticket.errors import InputError
from lottery_ticket.masks import Mask, Weights
from lottery_ticket.models.network import Network
from lottery_ticket.models.tensors import call
from lottery_ticket.randomness import forked


class Gradients:
    """Derivatives at any values of a network's parameters, the pruned ones taken as zero.

    All come as trained parameter → tensor of its shape, on the CPU, pruned weights' too, and leave network, values and
    buffers as they are. Loss is the mean cross-entropy over the training images with the indices `images` (default:
    all). Where it is in training, batch normalisation goes by the batch.

    Args:
        network: the architecture.
        mask: the survivors.
        images: the training images; None where nobody has them: InputError for what needs them.
        batch_size: images in a forward pass.
        draws: seed of what layers draw (dropout).
        criterion: which is named where it asks for what there is not.

    Attributes:
        seen: images that have been put through the network, forwards and backwards.
    """

    def __init__(
        self, network: Network, mask: Mask, images: Split | None, batch_size: int, draws: int, criterion: str = ""
    ) -> None:
        self._network, self._mask, self._data = network, mask, images
        self._batch_size, self._draws, self._criterion = batch_size, draws, criterion
        self.seen = 0

    def under(self, mask: Mask) -> "Gradients":
        """The same under another mask; nothing has been put through the network yet."""
        return Gradients(self._network, mask, self._data, self._batch_size, self._draws, self._criterion)

    def __call__(
        self, weights: Mapping[str, Tensor], images: Sequence[int] | None = None, temperature: float = 1.0
    ) -> Weights:
        """The gradient of the loss, float32, with the network in training; scores are divided by the temperature."""
        leaves, losses = self._losses(weights, images, temperature)
        return self._summed(leaves, (torch.autograd.grad(loss, leaves, materialize_grads=True) for loss in losses))

    def hessian(
        self,
        weights: Mapping[str, Tensor],
        direction: Mapping[str, Tensor],
        images: Sequence[int] | None = None,
        temperature: float = 1.0,
    ) -> Weights:
        """The product of the loss's Hessian with a direction, float32, with the network in training.

        Args:
            weights, images, temperature: as for the gradient.
            direction: trained parameter → tensor of its shape; those that are not in it are zero.
        """
        before = self.seen
        leaves, losses = self._losses(weights, images, temperature)
        self.seen += self.seen - before  # backwards through the gradients too
        towards = {
            at: direction[name].to(leaves[at].device)
            for at, name in enumerate(self._network.trainable)
            if name in direction
        }

        def product(loss: Tensor) -> Sequence[Tensor]:
            first = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
            along = torch.stack([(first[at] * value).sum() for at, value in towards.items()]).sum()
            return torch.autograd.grad(along, leaves, materialize_grads=True)

        return self._summed(leaves, map(product, losses))

    def squared(self, weights: Mapping[str, Tensor], images: Sequence[int] | None = None) -> Weights:
        """The mean over the images of their own squared gradients, float32: the diagonal of the empirical Fisher.

        In evaluation: a single image has no batch to be normalised by.
        """
        data, chosen = self._chosen(images)
        state, leaves = self._state(weights, data.y.device)

        def squares() -> Iterator[Sequence[Tensor]]:
            with self._module(training=False) as module:
                for each in chosen.split(1):
                    loss = F.cross_entropy(call(module, state, data.x[each]).float(), data.y[each])
                    own = torch.autograd.grad(loss, leaves, materialize_grads=True)
                    yield torch._foreach_div(torch._foreach_mul(own, own), len(chosen))

        return self._summed(leaves, squares())

    def flow(self, weights: Mapping[str, Tensor]) -> Weights:
        """The gradient of R = Σ scores of an image of ones, every parameter and buffer at its absolute value.

        In float64 and evaluation: R of a deep network leaves the range of float32, and no image is looked at. Tanaka,
        Kunin, Yamins & Ganguli 2020 (arXiv 2006.05467), section 6.
        """
        if self._network.input_shape is None:
            raise self._refusal("the shape of an image")
        with forked(self._draws):
            module = copy.deepcopy(self._network.module).cpu().double().eval()
        values = {name: value.abs().double() if value.is_floating_point() else value for name, value in weights.items()}
        state, leaves = self._state(values, torch.device("cpu"))
        self.seen += 1
        scores = call(module, state, torch.ones(1, *self._network.input_shape, dtype=torch.float64))
        found = torch.autograd.grad(scores.sum(), leaves, materialize_grads=True)
        return dict(zip(self._network.trainable, found, strict=True))

    def _losses(
        self, weights: Mapping[str, Tensor], images: Sequence[int] | None, temperature: float
    ) -> tuple[list[Tensor], Iterator[Tensor]]:
        """The trained parameters, and the loss of each batch, which sum to that of all images."""
        data, chosen = self._chosen(images)
        state, leaves = self._state(weights, data.y.device)

        def losses() -> Iterator[Tensor]:
            with self._module(training=True) as module:
                # as equal as can be: a last one of a single image could not be normalised
                for batch in chosen.tensor_split(math.ceil(len(chosen) / self._batch_size)):
                    scores = call(module, {name: value.clone() for name, value in state.items()}, data.x[batch])
                    scores = scores.float() / temperature
                    yield F.cross_entropy(scores, data.y[batch], reduction="sum") / len(chosen)

        return leaves, losses()

    def _chosen(self, images: Sequence[int] | None) -> tuple[Split, Tensor]:
        """The training images and the indices of those that count."""
        if self._data is None:
            raise self._refusal("gradients")
        chosen = torch.arange(len(self._data)) if images is None else torch.as_tensor(images, dtype=torch.int64)
        self.seen += len(chosen)
        return self._data, chosen.to(self._data.y.device)

    def _refusal(self, what: str) -> InputError:
        why = f"asks for {what}, which a training of one's own does not give; allowed: one that does not"
        return InputError("--criterion", self._criterion, why)

    def _state(self, weights: Mapping[str, Tensor], device: torch.device) -> tuple[Weights, list[Tensor]]:
        """The values under the mask, and those of them that are trained."""
        state = {name: value.detach().clone().to(device) for name, value in weights.items()}
        for name, kept in self._mask.items():
            state[name].mul_(kept.to(device))
        return state, [state[name].requires_grad_() for name in self._network.trainable]

    @contextmanager
    def _module(self, training: bool) -> Iterator[torch.nn.Module]:
        """The architecture, which draws from a generator of its own within it."""
        assert self._data is not None
        module = self._network.module
        before = module.training
        with forked(self._draws, self._data.y.device):
            yield module.train(training)
        module.train(before)

    def _summed(self, leaves: Sequence[Tensor], parts: Iterable[Sequence[Tensor]]) -> Weights:
        """The sums over the batches, for the trained parameters."""
        total = [torch.zeros_like(leaf) for leaf in leaves]
        for part in parts:
            torch._foreach_add_(total, list(part))
        return {name: value.cpu() for name, value in zip(self._network.trainable, total, strict=True)}

"""Networks of strangers' making that compute from more than their tensors, or whose tensors are not the usual ones."""

import itertools
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

GENERATOR = np.random.default_rng(0)
CALLS = [0]


class Strange(nn.Module):
    """Two layers for 4×4 images with four classes, and something between them."""

    def __init__(self):
        super().__init__()
        self.first, self.output = nn.Linear(16, 12), nn.Linear(12, 4)
        self.make()

    def make(self):
        pass

    def between(self, h):
        return h

    def forward(self, x):
        return self.output(self.between(torch.relu(self.first(x.flatten(1)))))


class Permuted(Strange):
    def make(self):
        self.order = torch.randperm(12)

    def between(self, h):
        return h[:, self.order]


class PermutedByNumpy(Permuted):
    def make(self):
        self.order = np.random.permutation(12)


class Scaled(Strange):
    def make(self):
        self.options = {"scale": 0.5 + random.random()}

    def between(self, h):
        return h * self.options["scale"]


class Table(Strange):
    def make(self):
        self.register_buffer("table", torch.randn(12), persistent=False)

    def between(self, h):
        return h * self.table


class OnlyInTraining(Permuted):
    def between(self, h):
        return h[:, self.order] if self.training else h


class Counter(Strange):
    calls = 0

    def between(self, h):
        self.calls += 1
        return h * (0.5 if self.calls < 100 else 1)


class CountedByClass(Strange):
    calls = 0

    def between(self, h):
        type(self).calls += 1
        return h


class CountedByModule(Strange):
    def between(self, h):
        CALLS[0] += 1
        return h


class Iterated(Strange):
    def make(self):
        self.steps = itertools.count()

    def between(self, h):
        return h / (1 + next(self.steps))


class OwnGenerator(Strange):
    def make(self):
        self.draws = torch.Generator().manual_seed(1)

    def between(self, h):
        return h * (torch.rand(12, generator=self.draws) < 0.5) if self.training else h


class NumpysGenerator(Strange):
    def between(self, h):
        return h * GENERATOR.random() if self.training else h


class Average(Strange):
    def make(self):
        self.mean = torch.zeros(12)

    def between(self, h):
        self.mean = 0.9 * self.mean + 0.1 * h.detach().mean(0)
        return h - self.mean


class History(Strange):
    def make(self):
        self.seen = []

    def between(self, h):
        self.seen.append(float(h.mean()))
        return h


class AlwaysDrops(Strange):
    def between(self, h):
        return F.dropout(h, 0.5)


class Noisy(Strange):
    def between(self, h):
        return h + 0.1 * torch.randn_like(h)


class NoisyByNumpy(Strange):
    def between(self, h):
        return h * np.random.random()


class ExtraState(Strange):
    def get_extra_state(self):
        return {"steps": 1}

    def set_extra_state(self, state):
        pass


class Quantised(Strange):
    def make(self):
        self.register_buffer("sizes", torch.zeros(3, dtype=torch.float8_e4m3fn))


class OwnFactory(Strange):
    generator = np.random.default_rng()

    def make(self):
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor(np.random.default_rng().normal(size=(12, 16))))


def seeds_itself():
    torch.manual_seed(0)
    return Strange()


def loads_a_checkpoint():
    made = Strange()
    draw = torch.Generator().manual_seed(3)
    made.load_state_dict({name: torch.randn(value.shape, generator=draw) for name, value in made.state_dict().items()})
    return made


def seeds_numpys():
    np.random.seed(0)
    made = Strange()
    with torch.no_grad():
        made.first.weight.copy_(torch.tensor(np.random.normal(size=(12, 16))))
    return made


def normalised():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 4))


class NormalisedAndScaled(Strange):
    def make(self):
        self.norm, self.scale = nn.BatchNorm1d(12), nn.Parameter(torch.ones(()))

    def between(self, h):
        return self.norm(h) * self.scale


class NormalisedByTheBatch(Strange):
    def make(self):
        self.norm = nn.BatchNorm1d(12, track_running_stats=False)

    def between(self, h):
        return self.norm(h)


# what trains


class Remembering(Strange):
    """Keeps what nothing is computed from."""

    def between(self, h):
        self.last, self.largest = h, {"value": float(h.max())}
        return h


class Replacing(Strange):
    """A buffer that is replaced, not changed."""

    def make(self):
        self.register_buffer("steps", torch.zeros(()))

    def between(self, h):
        if self.training:
            self.steps = self.steps + 1
        return h / (1 + self.steps)


class Waves(Strange):
    def make(self):
        self.register_buffer("waves", torch.polar(torch.ones(12), torch.arange(12.0)))

    def between(self, h):
        return (h * self.waves).real


class Unsigned(Strange):
    def make(self):
        self.register_buffer("places", torch.arange(12).to(torch.uint16))
        self.register_buffer("large", torch.tensor([2**32 - 1], dtype=torch.int64).to(torch.uint32))

    def between(self, h):
        return h + self.places.float()


class Listed(Strange):
    def make(self):
        self.matrices = nn.ParameterList([torch.randn(12, 12) for _ in range(2)])

    def between(self, h):
        for matrix in self.matrices:
            h = h @ matrix
        return h


class TwoNames(Strange):
    def make(self):
        shared = torch.ones(12)
        self.register_buffer("one", shared)
        self.register_buffer("other", shared)

    def between(self, h):
        if self.training:
            self.one.add_(1)
        return h * self.one / self.other


class OneBias(Strange):
    def make(self):
        self.second = nn.Linear(12, 12)
        self.second.bias = self.first.bias

    def between(self, h):
        return self.second(h)


def twice(layer, *between):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), layer, *between, layer, nn.ReLU(), nn.Linear(12, 4))


def linear_twice():
    return twice(nn.Linear(12, 12), nn.ReLU())


def prelu_twice():
    return twice(nn.PReLU(), nn.Linear(12, 12))


def norm_twice():
    return twice(nn.BatchNorm1d(12), nn.Linear(12, 12))


def channels_last():
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 2), nn.Flatten(), nn.Linear(4, 4)
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)

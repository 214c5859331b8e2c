"""Whether a network is what its parameters and buffers say: checked before anything is trained.

All that a run keeps, resumes, pulls and exports are tensors. A network that also computes from something else gives
other scores in the next process, and one whose values do not depend on the seed gives no control.
"""

import linecache
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lottery_ticket.config import Settings
from lottery_ticket.data.prepared import Data
from lottery_ticket.errors import InputError
from lottery_ticket.masks import Weights
from lottery_ticket.method.arms import Moment, arm_named
from lottery_ticket.models.network import Network
from lottery_ticket.models.tensors import call, tensors_of
from lottery_ticket.models.usercode import own_code
from lottery_ticket.randomness import forked
from lottery_ticket.runs.attributes import changed, state_of

IMAGES = 8
"""Training images that the network is tried on, on the CPU."""

Outcome = dict[str, Tensor]


def check_draws(settings: Settings, network: Network) -> None:
    """InputError unless start values depend on seed and purpose, and on nothing else.

    Not asked where one seed and no arm that draws anew leave nothing to compare: a checkpoint may be pruned so.
    """
    seed = settings.seeds[0]
    theta, again = (network.draw(seed, "init") for _ in range(2))
    if other := changed(theta, again):
        raise _refusal(
            settings,
            f"gives {_these(other)} other values each time it is built: they come from a generator of its own, or are "
            "not initialised; allowed: draws from the global generators of torch, NumPy and Python",
        )
    drawn = {f"seed {each}": network.draw(each, "init") for each in settings.seeds[1:2]}
    for arm in settings.arms:
        start = _drawn_by(arm, network, seed, theta)
        drawn |= {arm: start} if start else {}
    for what, values in drawn.items():
        equal = [name for name in network.kinds if torch.equal(theta[name], values[name])]
        same = equal if len(equal) == len(network.kinds) else [name for name in equal if not _constant(theta[name])]
        if same:
            raise _refusal(
                settings,
                f"gives {what} the same {_these(same)} as seed {seed}, so it seeds a generator itself or loads a "
                "checkpoint; allowed: an --init that draws them, or one seed and no arm that draws anew (reinit)",
            )


def _drawn_by(arm: str, network: Network, seed: int, theta: Weights) -> Weights | None:
    """What an arm starts from where it draws anew, which it cannot without the network; else None."""
    asked: list[bool] = []

    def make_network() -> Network:
        asked.append(True)
        return network

    dense = network.dense_mask()
    start = arm_named(arm).start(Moment(make_network, seed, 0, dense, dense, theta, theta))
    return start.weights if asked else None


def check_passes(settings: Settings, network: Network, data: Data) -> None:
    """InputError unless scores, gradients and buffers follow from tensors and images, whoever asks and how often."""
    seed = settings.seeds[0]
    one, other = network.drawn(seed, "init"), network.drawn(seed, "another build")
    theta = {name: value.clone() for name, value in tensors_of(one).items()}
    x, y = data.train.x[:IMAGES].cpu(), data.train.y[:IMAGES].cpu()
    code = own_code(one, network.factory.func)
    built = changed(state_of(one, code), state_of(other, code))

    def passes(module: nn.Module) -> Outcome:
        return _step(module, theta, x, y) | {"scores": _scores(module, theta, x, 0)}

    first = passes(one)
    if first["scores"].isnan().any():
        raise _refusal(settings, "gives scores that are not numbers (NaN) as it is drawn; allowed: finite scores")
    before = state_of(one, code)
    again = passes(one)
    if counted := changed(before, state_of(one, code)):
        raise _refusal(
            settings,
            f"changes {_these(counted)} with every pass, which no ticket keeps and all networks of a run share; "
            "allowed: a buffer (self.register_buffer), changed in place",
        )
    if not _alike(first["scores"], _scores(one, theta, x, 1)):
        with _Draws() as drawn:
            _scores(one, theta, x, 1)
        raise _refusal(
            settings,
            f"gives the same images other scores in each evaluation{drawn.where}; allowed: nothing drawn outside of "
            "training, as by F.dropout(x, p, training=self.training) or nn.Dropout",
        )
    if differ := _differences(first, again):
        raise _refusal(
            settings, f"gives the same images another {differ[0]} each time; allowed: a network that does not"
        )
    if differ := _differences(first, passes(other)):
        those = f" ({_these(built)})" if built else ""
        raise _refusal(
            settings,
            f"is another function each time it is built: its {differ[0]} follows from more than its parameters and "
            f"persistent buffers{those}; allowed: what is drawn is registered, as by self.register_buffer(name, value)",
        )


def _step(module: nn.Module, theta: Weights, x: Tensor, y: Tensor) -> Outcome:
    """The gradients of one step of training, and the buffers after it."""
    own = {name: value.clone() for name, value in theta.items()}
    trained = [name for name, value in module.named_parameters() if value.requires_grad]
    leaves = [own[name].requires_grad_() for name in trained]
    module.train()
    with forked(0):
        loss = F.cross_entropy(call(module, own, x).float(), y)
        gradients = torch.autograd.grad(loss, leaves, materialize_grads=True)
    changed_by = dict(zip((f"gradient of {name}" for name in trained), gradients, strict=True))
    return changed_by | {name: value for name, value in own.items() if name not in trained}


def _scores(module: nn.Module, theta: Weights, x: Tensor, draws: int) -> Tensor:
    """What an evaluation gives, the global generators seeded with `draws`."""
    module.eval()
    with forked(draws), torch.no_grad():
        return call(module, {name: value.clone() for name, value in theta.items()}, x)


class _Draws(TorchDispatchMode):
    """Notes in `where` the user's line that first draws random numbers within it."""

    def __init__(self) -> None:
        super().__init__()
        self.where = ""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """As in `models.products`: torch's compiler is not imported."""
        return False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.where and torch.Tag.nondeterministic_seeded in function.tags:
            frame = sys._getframe(1)
            while frame.f_back and Path(frame.f_code.co_filename).is_relative_to(_TORCH):
                frame = frame.f_back
            file, line = frame.f_code.co_filename, frame.f_lineno
            self.where = f" ({Path(file).name}, line {line}: {linecache.getline(file, line).strip()})"
        return function(*args, **(kwargs or {}))


_TORCH = Path(torch.__file__).parent


def _differences(one: Outcome, other: Outcome) -> list[str]:
    return [name for name, value in reversed(one.items()) if not _alike(value, other[name])]


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether nothing but the order of additions can be between them."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if not (one.is_floating_point() or one.is_complex()):
        return torch.equal(one, other)
    size = one.abs().nan_to_num().max().item() if one.numel() else 0.0
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5 * size, equal_nan=True)


def _constant(value: Tensor) -> bool:
    return bool((value == value.flatten()[0]).all())


def _these(names: Sequence[str]) -> str:
    """The first names of many."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _refusal(settings: Settings, why: str) -> InputError:
    return InputError("--model", settings.model, why)

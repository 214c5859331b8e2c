"""A round in small before any run is made: what would fail later fails here, and says what to change."""

import math
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import nn

from lottery_ticket.config import Settings
from lottery_ticket.data.prepared import Data, Split
from lottery_ticket.engine.allocation import Allocation
from lottery_ticket.engine.job import Member, iterations_per_round
from lottery_ticket.engine.training import evaluated_at_once, train
from lottery_ticket.errors import InputError, LotteryTicketError, one_line
from lottery_ticket.method.criteria import scores_by
from lottery_ticket.method.pruning import prune
from lottery_ticket.method.trajectory import evidence
from lottery_ticket.models.network import Network
from lottery_ticket.runs.attributes import changed
from lottery_ticket.runs.purity import check_draws, check_passes
from lottery_ticket.tickets.files import load_mask, load_weights, save_mask, save_weights


def rehearse(settings: Settings, network: Network, data: Data, allocation: Allocation, drawn: bool = True) -> None:
    """Build, train, evaluate, prune, keep and read back the network in small; InputError where that does not go well.

    Works on instances of its own: neither the network nor any generator is touched.

    Args:
        settings, network, data: as of the run.
        allocation: of which one stack of members is trained, on the first and last batches of an epoch, and evaluated.
        drawn: whether the run draws where its arms start; a ticket that is trained again has that with it.
    """
    with _explained(settings, data):
        if drawn:
            check_draws(settings, network)
        check_passes(settings, network, data)
        _train(settings, network, data, allocation)


def _train(settings: Settings, network: Network, data: Data, allocation: Allocation) -> None:
    """One step of training for each size of batch, an evaluation, and what a round keeps, written and read back."""
    seed = settings.seeds[0]
    members = math.ceil(len(settings.arms) * len(settings.seeds) / allocation.jobs)
    members = math.ceil(members / math.ceil(members / allocation.stack))
    mask, drawn = network.dense_mask(), [network.draw(seed, purpose) for purpose in ("init", "rehearsal")]
    stack = [Member("winning", seed, mask, drawn[index % 2]) for index in range(members)]
    short = settings.model_copy(update={"epochs": 1, "iterations": None, "evaluate_every": None, "stack": members})
    instance = replace(network, module=network.drawn(seed, "init"))
    small = _in_small(settings, data, members)
    trained, *_ = train(instance, stack, small, short, 0, snapshot_at=1)
    judged = evidence(settings, instance, small, 0, stack[0], trained.weights, drawn[0])
    scores = scores_by(settings.criterion, judged, settings.prune_first == "highest")
    smaller = prune(scores, mask, network.rates(settings))
    kept = {
        name: value.where(smaller[name], 0) if name in smaller else value for name, value in trained.weights.items()
    }
    with TemporaryDirectory() as work:
        save_mask(smaller, Path(work, "mask.safetensors"))
        save_weights(kept, Path(work, "weights.safetensors"), smaller)
        there = load_weights(Path(work, "weights.safetensors"))
        if wrong := changed(smaller, load_mask(Path(work, "mask.safetensors"))) or changed(kept, there):
            why = (
                f"has a tensor {wrong[0]} that is not read back as it was kept; allowed: dense tensors of plain numbers"
            )
            raise InputError("--model", settings.model, why)


def _in_small(settings: Settings, data: Data, members: int) -> Data:
    """The data cut down to a batch of each size that a round trains on and is evaluated on.

    Evaluations take many images at once, which on a CPU is only a matter of time: there at most a batch of them.
    """
    images, size = len(data.train), min(settings.batch_size, len(data.train))
    left = images % size if iterations_per_round(settings, images) >= math.ceil(images / size) else 0
    at_once = evaluated_at_once(settings, members, data.train.x.device)
    most = settings.batch_size if data.train.x.device.type == "cpu" else at_once
    last = min(most, *(len(part) % at_once or most for part in (data.test, data.validation)))
    return replace(
        data, train=_first(data.train, size + left), validation=_first(data.test, last), test=_first(data.test, most)
    )


def _first(images: Split, count: int) -> Split:
    return Split(images.x[:count], images.y[:count])


@contextmanager
def _explained(settings: Settings, data: Data) -> Iterator[None]:
    """Whatever a user's network raises within it, in one line that names the layer and what to change."""
    try:
        yield
    except LotteryTicketError:
        raise
    except Exception as error:
        layer = _layer(error)
        if "more than 1 value per channel" in str(error):
            images = len(data.train)
            why = (
                f"leaves a batch of one image, of {images:,} for training or of those for evaluation, which {layer} "
                f"cannot normalise; allowed: a batch size that leaves none or more than one"
            )
            raise InputError("--batch-size", settings.batch_size, why) from error
        allowed = f"allowed: a network that trains and evaluates on {data.train.x.device} in {settings.precision}"
        raise InputError("--model", settings.model, f"fails in {layer}: {one_line(error)}; {allowed}") from error


def _layer(error: Exception) -> str:
    """The innermost layer that an error came from, in words."""
    found, root = "a first round", None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        here = frame.f_locals
        layer, path = here.get("layer"), here.get("path")  # in the engine
        if isinstance(here.get("self"), nn.Module):
            layer = here["self"]
            root = root or layer
            path = next((path for path, each in root.named_modules() if each is layer), "")
        if isinstance(layer, nn.Module) and isinstance(path, str):
            found = f"{path or 'the network'} ({type(layer).__name__})"
    return found

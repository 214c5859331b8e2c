"""The networks that go by a name, with what is known of each: weights, multiply-adds, what can be done with it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from lottery_ticket import plugins
from lottery_ticket.config import Settings
from lottery_ticket.engine.stack import Stack
from lottery_ticket.errors import InputError, LotteryTicketError
from lottery_ticket.models.building import takes_width
from lottery_ticket.models.cost import Uncounted
from lottery_ticket.models.libraries import LIBRARIES, networks_of
from lottery_ticket.models.network import MODELS, Network, make_network
from lottery_ticket.tickets.compact import compact

NARROW = 0.125
"""The width at which the package's own networks are tried, which leaves the way through them as it is."""

LARGEST = 30_000_000
"""Weights of the largest network that is tried: trying takes a training step of two in float64."""


@dataclass(frozen=True)
class Known:
    """A network.

    Attributes:
        weights: the prunable ones; None where it does not take such images.
        parameters: all.
        multiply_adds: of one image's forward pass.
        stackable, compactable: whether it is trained in stacks and can be made small; None where that was not tried.
        why: what keeps it from being built, stacked or made small.
    """

    name: str
    weights: int | None = None
    parameters: int | None = None
    multiply_adds: int | None = None
    stackable: bool | None = None
    compactable: bool | None = None
    why: str = ""


def names(pattern: str | None = None) -> list[str]:
    """The names of networks that match a pattern (`*` and `?`); without one the package's own and installed guests'.

    InputError where none does.
    """
    own = [*MODELS, *(name for name in plugins.installed("models") if name not in MODELS)]
    if pattern is None:
        return own
    libraries = [library for library in LIBRARIES if fnmatchcase(f"{library}:", f"{pattern.partition(':')[0]}:")]
    there = [*own, *(name for library in libraries for name in networks_of(library))]
    found = [name for name in there if fnmatchcase(name, pattern)]
    if not found and pattern.startswith("mlp:") and not plugins.is_code(pattern):
        found = [pattern]
    if not found:
        allowed = f"allowed: a name or pattern of lt models, {', '.join(f'{library}:*' for library in LIBRARIES)}"
        raise InputError("GLOB", pattern, f"names no network; {allowed}")
    return found


def catalogue(
    wanted: Sequence[str], input_shape: tuple[int, ...], classes: int, width: float | None = None
) -> Iterator[Known]:
    """What is known of these networks for images of this shape, one after another."""
    for name in wanted:
        try:
            yield _known(Settings.model_validate({"model": name, "width": width}), input_shape, classes)
        except LotteryTicketError as error:
            why = error.allowed if isinstance(error, InputError) else str(error)
            yield Known(name, why=why)


def _known(settings: Settings, input_shape: tuple[int, ...], classes: int) -> Known:
    network = make_network(settings, input_shape, classes)
    inventory = network.inventory
    tried = network
    if takes_width(network.factory):
        narrow = settings.model_copy(update={"width": NARROW * (settings.width or 1)})
        tried = make_network(narrow, input_shape, classes)
    stackable, compactable, why = _tried(tried, input_shape) if tried.inventory.weights <= LARGEST else (None, None, "")
    counted = network.multiply_adds
    if isinstance(counted, Uncounted):
        count, why = None, why or f"not counted: {counted}"
    else:
        count = counted.image
    return Known(settings.model, inventory.weights, inventory.parameters, count, stackable, compactable, why)


def _tried(network: Network, input_shape: tuple[int, ...]) -> tuple[bool, bool, str]:
    unknown = Stack(network.module, input_shape).unknown
    try:
        compact(network.module, network.dense_mask(), input_shape)
    except InputError as error:
        why = error.allowed.partition(";")[0].removeprefix("cannot be made small: ")
        return unknown is None, False, f"does not stack: {unknown}" if unknown else f"not made small: {why}"
    return unknown is None, True, f"does not stack: {unknown}" if unknown else ""

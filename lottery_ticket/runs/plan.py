"""A run that has been checked and is ready to train."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from lottery_ticket.config import Settings, differences, load_preset, preset_names
from lottery_ticket.data.augment import augmentations
from lottery_ticket.data.findings import examine
from lottery_ticket.data.images import Images
from lottery_ticket.data.prepared import Data, DataInfo, prepare
from lottery_ticket.data.sources import load_images
from lottery_ticket.engine.allocation import Allocation, allocate
from lottery_ticket.engine.device import arithmetic, choose_device
from lottery_ticket.engine.executors import executor_named
from lottery_ticket.engine.job import check_length, iterations_per_round
from lottery_ticket.method.arms import check_arms, controls_among
from lottery_ticket.method.criteria import criterion_named
from lottery_ticket.models.network import Network, make_network
from lottery_ticket.runs.rehearsal import rehearse


@dataclass(frozen=True)
class Plan:
    """A run that has been checked and is ready to train.

    Attributes:
        settings: as given.
        allocation: how its members are spread over stacks and processes.
        iterations: of the dense round, at which every round ends.
        rounds: the rounds to train.
        data_notes: what the user should know of the data set, each a line.
    """

    settings: Settings = field(repr=False)
    images: Images
    data: Data
    network: Network = field(repr=False)
    allocation: Allocation
    iterations: int
    rounds: Sequence[int]
    data_notes: tuple[str, ...]

    @property
    def members(self) -> int:
        """Networks in a round: arms × seeds."""
        return len(self.settings.arms) * len(self.settings.seeds)

    @property
    def controls(self) -> tuple[str, ...]:
        """The arms that winning tickets have to beat."""
        return controls_among(self.settings.arms)

    @property
    def resolved(self) -> Settings:
        """The settings with what `auto` stands for here."""
        chosen = {"device": str(self.data.train.x.device), "stack": self.allocation.stack, "jobs": self.allocation.jobs}
        return self.settings.model_copy(update=chosen)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know before training begins, each a line."""
        return (*self.data_notes, *self.allocation.notes)


def make_plan(
    settings: Settings,
    experiments: int = 1,
    known: DataInfo | None = None,
    begun: bool = False,
    drawn: bool = True,
) -> Plan:
    """Check everything that can be wrong, load the data and build the network. InputError if something is.

    Args:
        settings: of the run.
        experiments: how many of these settings will be trained side by side.
        known: the data set of an earlier training; if it is the same, its images are standardised as they were then.
        begun: the run was begun with these settings, perhaps by an lt that took what does nothing.
        drawn: whether what is trained starts from θ₀, as all but a ticket does.
    """
    check_arms(settings)
    criterion_named(settings.criterion)
    executor_named(settings.executor)
    device = choose_device(settings.device)
    with arithmetic(settings, device):  # torch's threads are made here and count denormals as this one does
        images = load_images(settings.dataset, digest=known.digest if known else None)
        same = known if known and known.digest == images.digest else None
        data = prepare(images, settings.validation_size, device, same)
        network = make_network(settings, data.input_shape, data.classes)
        augmentations(settings.augment or (), data.input_shape)
        iterations = iterations_per_round(settings, len(data.train))
        if not begun:
            check_length(settings, len(data.train))
        allocation = allocate(settings, network, data, experiments=experiments)
        found, faults = examine(settings, images, data)
        if faults and not same:  # what was trained on before goes on
            raise faults[0]
        notes = tuple(f"{images.name}: {note}" for note in [*images.notes, *found])
        rehearse(settings, network, data, allocation, drawn)
    return Plan(settings, images, data, network, allocation, iterations, range(settings.rounds), notes)


def run_name(settings: Settings, preset: str) -> str:
    """A run's name: its preset and what differs from it, e.g. `shu-fc1 lr=0.1`."""
    if preset not in preset_names():
        return preset or f"{settings.model} {settings.dataset}"
    return " ".join([preset, *differences(settings, load_preset(preset))])

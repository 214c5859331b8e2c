"""A run that has been checked and is ready to train."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from lottery_ticket.config import OF_THE_MACHINE, Settings, differences, load_preset, preset_names
from lottery_ticket.data.augment import augmentations
from lottery_ticket.data.findings import examine
from lottery_ticket.data.images import Images
from lottery_ticket.data.prepared import Data, DataInfo, prepare, standardised_bytes
from lottery_ticket.data.sources import load_images
from lottery_ticket.data.streamed import Streamed
from lottery_ticket.engine.allocation import Allocation, allocate, by_threads
from lottery_ticket.engine.device import arithmetic, choose_device, room_for_images
from lottery_ticket.engine.executors import executor_named, trainer
from lottery_ticket.engine.job import Train, check_length, in_iterations, iterations_per_round
from lottery_ticket.method.arms import arm_named, check_arms, check_changes, check_network, controls_among
from lottery_ticket.method.schedule import check_schedule, check_shares
from lottery_ticket.models.cost import Uncounted
from lottery_ticket.models.libraries import made_for_channels
from lottery_ticket.models.network import Network, make_network
from lottery_ticket.runs.rehearsal import rehearse
from lottery_ticket.runs.stopwatch import Stopwatch
from lottery_ticket.store.limits import TAG, cut


@dataclass(frozen=True)
class Undertaking(ABC):
    """What is about to be trained, by this package's loop (`Plan`) or by a user's own (`find.OwnLoop`).

    Attributes:
        settings: as given, every length in iterations.
        rounds: the rounds to train.
    """

    settings: Settings = field(repr=False)
    network: Network = field(repr=False)
    rounds: Sequence[int]

    @property
    def members(self) -> int:
        """Networks in a round: arms × seeds."""
        return len(self.settings.arms) * len(self.settings.seeds)

    @property
    def controls(self) -> tuple[str, ...]:
        """The arms that winning tickets have to beat."""
        return controls_among(self.settings.arms)

    @property
    @abstractmethod
    def tags(self) -> dict[str, str]:
        """What the run in MLflow is told of where and on what it is trained."""

    @property
    @abstractmethod
    def length(self) -> str:
        """How long it trains, where and how, in words."""

    @property
    @abstractmethod
    def work(self) -> int:
        """What a whole round of all members comes to, as `Progress.total` counts it."""

    @property
    @abstractmethod
    def notes(self) -> Sequence[str]:
        """What the user should know before training begins, each a line."""

    @abstractmethod
    def trainer(self) -> AbstractContextManager[Train]:
        """What trains the members of a round, as long as the context lives."""


@dataclass(frozen=True)
class Plan(Undertaking):
    """A run that has been checked and is ready to train.

    Attributes:
        allocation: how its members are spread over stacks and processes.
        iterations: of the dense round, at which every round ends.
        data_notes: what the user should know of the data set, each a line.
    """

    images: Images
    data: Data
    allocation: Allocation
    iterations: int
    data_notes: tuple[str, ...]

    @property
    def resolved(self) -> Settings:
        """The settings with what `auto` stands for here."""
        chosen = {"device": str(self.data.train.x.device), "stack": self.allocation.stack, "jobs": self.allocation.jobs}
        return self.settings.model_copy(update=chosen)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know before training begins, each a line."""
        k = self.settings.rewound_at
        left = f"rewound to iteration {k}: rounds after the first go on there, {self.iterations - k} left"
        told = [f"multiply-adds are not counted: {self._uncounted}"] if self._uncounted else []
        if self.settings.prune_rate_conv is not None and "conv" not in self.network.kinds.values():
            told.append(f"prune_rate_conv {self.settings.prune_rate_conv} prunes nothing: no convolution is prunable")
        return (*([left] if k else []), *self.data_notes, *self.allocation.notes, *told)

    @property
    def _uncounted(self) -> str:
        """Why the multiply-adds of the network are not known; empty where they are."""
        counted = self.network.multiply_adds
        return str(counted) if isinstance(counted, Uncounted) else ""

    @property
    def tags(self) -> dict[str, str]:
        """The machine, what `auto` stands for on it, and what there is to know of the data set."""
        chosen = {f"lt.{name}": str(getattr(self.resolved, name)) for name in ("device", "stack", "jobs")}
        told = {"lt.data_notes": "\n".join(self.data_notes), "lt.not_counted": self._uncounted}
        return chosen | {name: cut(text, TAG) for name, text in told.items() if text}

    @property
    def length(self) -> str:
        """Rounds and iterations, and how the networks of a round are spread."""
        chosen = self.allocation
        together = "one network" if self.members == 1 else f"{chosen.stack} of {self.members} networks at a time"
        spread = together if chosen.jobs == 1 else f"{together} in each of {chosen.jobs} processes"
        return f"{len(self.rounds)} rounds of {self.iterations} iterations on {self.resolved.device}, {spread}"

    @property
    def work(self) -> int:
        """Iterations of all members that are trained."""
        trained = [arm for arm in self.settings.arms if arm_named(arm).training != "untrained"]
        return len(trained) * len(self.settings.seeds) * self.iterations

    def trainer(self) -> AbstractContextManager[Train]:
        """This process, or workers beside it."""
        return trainer(self.resolved, self.allocation, self.data.info)


def make_plan(
    settings: Settings,
    experiments: int = 1,
    known: DataInfo | None = None,
    begun: bool = False,
    drawn: bool = True,
    clock: Stopwatch | None = None,
) -> Plan:
    """Check everything that can be wrong, load the data and build the network. InputError if something is.

    Args:
        settings: of the run.
        experiments: how many of these settings will be trained side by side.
        known: the data set of an earlier training; if it is the same, its images are standardised as they were then.
        begun: the run was begun with these settings, perhaps by an lt that took what does nothing.
        drawn: whether what is trained starts from θ₀, as all but a ticket does.
        clock: of the run, for what the data takes.
    """
    clock = clock or Stopwatch()
    check_arms(settings)
    if drawn:  # a ticket has its mask
        check_schedule(settings)
    executor_named(settings.executor)
    device = choose_device(settings.device)
    with arithmetic(settings, device):  # torch's threads are made here and count denormals as this one does
        with clock.part("data"):
            images = load_images(settings.dataset, digest=known.digest if known else None)
            same = known if known and known.digest == images.digest else None
            data = prepare(images, settings.validation_size, device, same, settings.normalise, room_for_images(device))
        network = make_network(settings, data.input_shape, data.classes)
        check_network(settings, network)
        if drawn:
            check_shares(settings, network)
        augmentations(settings.augment or (), data.info, device)
        if not begun:
            check_length(settings, len(data.train))
            check_changes(settings, len(data.train))
        settings = in_iterations(settings, len(data.train))
        iterations = iterations_per_round(settings, len(data.train))
        allocation = allocate(settings, network, data, experiments=experiments)
        settings = by_threads(settings, allocation.threads)
        with clock.part("data"):
            found, faults = examine(settings, images, data)
        if faults and not same:  # what was trained on before goes on
            raise faults[0]
        if isinstance(data.train.x, Streamed):
            found.append(f"read as they are needed: they would take {standardised_bytes(images) / 2**30:.1f} GiB")
        notes = tuple(f"{images.name}: {note}" for note in [*images.notes, *found])
        if adapted := made_for_channels(settings.model, data.input_shape):
            notes = (adapted, *notes)
        rehearse(settings, network, data, allocation, drawn)
    return Plan(settings, network, range(settings.rounds), images, data, allocation, iterations, notes)


def run_name(settings: Settings, preset: str) -> str:
    """A run's name: its preset and what differs from it but of the machine, e.g. `shu-fc1 lr=0.1`."""
    if preset not in preset_names():
        return preset or f"{settings.model} {settings.dataset}"
    return " ".join([preset, *differences(settings, load_preset(preset), OF_THE_MACHINE)])

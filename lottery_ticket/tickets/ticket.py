"""A ticket: a mask, the values its survivors start from, and where it came from."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from lottery_ticket import plugins
from lottery_ticket.address import public
from lottery_ticket.config import Settings
from lottery_ticket.data.images import Images
from lottery_ticket.data.prepared import DataInfo, describe
from lottery_ticket.data.sources import at_hand, load_images
from lottery_ticket.engine.sparse.module import SurvivorsAlone
from lottery_ticket.errors import InputError, LotteryTicketError, one_line, unknown
from lottery_ticket.masks import Mask, Weights, density, under
from lottery_ticket.models.fingerprint import Fingerprint, shapes_of
from lottery_ticket.models.network import Network, make_network, outline
from lottery_ticket.models.paths import connected
from lottery_ticket.models.prunable import Inventory
from lottery_ticket.models.tensors import give, tensors_of
from lottery_ticket.names import is_name
from lottery_ticket.plugins import is_code
from lottery_ticket.randomness import forked
from lottery_ticket.record import Answer
from lottery_ticket.tickets.accuracy import check_accuracy
from lottery_ticket.tickets.apply import Held
from lottery_ticket.tickets.reference import in_store
from lottery_ticket.tickets.torch_masks import put_under_masks, read_past
from lottery_ticket.untrusted import in_markdown
from lottery_ticket.version import __version__


class Origin(BaseModel):
    """Where a ticket was found: the MLflow store, the run, its trajectory (arm and seed) and the round.

    `iteration` is that of round 0 whose values the ticket starts from, 0 for θ₀ and for values drawn anew; None where
    it is not told: the one that the settings rewind to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tracking_uri: str | None = None
    experiment_id: str | None = None
    run_id: str | None = None
    trajectory: str | None = None
    arm: str = "winning"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    round: Annotated[int, Field(ge=1, le=100_000)] = 1
    iteration: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    version: str = __version__
    torch: str = torch.__version__

    def as_tags(self) -> dict[str, str]:
        """MLflow tags of a run that starts from the ticket, and a note with a link to where it was found."""
        told = self.model_dump(include={"tracking_uri", "run_id", "trajectory", "arm", "seed", "round"})
        told["tracking_uri"] = where = public(self.tracking_uri) if self.tracking_uri else None
        tags = {f"lt.origin_{name}": str(value) for name, value in told.items() if value is not None}
        if self.run_id:
            page = f"#/experiments/{quote(str(self.experiment_id), safe='')}/runs/{quote(self.run_id, safe='')}"
            run = f"[{in_markdown(self.run_id)}]({page})"
            found = f"round {self.round} of {in_markdown(self.arm)}-seed{self.seed} of run {run}"
            tags["mlflow.note.content"] = f"Trains a ticket: {found} in {in_markdown(str(where))}."
        return tags


class Metrics(BaseModel):
    """What was measured where the ticket was found; accuracies on the test set, 0–1. None = not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    test_accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    dense_accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    matching: Answer | None = None
    winning: Answer | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Ticket:
    """A subnetwork found by a run.

    Attributes:
        mask: prunable tensor → bool tensor, True where the weight survives.
        weights: the values training starts from (θ₀, or θₖ with late rewinding); pruned weights are zero.
        settings: of the run that found it: architecture, data set, method.
        found_on: the data set; None where `lottery_ticket.find` found it, in a user's own loop.
        metrics: what was measured there.
        origin: the run, trajectory and round it comes from.
        trained: the trained weights, pruned ones zero, where they were asked for.
        fingerprint: what the network was that it is of; None where that is not known, or may be another now.
        initial: θ₀ of its seed, none pruned, where a store has it; no folder does.
        inventory: what of the network is prunable and what stays dense, where that was noted.

    Example:
        >>> ticket = lottery_ticket.Ticket.load(f"{run_id}:1")  # or a folder, or "models:/NAME@ALIAS"
        >>> ticket.density, ticket.mask["fc1.weight"].shape, ticket.metrics.winning
        (0.8, torch.Size([300, 784]), 'undecided')
        >>> net = ticket.module()  # a torch module that starts where the ticket does
        >>> held = ticket.apply_to(net)  # its pruned weights stay zero from now on
        >>> int((net.get_parameter("fc1.weight") != 0).sum())
        188160
        >>> ticket.save("tickets/again").as_posix()
        'tickets/again'
    """

    mask: Mask
    weights: Weights
    settings: Settings
    found_on: DataInfo | None
    metrics: Metrics = field(default_factory=Metrics)
    origin: Origin = field(default_factory=Origin)
    trained: Weights | None = None
    fingerprint: Fingerprint | None = None
    initial: Weights | None = None
    inventory: Inventory | None = None

    @property
    def density(self) -> float:
        """Survivors / prunable weights, 0–1."""
        return density(self.mask)

    @property
    def rewound_to(self) -> int:
        """The iteration of round 0 whose values it starts from: k with late rewinding, else 0."""
        told = self.origin.iteration
        return self.settings.rewind_iteration if told is None else told

    @property
    def name(self) -> str:
        """A name for files and titles, e.g. `fc1-mnist-winning-seed0-round10-1f2e3d4c`, with the run's first digits."""
        origin = self.origin
        where = [origin.arm, f"seed{origin.seed}", f"round{origin.round}", origin.run_id[:8]] if origin.run_id else []
        found = [self.settings.model, self.found_on.name if self.found_on else self.settings.dataset, *where]
        return re.sub(r"[^\w.-]+", "-", "-".join(found)).lstrip(".-")

    @property
    def data(self) -> DataInfo:
        """The data set it was found on; InputError where lt does not know it, nor the network."""
        if self.found_on is None:
            why = "was found by lottery_ticket.find, with a network, data and training that lt does not know"
            allowed = "allowed: what needs none of them (lt pull, lt diff, Ticket.apply_to, Ticket.save)"
            raise InputError("TICKET", self.name, f"{why}; {allowed}")
        return self.found_on

    def __repr__(self) -> str:
        """The ticket in one line."""
        trained = ", trained" if self.trained else ""
        return f"<Ticket {self.name}: {100 * self.density:.3g} % of the weights left{trained}>"

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        tracking_uri: str | None = None,
        trained: bool = True,
        model: str | None = None,
        check: bool = True,
        changed_model: bool = False,
    ) -> "Ticket":
        """A ticket from a folder, a run or the MLflow Model Registry. Runs no code that stands in it.

        Where its data set is at hand and its network may be built, the trained network must have the accuracy that was
        logged of it.

        Args:
            source: the path of a folder that `lt pull` wrote, `runs:/RUN[:ROUND][:ARM-seedN]` (default: the smallest
                winning ticket), or `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
            tracking_uri: of the MLflow store; default MLFLOW_TRACKING_URI, else SQLite at mlruns/mlflow.db.
            trained: bring the trained weights along where there are some.
            model: see `network`; needed for tickets of a run that start from values drawn anew.
            check: compare with the logged accuracy.
            changed_model: the network may be another now than when the ticket was found, but for its tensors.

        Raises:
            InputError: there is no such ticket, or its files are damaged or not what they must be.
            LotteryTicketError: the store failed, or the trained network is not the one that was measured.
        """
        if in_store(str(source)):
            loaded = plugins.place("store").find(
                str(source), tracking_uri=tracking_uri, trained=trained, model=model, changed_model=changed_model
            )
        else:
            loaded = plugins.place("folder").read_folder(Path(source))
        must_be_of(loaded.settings, model)
        loaded = replace(
            loaded,
            trained=loaded.trained if trained else None,
            fingerprint=None if changed_model else loaded.fingerprint,
        )
        if check:
            loaded.check(model)
        return loaded

    def check(self, model: str | None = None) -> str | None:
        """Compare the trained network's accuracy with the logged one; why it cannot be, where it cannot.

        LotteryTicketError where it is not the network that was measured, see `accuracy.check_accuracy`.
        """
        logged = self.metrics.test_accuracy
        if self.trained is None or logged is None:
            return "it has no trained weights" if logged is not None else "no accuracy was logged"
        if self.found_on is None:
            return "it was measured by a function of its user's (lottery_ticket.find)"
        if is_code(self.settings.model) and model is None:
            return f"--model {self.settings.model} would allow its code to be run"
        if not at_hand(self.settings.dataset):
            return f"the data set {self.settings.dataset} is not here"
        module = self.module(trained=True, model=model).eval()
        try:
            images = self.images()
        except InputError as error:
            return str(error)
        check_accuracy(module, logged, self.settings, self.data, images)
        return None

    def save(self, folder: str | Path) -> Path:
        """Write the ticket's folder, which appears whole or not at all. InputError if it is there already."""
        return plugins.place("folder").write_folder(self, Path(folder))

    def fault(self) -> str | None:
        """What is wrong with the tensors of the ticket, in words; None where nothing is."""
        for name in [*self.weights, *self.mask]:
            if not is_name(name):
                return f"has a tensor named {name!r}"
        for part, values in (("start", self.weights), ("trained", self.trained)):
            if values is None:
                continue
            if values.keys() != self.weights.keys() or not self.mask.keys() <= values.keys():
                return f"has other {part} tensors than it should"
            for name, value in values.items():
                kept = self.mask.get(name)
                if value.shape != self.weights[name].shape or (kept is not None and kept.shape != value.shape):
                    return f"has a tensor {part}:{name} of shape {tuple(value.shape)}, unlike the others"
                if value.is_floating_point() and not value.isfinite().all():
                    return f"has values in {part}:{name} that are not finite"
                if kept is not None and value[~kept].any():
                    return f"has pruned weights in {part}:{name} that are not zero"
        for name, kept in self.mask.items():
            if kept.dtype != torch.bool or not kept.any():
                return f"has a mask of {name} without survivors"
        counts = {name: kept.numel() for name, kept in self.mask.items()}
        if self.inventory and self.inventory.prunable != counts:
            return "says that other weights are prunable than it has masks of"
        return None

    def images(self, dataset: str | None = None) -> Images:
        """The data set that the ticket was found on; InputError where it is not there, or another.

        Args:
            dataset: the same `module:name` as in the ticket, to say that its code may be run.
        """
        digest = self.data.digest
        if is_code(self.settings.dataset) and dataset != self.settings.dataset:
            allowed = f"allowed: {self.settings.dataset}, which runs that code"
            raise InputError("--dataset", dataset, f"is not what this ticket was found on; {allowed}")
        images = load_images(self.settings.dataset, digest=digest)
        if images.digest != digest:
            allowed = f"allowed: the data of the ticket, digest {digest}"
            raise InputError("--dataset", self.settings.dataset, f"has the digest {images.digest}; {allowed}")
        return images

    def network(self, model: str | None = None) -> Network:
        """The architecture, ready to build.

        Args:
            model: the same `package.module:factory` as in the ticket, to say that its code may be run; a ticket alone
                makes nothing but the package's own models and those of torchvision and timm.
        """
        data = self.data
        # a ticket may lie about sizes: make room only for those that it has
        if (drawn := outline(self.settings, data.input_shape, data.classes)) is not None:
            self._must_fit(drawn)
        made = network_of(self.settings, data, model, self.fingerprint)
        self._must_fit(made.module)
        if made.kinds.keys() != self.mask.keys():
            allowed = f"allowed: masks of {', '.join(made.kinds)}"
            raise InputError("TICKET", self.name, f"has masks of {', '.join(self.mask)}; {allowed}")
        return made

    def _must_fit(self, module: nn.Module) -> None:
        had, has = (Fingerprint(tensors=shapes_of(each)) for each in (self.weights, tensors_of(module)))
        had.must_be(has, self.settings.model, overruling=None)

    def module(
        self, trained: bool = False, model: str | None = None, engine: Literal["dense", "sparse"] = "dense"
    ) -> nn.Module:
        """A torch module with the values the ticket starts from, pruned weights zero.

        It takes standardised images: `ticket.data.standardise`. To train it, see `apply_to`: the module itself does
        not know which weights are pruned.

        Args:
            trained: the trained weights instead.
            model: see `network`.
            engine: `sparse` for a module without the pruned weights, which multiplies survivors alone and is trained by
                any optimiser as it is, on a CPU: see `lottery_ticket.engine.sparse.module.SurvivorsAlone`. InputError
                for a network that it does not know.
        """
        if engine not in ("dense", "sparse"):
            raise unknown("engine", engine, ["dense", "sparse"])
        network = self.network(model)
        with forked():
            built = network.build()
        give(built, self.values(trained))
        return SurvivorsAlone(built, self.mask, self.data.input_shape) if engine == "sparse" else built

    def connected(self, model: str | None = None) -> bool:
        """Whether a path of surviving weights leads from the images to the scores; `model`: see `network`."""
        return connected(self.network(model).module, self.mask, self.data.input_shape)

    def values(self, trained: bool = False) -> Weights:
        """The values the ticket starts from, or the trained ones; LotteryTicketError where it has none."""
        if not trained:
            return self.weights
        if self.trained is None:
            raise LotteryTicketError("the ticket has no trained weights (lt pull --trained brings them)")
        return self.trained

    def apply_to(self, module: nn.Module, trained: bool = False) -> Held:
        """Give a module the ticket's values and keep its pruned weights at zero, whatever trains it.

        See `Held`. InputError if the module has not the ticket's parameters.
        """
        try:
            give(module, self.values(trained))
        except RuntimeError as error:
            raise InputError("module", type(module).__name__, f"does not take the ticket: {one_line(error)}") from None
        return Held(module, self.mask)

    def to_prune(self, trained: bool = False, model: str | None = None) -> nn.Module:
        """The module of the ticket under the masks of `torch.nn.utils.prune` (`weight_orig`, `weight_mask`).

        Weights that the network reads without calling their layer, as attention does, are kept under their masks too.
        It can be copied (`copy.deepcopy`), though not between a forward pass and its backward pass.
        """
        return put_under_masks(self.module(trained, model), self.mask, self.read_past_hooks(model))

    def read_past_hooks(self, model: str | None = None) -> dict[str, str]:
        """The prunable tensors that `torch.nn.utils.prune` alone cannot keep, see `torch_masks.read_past`."""
        images = torch.randn(2, *self.data.input_shape, generator=torch.Generator().manual_seed(0))
        return read_past(self.network(model).module, self.mask, images)

    @classmethod
    def from_prune(cls, module: nn.Module, settings: Settings) -> "Ticket":
        """A ticket out of a module pruned with `torch.nn.utils.prune`; its present values are where it starts.

        Of a tensor without a mask (after `prune.remove`, say) the weights that are exactly zero count as pruned, and a
        warning says so. One that is zero everywhere, as some layers start, survives whole.

        Args:
            module: of the architecture that `settings.model` names.
            settings: the model, the data set (which is read) and how to train.

        Raises:
            InputError: the module has other tensors than the architecture, or a mask leaves nothing of a tensor.
        """
        info = describe(load_images(settings.dataset), settings.validation_size, settings.normalise)
        network = make_network(settings, info.input_shape, info.classes)
        state = {name: value.detach().cpu().clone() for name, value in tensors_of(module).items()}
        masks = {name: state.pop(f"{name}_mask").bool() for name in network.kinds if f"{name}_mask" in state}
        values = {name.removesuffix("_orig") if name[:-5] in masks else name: value for name, value in state.items()}
        expected = tensors_of(network.module)
        if _shapes(values) != _shapes(expected):
            allowed = f"allowed: a {settings.model}, its weights pruned or not"
            raise InputError("module", type(module).__name__, f"has other tensors than {settings.model}; {allowed}")
        if empty := [name for name, kept in masks.items() if not kept.any()]:
            allowed = "allowed: masks with survivors"
            raise InputError("module", type(module).__name__, f"has nothing left of {', '.join(empty)}; {allowed}")
        inferred = {name: values[name] != 0 for name in network.kinds if name not in masks and values[name].any()}
        if zeros := [name for name, kept in inferred.items() if not kept.all()]:
            warnings.warn(f"there are no masks of {', '.join(zeros)}: their zeros count as pruned", stacklevel=2)
        mask = network.dense_mask() | masks | inferred
        start = under(mask, {name: values[name] for name in expected})
        return cls(mask, start, settings, info, inventory=network.inventory)


def must_be_of(settings: Settings, model: str | None) -> None:
    """InputError where a model is named that is not the ticket's."""
    if model not in (None, settings.model):
        runs = ", which runs that code" if is_code(settings.model) else ", or no --model"
        raise InputError("--model", model, f"is not what this ticket is of; allowed: {settings.model}{runs}")


def network_of(settings: Settings, data: DataInfo, model: str | None, was: Fingerprint | None) -> Network:
    """The architecture of a ticket, which must be what it `was` if that is known; see `Ticket.network`."""
    must_be_of(settings, model)
    if is_code(settings.model) and model is None:
        allowed = f"allowed: {settings.model}, which runs that code"
        raise InputError("--model", model, f"is not what this ticket is of; {allowed}")
    made = make_network(settings, data.input_shape, data.classes)
    if was:
        was.must_be(made.fingerprint, settings.model)
    return made


def _shapes(values: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in values.items()}

"""Every setting of a run, validated, with unit and default. One field = one flag = one MLflow param."""

import math
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo

from lottery_ticket import shipped
from lottery_ticket.errors import InputError, unknown
from lottery_ticket.plugins import is_code
from lottery_ticket.untrusted import read_toml

DEFAULT_PRESET = "quick"

JUDGING = ("verdict_tolerance", "verdict_level")
"""Settings that judge what was found; they never travel with a stored run to who judges it anew."""

OF_THE_MACHINE = ("engine_threads", "executor", "stack", "jobs")
"""Settings that say how many networks are trained at a time, and by whom; they stand in no run's name."""

NOT_TRAINING = ("device", "engine", *OF_THE_MACHINE, "checkpoint_precision", *JUDGING)
"""Settings that do not change what a run finds: where it is trained, how it is kept, how it is judged."""

GAMMA = 0.1
"""The default of `gamma`."""

OF_CHANGES = ("mask_every", "mask_from", "mask_until", "mask_fraction")
"""Settings of arms whose masks change while they are trained."""

OF_PRUNING = ("criterion", "prune_first", "prune_steps", "rewind_iteration")
"""Settings of what is trained and then pruned, of which a mask that is learned knows nothing."""

OF_A_TICKET = (
    *("model", "width", "init", "bias_init", "bn_init", "rounds", "rewind_iteration"),
    *("prunable", "keep_dense", "prune_only", "output_layer", "scope", "pruning", "prune_steps", "criterion"),
    *("prune_first", "prune_rate", "prune_rate_conv", "prune_rate_output", "density", "tensor_densities"),
)
"""Settings that a ticket brings along: the network, what is pruned of it, and how it was found."""

MOST_SEEDS = 1000

MOST_FROM_FILES = 1000
"""Arms × seeds for which a file may ask: each is a run in MLflow. More have to be asked for on the command line."""

OF_THE_LOOP = (
    *("validation_size", "normalise", "augment", "epochs", "iterations", "batch_size", "evaluate_every", "frozen"),
    *("optimizer", "lr", "momentum", "weight_decay", "weight_decay_on", "label_smoothing"),
    *("schedule", "milestones", "gamma", "warmup_iterations", "device", "precision", "stack", "jobs"),
    *("engine", "engine_threads", "executor", "width", *OF_CHANGES),
)
"""Settings of this package's own training loop, which say nothing of a run that a user's loop trains."""


NORMALISATIONS = ("data", "unit", "imagenet")
"""Values of `normalise` that are no numbers."""

_AS_NUMBERS = {"unit": "0/1", "imagenet": "0.485,0.456,0.406/0.229,0.224,0.225"}
"""What those of them are in numbers that do not depend on the data; open_lth takes ImageNet's for CIFAR-10 too."""


def _names(value: object) -> object:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def _seeds(value: object) -> object:
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",")]
        value = int(parts[0]) if len(parts) == 1 else [part for part in parts if part]
    if isinstance(value, int) and not isinstance(value, bool):
        if value > MOST_SEEDS:
            raise ValueError("too many seeds")
        return tuple(range(value))
    return value


def _length(value: object) -> object:
    """Iterations as a whole number; epochs as text, `5ep`."""
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and (epochs := re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)ep", text)):
        return f"{epochs[1]}ep" if float(epochs[1]) else 0
    if isinstance(text, str) and re.fullmatch(r"\d{1,18}(it)?", text):
        return int(text.removesuffix("it"))
    if isinstance(text, int | float) and text >= 0 and float(text).is_integer():
        return int(text)
    raise ValueError("no length")


def _length_over_0(value: object) -> object:
    if (length := _length(value)) == 0:
        raise ValueError("no length over 0")
    return length


def _milestone(value: object) -> object:
    """A length over 0, or a part of a round between 0 and 1."""
    try:
        part = float(value) if isinstance(value, str | float) else 0.0
    except ValueError:
        part = 0.0
    return part if 0 < part < 1 else _length_over_0(value)


def _round_length(layer: dict[str, Any]) -> dict[str, Any]:
    """Settings whose `epochs` or `iterations` is a length with its unit, e.g. `160ep`, as the one of the two it is."""
    for name, other in (("epochs", "iterations"), ("iterations", "epochs")):
        given = layer.get(name)
        if isinstance(given, str) and (told := re.fullmatch(r"\s*(\d{1,18})(ep|it)\s*", given)):
            unit = "epochs" if told[2] == "ep" else "iterations"
            if unit == name:
                layer = layer | {name: int(told[1])}
            elif layer.get(other) is None:
                layer = {key: value for key, value in layer.items() if key not in (name, other)} | {unit: int(told[1])}
    return layer


def _normalise(value: object) -> object:
    if value not in NORMALISATIONS:
        normalisation_numbers(str(value))
    return value


def normalisation_numbers(normalise: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of a `normalise` that is numbers; ValueError where it is none."""
    means, _, stds = _AS_NUMBERS.get(normalise, normalise).partition("/")
    mean, std = (tuple(float(each) for each in part.split(",")) for part in (means, stds))
    if len(mean) != len(std) or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise ValueError("as many means as standard deviations, which are over 0")
    return mean, std


def _densities(value: object) -> object:
    """The densities of tensors, `PATTERN=0.1`, each 0–1, or one text without `=`, which names a ticket."""
    parts = _names(value)
    if not isinstance(parts, list | tuple) or (len(parts) != 1 and not all("=" in str(part) for part in parts)):
        raise ValueError("no densities")
    told = [str(part).rpartition("=") for part in parts if "=" in str(part)]
    if not all(name.strip() and 0 < float(number) <= 1 for name, _, number in told):
        raise ValueError("no densities")
    return tuple(parts)


class _Words(str):
    """What a type takes, in words, where they are not read off it."""


_OF_LENGTH = "(iterations) or a length as 5ep or 500it"
if TYPE_CHECKING:  # what they are once `engine.job.in_iterations` has resolved them
    Length = int
    LengthOver0 = int
    Milestones = tuple[int, ...]
    Milestone = int
else:
    Length = Annotated[int | str, BeforeValidator(_length), _Words(f"a whole number ≥ 0 {_OF_LENGTH}")]
    LengthOver0 = Annotated[int | str, BeforeValidator(_length_over_0), _Words(f"a whole number ≥ 1 {_OF_LENGTH}")]
    Milestone = Annotated[
        int | float | str,
        BeforeValidator(_milestone),
        _Words("a length as 80ep or 32000it, or a part of a round as 0.5"),
    ]
    Milestones = Annotated[
        tuple[Annotated[int | float | str, BeforeValidator(_milestone)], ...],
        BeforeValidator(lambda value: _names(value.rstrip(", ") if isinstance(value, str) else value)),
        Field(min_length=1),
        _Words("lengths as 80ep,120ep or 32000it,48000it, or parts of a round as 0.5,0.75"),
    ]
RoundLength = Annotated[int, Field(ge=1), _Words("a whole number ≥ 1 or a length as 160ep or 62500it")]
Names = Annotated[tuple[str, ...], BeforeValidator(_names), Field(min_length=1), _Words("names separated by commas")]
Densities = Annotated[
    tuple[str, ...],
    BeforeValidator(_densities),
    Field(min_length=1),
    _Words("TENSOR=DENSITY as conv*=0.5,fc1.weight=0.05, or one ticket as tickets/mine or runs:/RUN:10"),
]
Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=2**32)], ...],
    BeforeValidator(_seeds),
    Field(min_length=1, max_length=MOST_SEEDS),
    _Words(f"a count (3) or whole numbers separated by commas (0,7,9), at most {MOST_SEEDS:,}"),
]
Normalise = Annotated[
    str,
    BeforeValidator(_normalise),
    _Words("data, unit, imagenet or MEAN,…/STD,… as 0.49,0.48,0.45/0.25,0.24,0.26"),
]
Rate = Annotated[float, Field(gt=0, lt=1)]


class Settings(BaseModel):
    """What a run does: data, network, method, training, machine and verdict.

    The defaults are those of the preset `quick`. Sources of the defaults: Frankle & Carbin 2019
    (arXiv 1803.03635), section 2 and appendix, for LeNet-300-100 on MNIST. They cannot be changed once made, which
    `load_preset` does with checks across settings.

    Example:
        >>> settings = lottery_ticket.load_preset("shu-fc1", rounds=5)
        >>> isinstance(settings, lottery_ticket.Settings), settings.rounds, settings.arms, settings.as_params()["lr"]
        (True, 5, ('winning', 'reinit'), '0.0012')
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(
        "fc1",
        description="network: fc1, resnet20, another of `lt models`, mlp:300-100, torchvision:NAME, timm:NAME or your "
        "own as module:factory",
    )
    width: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="times the published channels and hidden units of each layer (0.25 = a quarter)",
    )
    init: Literal[
        "xavier-normal", "xavier-uniform", "kaiming-normal", "kaiming-uniform", "signed-constant", "module"
    ] = Field(
        "xavier-normal",
        description="initial weights of linear and convolutional layers; signed-constant: kaiming-normal's standard "
        "deviation with random signs; module keeps the module's own",
    )
    bias_init: Literal["zero", "normal"] = Field(
        "zero", description="initial biases of those layers: 0 or N(0, 1); init=module keeps the module's own"
    )
    bn_init: Literal["module", "one", "uniform"] = Field(
        "module", description="initial scales of batch normalisation: the module's own (1 in most), 1 or U(0, 1)"
    )
    dataset: str = Field(
        "mnist", description="data set: a name of `lt data`, folder:PATH or hf:PATH of pictures, or an .npz file"
    )
    validation_size: int = Field(
        5000, ge=0, description="training images held out for the early-stopping point; 0 = none"
    )

    normalise: Normalise = Field(
        "data",
        description="mean and standard deviation that images are standardised by: those of the images trained on, of "
        "ImageNet, none (unit: only scaled to 0-1) or numbers, for one or each channel, in units of the largest value",
    )

    arms: Names = Field(("winning", "reinit"), max_length=100, description="arms, separated by commas")
    seeds: Seeds = Field((0,), description="a count (3 = seeds 0, 1, 2) or a list (0,7,9)")

    rounds: int = Field(15, ge=1, le=100_000, description="trainings: round 0 (dense) to rounds - 1")
    epochs: RoundLength | None = Field(2, description="epochs a round; or give iterations")
    iterations: RoundLength | None = Field(None, description="iterations (batches) a round, instead of epochs")
    prune_rate: Rate = Field(0.2, description="fraction of the surviving weights pruned after each round")
    prune_rate_conv: Rate | None = Field(None, description="the same for convolutions, if different")
    prune_rate_output: Rate | None = Field(None, description="the same for the output layer, if different")
    density: Rate | None = Field(
        None,
        description="part of the prunable weights left in the last round, instead of prune_rate, which is then the "
        "rate that leads there",
    )
    tensor_densities: Densities | None = Field(
        None, description="the same of each tensor by name or pattern, the first that fits, or those of a ticket"
    )
    scope: Literal["layer", "global", "erk", "smart-ratio"] = Field(
        "layer",
        description="each tensor loses its rate, or one threshold for the whole network, or each is given its share of "
        "the whole's density (docs/criteria.md)",
    )
    criterion: str = Field("magnitude", description="what is pruned first: magnitude, or another of `lt plugins`")
    prune_first: Literal["lowest", "highest"] = Field(
        "lowest", description="which of the criterion's scores go first; highest inverts it"
    )
    pruning: Literal["auto", "iterative", "one-shot", "init"] = Field(
        "auto",
        description="each round's mask from the last one's trained weights, from the dense network's, or before "
        "training; auto: as the criterion is meant",
    )
    prune_steps: Literal["auto"] | Annotated[int, Field(ge=1, le=10_000)] = Field(
        "auto", description="steps in which the weights of a mask go, each scored anew; auto: as the criterion is meant"
    )
    prunable: Literal["products", "layers"] = Field(
        "products",
        description="which weights are pruned: all that a forward pass multiplies with, or those of linear and "
        "convolutional layers alone, the last one registered as output layer (as lt 0.3 did)",
    )
    keep_dense: Names | None = Field(None, description="tensors that are never pruned, as patterns (head.*,*.qkv.*)")
    prune_only: Names | None = Field(None, description="the only tensors that are pruned, as patterns")
    output_layer: str | None = Field(None, description="the output layer or tensor, where it is not the graph's last")
    rewind_iteration: Length = Field(
        0, description="survivors go back to their values at this iteration k of round 0; 0 = θ₀"
    )
    rewind_steps: Literal["remaining", "all", "restart"] = Field(
        "remaining",
        description="from θₖ train the iterations that remain after k, or all, round 0 then k more, or (as lt 0.3) "
        "begin again, k more than dense",
    )
    frozen: Literal["pruned", "non-positive"] = Field(
        "pruned",
        description="weights without gradient: the pruned ones, or all below 1e-6 (a published code's fault)",
    )

    optimizer: Literal["adam", "adamw", "sgd", "sgd-nesterov"] = Field(
        "adam", description="optimiser, new in each round and where late rewinding goes on"
    )
    lr: float = Field(1.2e-3, gt=0, description="learning rate")
    momentum: float = Field(0.0, ge=0, lt=1, description="momentum of sgd")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty added to the gradient; with adamw, decay by its own")
    weight_decay_on: Literal["all", "weights"] = Field(
        "all", description="what decays: all parameters, or weights alone, not biases and normalisation"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="part of the target spread evenly over the classes")
    augment: Names | None = Field(
        None,
        description="what is done to the images of each batch, in this order: flip, crop or others of `lt plugins`",
    )
    batch_size: int = Field(60, ge=1, le=10**9, description="images a batch")
    schedule: Literal["constant", "cosine", "step"] = Field(
        "constant", description="learning rate within a round; step: times gamma at each milestone"
    )
    milestones: Milestones | None = Field(None, description="where schedule step lowers the learning rate")
    gamma: float = Field(GAMMA, gt=0, lt=1, description="by what schedule step multiplies the learning rate")
    warmup_iterations: Length = Field(0, description="length of linear learning-rate warm-up")
    mask_every: LengthOver0 = Field(
        100, description="length between changes of the masks of arms whose masks change in training (docs/arms.md)"
    )
    mask_from: Length = Field(0, description="length of training before these masks begin to change")
    mask_until: Milestone | None = Field(
        None, description="where in a round they stop changing, by then as sparse as in the end; default: 0.75"
    )
    mask_fraction: Rate = Field(
        0.3,
        description="part of the weights that goes and grows elsewhere at a change, less and less by a cosine "
        "(arms set, rigl)",
    )
    evaluate_every: LengthOver0 | None = Field(
        None, description="length between evaluations; each epoch's end is always evaluated"
    )

    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    precision: Literal["float32", "tf32", "bfloat16", "medium"] = Field(
        "float32",
        description="products in training; medium is what lt 0.3 called bfloat16: on a CPU, of fully connected layers, "
        "what the processor does with torch's matmul precision of that name",
    )
    engine: Literal["auto", "dense", "sparse"] = Field(
        "auto",
        description="pruned weights of linear layers and convolutions multiplied as zeros (dense) or not at all "
        "(sparse, on a CPU in float32); auto: not at all where that is faster at the density of the round",
    )
    engine_threads: int | None = Field(
        None,
        ge=1,
        description="threads by which engine auto chooses; default: of each process, which the run then keeps",
    )
    executor: str = Field(
        "auto", description="who trains: auto (as jobs says), here, workers or another of `lt plugins`"
    )
    stack: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="networks trained as one set of tensors: auto or a number"
    )
    jobs: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = Field(
        "auto", description="processes that train, on a CPU: auto or a number"
    )

    checkpoint_precision: Literal["bfloat16", "float32"] = Field(
        "bfloat16", description="to which the trained weights are rounded when they are kept, after all else is done"
    )

    verdict_tolerance: float = Field(
        0.002,
        ge=0,
        lt=1,
        description="accuracy a matching ticket may lose against dense (0.002 = 0.2 points)",
    )
    verdict_level: float = Field(0.95, gt=0.5, lt=1, description="confidence level of the verdict")

    _preset: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and dict(self) == dict(other)  # wherever they come from

    def __hash__(self) -> int:
        return hash(tuple(self))

    @property
    def preset(self) -> str:
        """The preset that `load_preset` made them from, copies with other values too; empty where there was none."""
        return self._preset

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean(cls, value: object) -> object:
        if isinstance(value, bool):  # which Python takes for 0 or 1
            raise ValueError("no setting is a yes or no")
        return value

    @property
    def rewound_at(self) -> int:
        """The iteration at which training from the rewound values goes on: with it schedule, warm-up and data order."""
        return 0 if self.rewind_steps == "restart" else self.rewind_iteration

    @property
    def more_than_dense(self) -> int:
        """Iterations of training that rewound values have behind them at a round's end and the dense network has not.

        None, but for rounds that begin again from θₖ (`rewind_steps = restart`): k.
        """
        return self.rewind_iteration - self.rewound_at

    def as_params(self) -> dict[str, str]:
        """Every setting as text, one per field, as a flag would take it (`None` = not set)."""
        return {name: as_text(value) for name, value in self}

    def training(self) -> dict[str, str]:
        """The settings, as text, that make two runs of one data set the same training."""
        return {name: value for name, value in self.as_params().items() if name not in NOT_TRAINING}


def settings_then(told: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as something stored tells them, with what was done then in place of fields it was written before.

    A field that is new changes nothing of what is stored: where its default is not what runs did without it, that
    stands here; so does a value whose meaning has changed. All that reads settings back goes through this.

    Args:
        told: name of the field → value, of a `settings.json`, a ticket or a run's params; may hold other keys too.
    """
    then: dict[str, Any] = {}
    if "rewind_steps" not in told:  # lt 0.3
        if told.get("precision") == "bfloat16":
            then["precision"] = "medium"
        if str(told.get("rewind_iteration", 0)) != "0":
            then["rewind_steps"] = "restart"
    if "engine" not in told:  # lt 0.4
        then["engine"] = "dense"
    if "prunable" not in told:  # lt 0.3; in the package's networks both rules find the same weights
        then["prunable"] = "layers" if is_code(str(told.get("model", ""))) else "products"
        then |= dict.fromkeys(["keep_dense", "prune_only", "output_layer"])
    if "pruning" not in told and str(told.get("criterion", "magnitude")) != "magnitude":  # lt 0.4: a guest's
        then |= {"pruning": "iterative", "prune_steps": 1}
    return dict(told) | then


def params_then(params: Mapping[str, str]) -> dict[str, str]:
    """`settings_then` for values as text."""
    return {name: as_text(value) for name, value in settings_then(params).items()}


def as_text(value: object) -> str:
    """A setting's value the way a flag takes it: sequences joined by commas."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) + ("," if len(value) == 1 and isinstance(value[0], int) else "")
    return str(value)


StoredSettings = Annotated[
    Settings, BeforeValidator(lambda told: settings_then(told) if isinstance(told, Mapping) else told)
]
"""Settings in a stored document; see `settings_then`."""


def flag(name: str) -> str:
    """The command-line flag of a field: `prune_rate` is `--prune-rate`."""
    return "--" + name.replace("_", "-")


def preset_names() -> list[str]:
    """The packaged presets, `quick` first.

    Example:
        >>> lottery_ticket.preset_names()[0]
        'quick'
    """
    return sorted(shipped.names("presets"), key=lambda name: (name != DEFAULT_PRESET, name))


def preset_text(name: str, option: str = "--preset") -> str:
    """The TOML text of a preset, comments included. InputError if there is none of that name."""
    if name not in preset_names():
        raise unknown(option, name, preset_names())
    return shipped.text("presets", name, option)


def load_preset(name: str = DEFAULT_PRESET, **overrides: Any) -> Settings:
    """The settings of a preset with fields replaced.

    Args:
        name: of the preset; see `preset_names`.
        overrides: fields of `Settings`, as values or as text as a flag takes it.

    Raises:
        InputError: an unknown preset or field, or a value that is not allowed.

    Example:
        >>> settings = lottery_ticket.load_preset("shu-fc1", rounds=5, lr=0.1, seeds=3)
        >>> settings.rounds, settings.lr, settings.seeds, settings.batch_size
        (5, 0.1, (0, 1, 2), 60)
    """
    settings = merge(preset_layer(name), (overrides, None))
    settings._preset = name
    return settings


def load_settings(preset: str | None, config: Path | None, overrides: Mapping[str, Any]) -> tuple[Settings, str]:
    """Preset, then config file, then overrides (flags); returns the settings and the preset's name.

    A config file may name the preset it starts from with `preset = "…"`; `--preset` goes before it.
    """
    layers = []
    if config is not None:
        values = read_toml(config, "--config")
        named = values.pop("preset", None)
        if named is not None and named not in preset_names():
            raise unknown(f"{config}: preset", named, preset_names())
        preset = preset or named
        layers.append((values, str(config)))
    preset = preset or DEFAULT_PRESET
    return merge(preset_layer(preset), *layers, (dict(overrides), None)), preset


Layer = tuple[dict[str, Any], str | None]


def preset_layer(name: str, option: str = "--preset") -> Layer:
    """A preset as the lowest layer for `merge`; InputError naming the option if there is none of that name."""
    return tomllib.loads(preset_text(name, option)), f"preset {name}"


def merge(*layers: Layer) -> Settings:
    """Settings from layers of (values, file they stand in or None for flags), later ones first.

    A layer that sets `epochs` unsets `iterations` of the layers below it, and the other way round; so do a prune rate
    and a density, which gives the rate. What is code (`module:name`) must stand in the flags: no file has it run.
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for given, file in layers:
        layer = _round_length(given)
        for name in given:
            if name not in Settings.model_fields:
                where = flag(name) if file is None else f"{file}: key"
                raise unknown(where, name, Settings.model_fields)
            origin[name] = flag(name) if file is None else f"{file}: {name}"
        for name in layer.keys() - given.keys():  # the other one of epochs and iterations
            origin[name] = origin["iterations" if name == "epochs" else "epochs"]
        values = over(values, layer)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0])
        where = origin.get(field, flag(field))
        raise InputError(
            where, values.get(field), f"is not allowed; allowed: {allowed(Settings.model_fields[field])}"
        ) from None
    for field, names in code_in(settings).items():
        if (where := origin[field]) != flag(field):
            asked = f"{flag(field)} {as_text(getattr(settings, field))}"
            raise InputError(
                where, names[0], f"is code, which no file has run; allowed: {MAY_BE_CODE[field]}, or {asked}"
            )
    by, trajectories = origin.get("seeds", "--seeds"), len(settings.arms) * len(settings.seeds)
    if by != "--seeds" and trajectories > MOST_FROM_FILES:
        why = f"asks for {trajectories:,} trajectories; allowed: arms × seeds up to {MOST_FROM_FILES:,} in a file"
        raise InputError(by, f"{len(settings.seeds)} seeds", f"{why}, or --seeds")
    _check_together(settings, lambda name: origin.get(name, flag(name)))
    leads_there = settings.prune_rate
    if settings.density is not None:
        leads_there = 1 - settings.density ** (1 / (settings.rounds - 1))
    for name, layer in ((name, layer) for name in ("density", "tensor_densities") for layer, _ in layers):
        rate = layer.get("prune_rate")
        if layer.get(name) and rate is not None and (name == "tensor_densities" or rate != leads_there):
            why = f"cannot stand beside {origin['prune_rate']} {rate}; allowed: one of the two"
            raise InputError(origin[name], layer[name], why)
    return settings.model_copy(update={"prune_rate": leads_there})


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others over them, which unset what is said of the same matter below: `epochs` `iterations`, say."""
    values = dict(below)
    for name in above:
        if above[name] is not None:
            values |= dict.fromkeys(other for other in _UNSETS.get(name, ()) if other not in above)
    return values | dict(above)


_UNSETS = {
    "epochs": ("iterations",),
    "iterations": ("epochs",),
    "prune_rate": ("density", "tensor_densities"),
    "density": ("tensor_densities", "prune_rate_conv", "prune_rate_output"),
    "tensor_densities": ("density", "prune_rate_conv", "prune_rate_output"),
}
"""A setting → those of the same matter that it unsets below it."""


MAY_BE_CODE = {
    "model": "networks of `lt models`",
    "dataset": "data sets of `lt data` or files",
    "arms": "arms of `lt plugins`",
    "criterion": "criteria of `lt plugins`",
    "augment": "augmentations of `lt plugins`",
    "executor": "executors of `lt plugins`",
}
"""The settings that may say `module:name`, and what else they may say."""


def code_in(settings: Settings) -> dict[str, list[str]]:
    """Setting → its names that say where code is, `module:name`; only settings that have some."""
    named = {field: getattr(settings, field) or () for field in MAY_BE_CODE}
    listed = {field: [value] if isinstance(value, str) else value for field, value in named.items()}
    return {field: code for field, names in listed.items() if (code := [name for name in names if is_code(name)])}


def code_flags(settings: Settings) -> dict[str, str]:
    """The flags that name the code of these settings once more, as `--resume` asks for it."""
    return {flag(field): as_text(getattr(settings, field)) for field in code_in(settings)}


def differences(settings: Settings, base: Settings, aside: Collection[str] = ()) -> list[str]:
    """What is set otherwise than in `base`, e.g. `lr=0.1`; fields that are `aside` or not set are left out."""
    return [
        f"{name}={as_text(value)}"
        for name, value in settings
        if name not in aside
        and value not in (None, getattr(base, name))
        and not (name == "prune_rate" and settings.density)
    ]


def must_be_named(settings: Settings, names: Collection[str]) -> None:
    """InputError unless these names are just the code in the settings of a run that is in a store."""
    for field, code in code_in(settings).items():
        if missing := [name for name in code if name not in names]:
            whole = as_text(getattr(settings, field))
            why = f"is not what this run trains; allowed: {whole}, which runs that code"
            raise InputError(flag(field), "" if missing == code else as_text(names), why)
    if other := sorted(set(names) - {name for code in code_in(settings).values() for name in code}):
        raise InputError("--resume", other[0], "is no code of this run; allowed: the run's own settings")


def _check_together(settings: Settings, where: Any) -> None:
    """What one field alone cannot say."""
    if (settings.epochs is None) == (settings.iterations is None):
        both = settings.epochs is not None
        raise InputError(
            where("iterations"),
            settings.iterations,
            f"cannot stand {'beside' if both else 'without'} {where('epochs')} {settings.epochs}; "
            "allowed: exactly one of the two",
        )
    for name in ("arms", "seeds"):
        values = getattr(settings, name)
        if "" in values:
            raise InputError(where(name), as_text(values), "has an empty name; allowed: names, with commas between")
        if len(set(values)) != len(values):
            raise InputError(where(name), as_text(values), "names one twice; allowed: each once")
    for name in ("density", "tensor_densities"):
        if (value := getattr(settings, name)) is not None and settings.rounds == 1:
            why = "is that of the last round, which is the dense one; allowed: 2 rounds or more"
            raise InputError(where(name), as_text(value) if isinstance(value, tuple) else value, why)
    if settings.density is not None and settings.tensor_densities is not None:
        why = f"cannot stand beside {where('tensor_densities')}; allowed: one of the two"
        raise InputError(where("density"), settings.density, why)
    if settings.tensor_densities is not None and settings.scope != "layer":
        why = f"has no meaning with densities of tensors; allowed with {where('tensor_densities')}: layer"
        raise InputError(where("scope"), settings.scope, why)
    given = "densities of tensors" if settings.tensor_densities else "a density" if settings.density else ""
    whole = f"scope {settings.scope}" if settings.scope != "layer" else given
    for name in ("prune_rate_conv", "prune_rate_output") if whole else ():
        if getattr(settings, name) is not None:
            raise InputError(where(name), getattr(settings, name), f"has no meaning with {whole}; allowed: none")
    if settings.engine == "sparse" and settings.precision != "float32":
        why = f"is for --precision float32; allowed with {settings.precision}: auto or dense"
        raise InputError(where("engine"), "sparse", why)
    if settings.executor == "here" and settings.jobs not in ("auto", 1):
        raise InputError(where("jobs"), settings.jobs, "is more than executor here has; allowed: auto or 1")
    if settings.momentum and not settings.optimizer.startswith("sgd"):
        raise InputError(where("momentum"), settings.momentum, f"is for sgd; allowed with {settings.optimizer}: 0")
    if (settings.milestones is None) == (settings.schedule == "step"):
        if settings.milestones is None:
            raise InputError(
                where("schedule"), "step", "needs --milestones; allowed: milestones beside it, as 80ep,120ep"
            )
        why = f"are for schedule step; allowed with {settings.schedule}: none"
        raise InputError(where("milestones"), as_text(settings.milestones), why)
    if settings.gamma != GAMMA and settings.schedule != "step":
        raise InputError(
            where("gamma"), settings.gamma, f"is for schedule step; allowed with {settings.schedule}: none"
        )
    if settings.weight_decay_on != "all" and not settings.weight_decay:
        why = "has no meaning without --weight-decay; allowed: all, or a weight decay > 0 beside it"
        raise InputError(where("weight_decay_on"), settings.weight_decay_on, why)
    if settings.optimizer == "sgd-nesterov" and not settings.momentum:
        raise InputError(where("momentum"), settings.momentum, "is not enough for sgd-nesterov; allowed: a number > 0")


def allowed(field: FieldInfo) -> str:
    """What a field takes, in words, read off its type and bounds."""
    return _allowed(field.annotation, list(field.metadata))


_SYMBOL = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def _allowed(kind: Any, bounds: list[Any]) -> str:
    if told := next((bound for bound in bounds if isinstance(bound, _Words)), None):
        return str(told)
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    if get_origin(kind) is Annotated:
        inner, *more = get_args(kind)
        return _allowed(inner, more)
    if get_args(kind):
        return " or ".join(_allowed(part, bounds) for part in get_args(kind) if part is not type(None))
    limits = [
        f"{symbol} {getattr(limit, key):g}"
        for bound in bounds
        for limit in getattr(bound, "metadata", [bound])
        for key, symbol in _SYMBOL.items()
        if getattr(limit, key, None) is not None
    ]
    noun = {int: "a whole number", float: "a number", str: "text"}[kind]
    return " ".join([noun, " and ".join(limits)]).strip()

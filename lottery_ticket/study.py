"""What a study is, as its TOML file says it: base settings, search space, objective, sampler, budget."""

import math
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from lottery_ticket.config import DEFAULT_PRESET, Settings, allowed, as_text, flag, merge, preset_layer
from lottery_ticket.errors import InputError, unknown
from lottery_ticket.toml import read_toml

SMALLEST, MATCHING = "smallest_winning_pct", "smallest_matching_pct"
COST, MARGIN, DENSE = "cost", "winning_margin", "dense_accuracy"

OBJECTIVES: dict[str, tuple[tuple[str, Literal["minimize", "maximize"]], ...]] = {
    "smallest-ticket": ((SMALLEST, "minimize"), (COST, "minimize")),
    "phase": ((MARGIN, "maximize"),),
}
"""What a study looks for: the measures told to Optuna and which way each is better."""

SAMPLERS = ("grid", "qmc", "tpe", "gp", "boundary")

MOST = 100_000
"""Trials of a study, points of a grid, rounds of a trial."""

_MACHINE = ("device", "stack", "jobs", "precision", "checkpoint_precision")
"""Settings that may differ between two calls that are one study."""


class _Table(BaseModel):
    """A part of a study's file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and info.field_name != "log":  # which Python takes for 0 or 1
            raise ValueError("this is no yes or no")
        return value


class Range(_Table):
    """Numbers from low to high, both included; `points` is how many of them a grid has."""

    low: float
    high: float
    log: bool = False
    points: int | None = Field(None, ge=2, le=10_000)


class Choices(_Table):
    """Values to choose from."""

    choices: Annotated[tuple[str | int | float, ...], Field(min_length=1)]


class EndEarly(_Table):
    """When a trial's answer can no longer change: far below dense, in all seeds, for some rounds on end."""

    below_dense: float = Field(
        0.05, gt=0, le=1, description="accuracy lost against the dense network (0.05 = 5 points)"
    )
    rounds: int = Field(3, ge=1, description="rounds on end")


class Study(_Table):
    """A study; one key of its file is one field.

    Attributes:
        preset, settings: what every trial is run with, but for what is searched.
        space: setting → the values it may have.
        objective: `smallest-ticket` (percent left in the smallest winning ticket and what it costs to find, both
            least) or `phase` (where tickets win).
        down_to_pct: percent of weights left at which the rounds end, whatever the prune rate; None: `rounds` does.
        densities: percents of weights left at which accuracies are compared.
        sampler, sampler_seed: what proposes trials.
        trials: how many.
        batch: trials trained side by side.
        timeout: seconds after which no trial is begun.
        end_early: when a trial's answer can no longer change.
    """

    preset: str = DEFAULT_PRESET
    settings: dict[str, Any] = {}
    space: dict[str, Range | Choices] = Field(min_length=1)
    objective: Literal["smallest-ticket", "phase"] = "smallest-ticket"
    down_to_pct: float | None = Field(None, gt=0, lt=100)
    densities: tuple[Annotated[float, Field(gt=0, le=100)], ...] = (51.2, 21.0, 10.7, 4.4)
    sampler: Literal["grid", "qmc", "tpe", "gp", "boundary"] = "qmc"
    sampler_seed: int = Field(0, ge=0, lt=2**32)
    trials: int = Field(16, ge=1, le=MOST)
    batch: int = Field(4, ge=1, le=256)
    timeout: float | None = Field(None, gt=0)
    end_early: EndEarly = EndEarly.model_validate({})

    @property
    def directions(self) -> list[Literal["minimize", "maximize"]]:
        """Which way each measure told to Optuna is better."""
        return [direction for _, direction in OBJECTIVES[self.objective]]

    @property
    def measures(self) -> list[str]:
        """The measures told to Optuna."""
        return [measure for measure, _ in OBJECTIVES[self.objective]]

    def settings_of(self, values: Mapping[str, Any]) -> Settings:
        """The settings of the trial with these values of what is searched. InputError if they are not allowed."""
        checked = self.settings, None
        settings = merge(preset_layer(self.preset), checked, (dict(values), "study: space"))
        if self.down_to_pct is None:
            return settings
        rounds = 1 + math.ceil(math.log(self.down_to_pct / 100) / math.log1p(-settings.prune_rate) - 1e-9)
        if rounds > MOST:
            why = f"takes more than {MOST:,} rounds at prune rate {settings.prune_rate:g}"
            raise InputError("study: down_to_pct", self.down_to_pct, f"{why}; allowed: a larger prune rate, or percent")
        return settings.model_copy(update={"rounds": rounds})

    def definition(self) -> dict[str, str]:
        """All that makes two studies the same, flat and as text: not how much of it is done, by whom, or how."""
        base = self.settings_of({})
        told = {name: as_text(value) for name, value in base if name not in _MACHINE and name not in self.space}
        for name, searched in self.space.items():
            told |= {f"space.{name}.{key}": as_text(value) for key, value in searched}
        told |= {f"end_early.{key}": as_text(value) for key, value in self.end_early}
        told |= {
            "objective": self.objective,
            "down_to_pct": as_text(self.down_to_pct),
            "densities": as_text(self.densities),
        }
        if self.down_to_pct is not None:
            del told["rounds"]  # each trial has its own
        return told


def study_names() -> list[str]:
    """The shipped studies."""
    return sorted(path.name[:-5] for path in _shipped().iterdir() if path.name.endswith(".toml"))


def load_study(source: str, overrides: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[Study, str]:
    """A study and its name.

    Args:
        source: the name of a shipped study, or the path of a `.toml` file.
        overrides: keys of the study that options replace.
        settings: settings that options replace.

    Raises:
        InputError: no such study, a wrong key (named, with the nearest right one), or a value that is not allowed.
    """
    if source in study_names():
        name, values = source, tomllib.loads(_shipped().joinpath(f"{source}.toml").read_text(encoding="utf-8"))
    elif source.endswith(".toml"):
        name, values = Path(source).stem, read_toml(source, "STUDY")
    else:
        raise unknown("STUDY", source, [*study_names(), "the path of a .toml file"])
    return parse(source, values, overrides, settings), name


def parse(source: str, values: Mapping[str, Any], overrides: Mapping[str, Any], settings: Mapping[str, Any]) -> Study:
    """The study that the keys of a file and the options over them make; InputError as for `load_study`."""
    _check_keys(source, values)
    merged = {**values, **overrides}
    named = merged.get("settings", {})
    for name in settings:
        if name in merged.get("space", {}):
            raise InputError(flag(name), settings[name], "is what this study searches; allowed: settings it does not")
    merged["settings"] = _over(named, settings)
    if "rounds" in settings:
        merged["down_to_pct"] = None
    try:
        study = Study(**merged)
    except ValidationError as error:
        first = min(error.errors(), key=lambda each: _other_kind(merged, each["loc"]))
        key = ".".join(str(part) for part in first["loc"] if part not in ("Range", "Choices", "str", "int", "float"))
        where = flag(key) if key in overrides else f"{source}: {key}"
        given = first["input"] if first["type"] != "missing" else None
        raise InputError(where, given, f"is not allowed; allowed: {_allowed(first['loc'], first['msg'])}") from None
    _check_settings(source, study, settings)
    if study.sampler == "boundary" and study.objective != "phase":
        where = flag("sampler") if "sampler" in overrides else f"{source}: sampler"
        raise InputError(
            where, study.sampler, f"is for objective phase; allowed with {study.objective}: grid, qmc, tpe, gp"
        )
    for name, searched in study.space.items():
        _check_space(source, study, name, searched)
    if {"epochs", "iterations"} <= study.space.keys():
        raise InputError(f"{source}: space", "epochs, iterations", "exclude each other; allowed: one of the two")
    sizes = [len(each.choices) if isinstance(each, Choices) else each.points or 1 for each in study.space.values()]
    if study.sampler == "grid" and math.prod(sizes) > MOST:
        raise InputError(f"{source}: space", f"{math.prod(sizes):,} points", f"is too much; allowed: at most {MOST:,}")
    return study


def _other_kind(values: Mapping[str, Any], loc: tuple[int | str, ...]) -> bool:
    """Whether an error is about a range where choices are given, or the other way round."""
    return len(loc) > 2 and loc[0] == "space" and (loc[2] == "Choices") != ("choices" in values["space"][loc[1]])


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others over them; epochs and iterations unset each other."""
    merged = dict(below)
    for one, other in (("epochs", "iterations"), ("iterations", "epochs")):
        if one in above:
            merged.pop(other, None)
    return merged | dict(above)


def _check_keys(source: str, values: Mapping[str, Any]) -> None:
    for key in values:
        if key not in Study.model_fields:
            raise unknown(f"{source}: key", key, Study.model_fields)
    for table in ("settings", "space", "end_early"):
        if not isinstance(values.get(table, {}), dict):
            raise InputError(f"{source}: {table}", values[table], f"is not allowed; allowed: a table, [{table}]")
    for table, known in (("settings", Settings), ("space", Settings), ("end_early", EndEarly)):
        for key in values.get(table, {}):
            if key not in known.model_fields:
                raise unknown(f"{source}: {table} key", key, known.model_fields)
    for name, searched in values.get("space", {}).items():
        if not isinstance(searched, dict):
            raise InputError(
                f"{source}: space.{name}", searched, "is not allowed; allowed: {low, high, log, points} or {choices}"
            )
        model = Choices if "choices" in searched else Range
        if model is Choices and searched.keys() & Range.model_fields.keys():
            raise InputError(f"{source}: space.{name}", searched, "has both; allowed: either choices, or low and high")
        for key in searched:
            if key not in model.model_fields:
                raise unknown(f"{source}: space.{name} key", key, [*Range.model_fields, *Choices.model_fields])


def _check_settings(source: str, study: Study, options: Mapping[str, Any]) -> None:
    where = f"{source}: settings"
    below = {name: value for name, value in study.settings.items() if name not in options}
    above = {name: value for name, value in study.settings.items() if name in options}
    settings = merge(preset_layer(study.preset, f"{source}: preset"), (below, where), (above, None))
    if "winning" not in settings.arms or not {"reinit", "reinit-own"} & set(settings.arms):
        where = flag("arms") if "arms" in options else f"{source}: settings.arms"
        raise InputError(
            where, as_text(settings.arms), "cannot show that tickets win; allowed: winning,reinit and more"
        )


def _check_space(source: str, study: Study, name: str, searched: Range | Choices) -> None:
    key = f"{source}: space.{name}"
    field = Settings.model_fields[name]
    if name in ("arms", "seeds", "device", "stack", "jobs"):
        raise InputError(key, as_text(getattr(searched, "choices", "")), "cannot be searched; allowed: other settings")
    if isinstance(searched, Choices):
        if len(set(searched.choices)) < len(searched.choices):
            raise InputError(f"{key}.choices", as_text(searched.choices), "names one twice; allowed: each once")
        for value in searched.choices:
            _check_value(f"{key}.choices", study, name, value)
        if study.sampler == "boundary":
            raise InputError(
                key, as_text(searched.choices), "has no order; allowed with sampler boundary: low and high"
            )
        return
    if float not in _kinds(field.annotation) and int not in _kinds(field.annotation):
        raise InputError(
            key, f"{searched.low:g} to {searched.high:g}", f"is no range; allowed: choices of {allowed(field)}"
        )
    if not searched.low < searched.high:
        raise InputError(key, f"{searched.low:g} to {searched.high:g}", "is empty or reversed; allowed: low < high")
    if searched.log and searched.low <= 0:
        raise InputError(f"{key}.low", searched.low, "has no logarithm; allowed with log = true: a number > 0")
    if study.sampler == "grid" and searched.points is None:
        raise InputError(f"{key}.points", None, "is missing; allowed with sampler grid: how many values, 2 or more")
    for end in ("low", "high"):
        value = getattr(searched, end)
        _check_value(
            f"{key}.{end}", study, name, value if float in _kinds(field.annotation) else _whole(key, end, value)
        )


def _check_value(key: str, study: Study, name: str, value: Any) -> None:
    try:
        study.settings_of({name: value})
    except InputError as error:
        raise InputError(key, value, error.allowed) from None


def _whole(key: str, end: str, value: float) -> int:
    if value != int(value):
        raise InputError(f"{key}.{end}", value, "is not allowed; allowed: a whole number")
    return int(value)


def _kinds(annotation: Any) -> set[Any]:
    """The types in an annotation, e.g. float in Annotated[float, …] | None."""
    inner = get_args(annotation)
    return set().union(*map(_kinds, inner)) if inner else {annotation}


def whole_numbers(name: str) -> bool:
    """Whether a setting takes whole numbers only."""
    return float not in _kinds(Settings.model_fields[name].annotation)


def _allowed(loc: tuple[int | str, ...], message: str) -> str:
    if loc[0] == "sampler":
        return ", ".join(SAMPLERS)
    if loc[0] == "objective":
        return ", ".join(OBJECTIVES)
    if loc[0] == "space" and "choices" in loc[3:] and len(loc) > 4:
        return f"a list of {allowed(Settings.model_fields[str(loc[1])])}"
    if loc == ("space",):
        return "a table [space] with at least one setting"
    return allowed(Study.model_fields[str(loc[0])]) if len(loc) == 1 and loc[0] in _SCALARS else message.lower()


_SCALARS = ("trials", "batch", "timeout", "down_to_pct", "sampler_seed", "preset")


def _shipped() -> Any:
    return resources.files("lottery_ticket") / "sweeps"

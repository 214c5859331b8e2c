"""What a study is: base settings, search space, objective, sampler, budget."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from lottery_ticket.config import DEFAULT_PRESET, Settings, as_text, merge, preset_layer
from lottery_ticket.errors import InputError
from lottery_ticket.study.names import COST, MARGIN, SMALLEST, VALIDATION

OBJECTIVES: dict[str, tuple[tuple[str, Literal["minimize", "maximize"]], ...]] = {
    "smallest-ticket": ((SMALLEST, "minimize"), (COST, "minimize")),
    "phase": ((MARGIN, "maximize"),),
    "validation-accuracy": ((VALIDATION, "maximize"),),
}
"""What a study looks for: the measures told to Optuna and which way each is better."""

SAMPLERS = ("grid", "qmc", "tpe", "gp", "boundary")

MOST = 100_000
"""Trials of a study, points of a grid, rounds of a trial."""

EVEN_SAMPLERS = ("grid", "qmc")
"""Those that spread trials whatever comes of them, and so give every arm the same."""

MACHINE = ("device", "engine", "engine_threads", "executor", "stack", "jobs", "checkpoint_precision")
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
            least), `phase` (where tickets win) or, of a study that tunes, `validation-accuracy` (what all arms get
            right; whether tickets win is not asked, so that the arms may be any).
        down_to_pct: percent of weights left at which the rounds end, whatever the prune rate, where every layer loses
            as much a round; None: `rounds` does.
        densities: percents of weights left at which accuracies are compared.
        sampler, sampler_seed: what proposes trials.
        trials: how many.
        batch: trials trained side by side.
        timeout: seconds after which no trial is begun.
        end_early: when a trial's answer can no longer change.
        tune: what is searched to find each arm's own best, see `lottery_ticket.study.tuning`.
    """

    preset: str = DEFAULT_PRESET
    settings: dict[str, Any] = {}
    space: dict[str, Range | Choices] = Field(min_length=1)
    objective: Literal["smallest-ticket", "phase", "validation-accuracy"] = "smallest-ticket"
    down_to_pct: float | None = Field(None, gt=0, lt=100)
    densities: tuple[Annotated[float, Field(gt=0, le=100)], ...] = (51.2, 21.0, 10.7, 4.4)
    sampler: str = "qmc"
    sampler_seed: int = Field(0, ge=0, lt=2**32)
    trials: int = Field(16, ge=1, le=MOST)
    batch: int = Field(4, ge=1, le=256)
    timeout: float | None = Field(None, gt=0)
    end_early: EndEarly = EndEarly.model_validate({})
    tune: tuple[str, ...] = ()

    _name: str = ""

    @property
    def name(self) -> str:
        """What `load_study` found it as; empty where it did not."""
        return self._name

    @property
    def judged(self) -> bool:
        """Whether a trial's result is its verdict: whether tickets win."""
        return self.objective != "validation-accuracy"

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
        if settings.density is not None or settings.tensor_densities is not None:
            why = "is for a prune rate, of which it makes rounds; allowed with densities: none"
            raise InputError("study: down_to_pct", self.down_to_pct, why)
        rounds = 1 + math.ceil(math.log(self.down_to_pct / 100) / math.log1p(-settings.prune_rate) - 1e-9)
        if rounds > MOST:
            why = f"takes more than {MOST:,} rounds at prune rate {settings.prune_rate:g}"
            raise InputError("study: down_to_pct", self.down_to_pct, f"{why}; allowed: a larger prune rate, or percent")
        return settings.model_copy(update={"rounds": rounds})

    def definition(self) -> dict[str, str]:
        """All that makes two studies the same, flat and as text: not how much of it is done, by whom, or how."""
        base = self.settings_of({})
        told = {name: as_text(value) for name, value in base if name not in MACHINE and name not in self.space}
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
        if self.tune:
            told["tune"] = as_text(tuple(sorted(self.tune)))
        return told


def ordered(searched: Range | Choices) -> bool:
    """Whether a setting's values have an order: a range, or choices that are numbers."""
    return isinstance(searched, Range) or not any(isinstance(choice, str) for choice in searched.choices)


def whole_numbers(name: str) -> bool:
    """Whether a setting takes whole numbers only."""
    return float not in kinds(Settings.model_fields[name].annotation)


def kinds(annotation: Any) -> set[Any]:
    """The types in an annotation, e.g. float in Annotated[float, …] | None."""
    inner = get_args(annotation)
    return set().union(*map(kinds, inner)) if inner else {annotation}

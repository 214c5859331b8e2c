"""The TOML file of a study, read and checked."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lottery_ticket import plugins, shipped
from lottery_ticket.config import Settings, allowed, as_text, flag, merge, over, preset_layer
from lottery_ticket.errors import InputError, unknown
from lottery_ticket.plugins import is_code
from lottery_ticket.study.definition import (
    EVEN_SAMPLERS,
    MOST,
    OBJECTIVES,
    SAMPLERS,
    Choices,
    EndEarly,
    Range,
    Study,
    kinds,
)


def study_names() -> list[str]:
    """The shipped studies."""
    return shipped.names("sweeps")


def load_study(source: Path | str, **overrides: Any) -> Study:
    """A study, for `sweep`, with keys and settings replaced.

    Args:
        source: the name of a shipped study (`lr`, `prune-rate`, `map`), or the path of a `.toml` file, whose name is
            the study's.
        overrides: keys of the study's file (`trials`, `batch`, `sampler`, …), or settings of its trials (`rounds`,
            `seeds`, …), as in `load_preset`.

    Raises:
        InputError: no such study, a wrong key (named, with the nearest right one), or a value that is not allowed.

    Example:
        >>> study = lottery_ticket.load_study("lr", trials=4, rounds=3)
        >>> study.name, study.trials, study.space["lr"]
        ('lr', 4, Range(low=0.0001, high=0.3, log=True, points=16))
    """
    source = str(source)
    settings = {key: value for key, value in overrides.items() if key in Settings.model_fields}
    keys = {key: value for key, value in overrides.items() if key not in settings}
    for key in keys:
        if key not in Study.model_fields:
            raise unknown(flag(key), key, [*Study.model_fields, *Settings.model_fields])
    name, values = shipped.named("sweeps", source, "STUDY")
    study = parse(source, values, keys, settings)
    study._name = name
    return study


def parse(source: str, values: Mapping[str, Any], overrides: Mapping[str, Any], settings: Mapping[str, Any]) -> Study:
    """The study that the keys of a file and the options over them make; InputError as for `load_study`."""
    merged = {**values, **overrides}
    _check_keys(source, merged)
    named = merged.get("settings", {})
    for name, value in {**named, **settings}.items():
        if name in merged.get("space", {}):
            where = flag(name) if name in settings else f"{source}: settings.{name}"
            raise InputError(where, value, "is what this study searches; allowed: settings it does not")
    merged["settings"] = {name: value for name, value in over(named, settings).items() if value is not None}
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
    if not study.judged and not study.tune:
        where = flag("objective") if "objective" in overrides else f"{source}: objective"
        raise InputError(where, study.objective, "is for a study that tunes; allowed: smallest-ticket, phase")
    study = _for_arms(source, study, settings, "objective" in merged)
    where = flag("sampler") if "sampler" in overrides else f"{source}: sampler"
    if study.sampler not in SAMPLERS:
        if is_code(study.sampler) and "sampler" not in overrides:
            why = (
                f"is code, which no file has run; allowed: {', '.join(SAMPLERS)}, or {flag('sampler')} {study.sampler}"
            )
            raise InputError(where, study.sampler, why)
        plugins.named("samplers", study.sampler, dict.fromkeys(SAMPLERS), where)
    if study.sampler == "boundary" and study.objective != "phase":
        raise InputError(
            where, study.sampler, f"is for objective phase; allowed with {study.objective}: grid, qmc, tpe, gp"
        )
    _check_instead(source, study, settings)
    if study.tune:
        _check_tune(source, study, merged, settings, where)
    if not study.densities:
        raise InputError(f"{source}: densities", "", "is empty; allowed: percents of weights left, as 10.7")
    for name, searched in study.space.items():
        _check_space(source, study, name, searched)
    sizes = [len(each.choices) if isinstance(each, Choices) else each.points or 1 for each in study.space.values()]
    if study.sampler == "grid" and math.prod(sizes) > MOST:
        raise InputError(f"{source}: space", f"{math.prod(sizes):,} points", f"is too much; allowed: at most {MOST:,}")
    return study


def _other_kind(values: Mapping[str, Any], loc: tuple[int | str, ...]) -> bool:
    """Whether an error is about a range where choices are given, or the other way round."""
    return len(loc) > 2 and loc[0] == "space" and (loc[2] == "Choices") != ("choices" in values["space"][loc[1]])


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
                named = [name for name in known.model_fields if table != "space" or name not in _NOT_SEARCHED]
                raise unknown(f"{source}: {table} key", key, named)
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


def _for_arms(source: str, study: Study, options: Mapping[str, Any], asked: bool) -> Study:
    """The study, its settings checked; one that tunes arms that cannot win goes by accuracy, if not asked otherwise.

    InputError where it is to show that tickets win, and its arms cannot.
    """
    where = f"{source}: settings"
    below = {name: value for name, value in study.settings.items() if name not in options}
    above = {name: value for name, value in study.settings.items() if name in options}
    settings = merge(preset_layer(study.preset, f"{source}: preset"), (below, where), (above, None))
    from lottery_ticket.method.arms import controls_among  # with torch: all else that may be wrong is told before

    if not study.judged or ("winning" in settings.arms and controls_among(settings.arms)):
        return study
    if study.tune and not asked:
        return study.model_copy(update={"objective": "validation-accuracy"})
    where = flag("arms") if "arms" in options else f"{source}: settings.arms"
    more = "; with objective validation-accuracy any" if study.tune else ""
    why = f"cannot show that tickets win; allowed: winning,reinit and more{more}"
    raise InputError(where, as_text(settings.arms), why)


_BY_TYPE = ("prune_rate_conv", "prune_rate_output")
_INSTEAD = {
    "prune_rate": ("density", "tensor_densities"),
    "density": ("prune_rate", "tensor_densities", *_BY_TYPE),
    "tensor_densities": ("prune_rate", "density", *_BY_TYPE),
    "epochs": ("iterations",),
    "iterations": ("epochs",),
}
"""A setting that says how much survives, or how long is trained → those that it stands instead of."""


def _check_instead(source: str, study: Study, options: Mapping[str, Any]) -> None:
    """InputError where what is searched would stand instead of a setting that is given, or searched too."""
    for name, others in _INSTEAD.items():
        for other in others if name in study.space else ():
            if other in study.space:
                raise InputError(f"{source}: space", f"{name}, {other}", "exclude each other; allowed: one of the two")
            if other in study.settings:
                where = flag(other) if other in options else f"{source}: settings.{other}"
                why = f"cannot stand beside space.{name}; allowed: one of the two"
                raise InputError(where, study.settings[other], why)


_NOT_TUNED = (
    *("dataset", "validation_size", "model", "width", "prunable", "keep_dense", "prune_only", "output_layer"),
    *("prune_rate", *_BY_TYPE, "density", "tensor_densities", "rounds", "epochs", "iterations"),
)
"""Settings whose values are no choice of an arm's: of which images and weights it is, how many, and for how long."""


def _check_tune(source: str, study: Study, values: Mapping[str, Any], options: Mapping[str, Any], sampler: str) -> None:
    """InputError where arms cannot each have their own best of what is to be tuned; `sampler` is what names that."""
    key = f"{source}: tune"
    for name in study.tune:
        if name not in study.space:
            raise unknown(key, name, study.space)
        if name in _NOT_TUNED:
            why = "would compare other images or networks, or a longer training; allowed: how networks are trained"
            raise InputError(key, name, why)
    if len(set(study.tune)) < len(study.tune):
        raise InputError(key, as_text(study.tune), "names one twice; allowed: each once")
    if study.sampler not in EVEN_SAMPLERS:
        why = "need not spread trials evenly, and one that looks for tickets would tune winning alone"
        raise InputError(sampler, study.sampler, f"{why}; allowed with tune: {', '.join(EVEN_SAMPLERS)}")
    for name, searched in study.space.items():
        if name not in study.tune and isinstance(searched, Range) and study.sampler != "grid":
            allowed = "allowed beside tune: choices, or sampler grid"
            raise InputError(
                f"{source}: space.{name}", f"{searched.low:g} to {searched.high:g}", f"is one value a trial; {allowed}"
            )
    if "validation_size" in study.space:
        raise InputError(f"{source}: space", "validation_size", "cannot be searched with tune; allowed: other settings")
    if study.settings_of({}).validation_size == 0:
        where = flag("validation_size") if "validation_size" in options else f"{source}: settings.validation_size"
        raise InputError(where, 0, "leaves no images to choose values by; allowed with tune: a whole number ≥ 1")
    if "end_early" in values:
        why = "asks winning alone, and would end trials of the other arms; allowed with tune: none"
        raise InputError(f"{source}: end_early", as_text(tuple(values["end_early"])), why)


_NOT_SEARCHED = ("arms", "seeds", "device", "stack", "jobs")


def _check_space(source: str, study: Study, name: str, searched: Range | Choices) -> None:
    key = f"{source}: space.{name}"
    field = Settings.model_fields[name]
    if name in _NOT_SEARCHED:
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
    if float not in kinds(field.annotation) and int not in kinds(field.annotation):
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
            f"{key}.{end}", study, name, value if float in kinds(field.annotation) else _whole(key, end, value)
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


def _allowed(loc: tuple[int | str, ...], message: str) -> str:
    if loc[0] == "objective":
        return ", ".join(OBJECTIVES)
    if loc[0] == "space" and "choices" in loc[3:] and len(loc) > 4:
        return f"a list of {allowed(Settings.model_fields[str(loc[1])])}"
    if loc[0] == "tune":
        return 'a list of what [space] searches, as ["lr"]'
    if loc == ("space",):
        return "a table [space] with at least one setting"
    return allowed(Study.model_fields[str(loc[0])]) if len(loc) == 1 and loc[0] in _SCALARS else message.lower()


_SCALARS = ("trials", "batch", "timeout", "down_to_pct", "sampler_seed", "preset")

"""The TOML file of a reproduction, read and checked."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from lottery_ticket import shipped
from lottery_ticket.config import preset_layer
from lottery_ticket.errors import InputError, unknown
from lottery_ticket.reproduction.definition import (
    DENSE_THROUGHOUT,
    NEAREST,
    Attribution,
    Claim,
    Drawing,
    Part,
    Replication,
    Reproduction,
    Setup,
    Variant,
    _Table,
    is_dense,
    setup_of,
)

_UNUSED = {
    "fluctuation": ("over", "at_pct", "other_at_pct", "take"),
    "hours": ("of", "minus", "over", "at_pct", "other_at_pct", "from_pct", "to_pct", "take"),
    "winning_streak": ("of", "minus", "over", "at_pct", "other_at_pct", "from_pct", "to_pct", "take"),
}
"""Keys of a part that its measure does not look at."""


def reproduction_names() -> list[str]:
    """The shipped reproductions."""
    return shipped.names("reports")[::-1]


def load_reproduction(source: str) -> tuple[Reproduction, str]:
    """A reproduction and its name.

    Args:
        source: the name of a shipped one, or the path of a `.toml` file.

    Raises:
        InputError: none of that name, a wrong key, or a value that is not allowed.
    """
    name, values = shipped.named("reports", source, "REPORT")
    return parse(source, values), name


def parse(source: str, values: Mapping[str, Any]) -> Reproduction:
    """The reproduction that the keys of a file make; InputError as for `load_reproduction`."""
    try:
        made = Reproduction(**values)
    except ValidationError as error:
        first = min(
            error.errors(), key=lambda each: each["type"] != "extra_forbidden"
        )  # a wrong key before one missing
        where = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            above = ".".join(map(str, first["loc"][:-1]))
            raise unknown(
                f"{source}: {above} key".replace(":  ", ": "), first["loc"][-1], _fields(first["loc"])
            ) from None
        given = None if first["type"] == "missing" else first["input"]
        raise InputError(f"{source}: {where}", given, f"is not allowed; allowed: {first['msg']}") from None
    for name, told in made.setups.items():
        preset_layer(told.preset, f"{source}: setups.{name}: preset")
        if told.long is None and any(other.long is not None for other in made.setups.values()):
            raise InputError(f"{source}: setups.{name}: long", None, "is missing; allowed: in every setup or in none")
    _check_once(f"{source}: claims: id", [claim.id for claim in made.claims])
    names = [drawing.name for drawing in made.drawings] + [attribution.name for attribution in made.attributions]
    _check_once(f"{source}: drawings, attributions: name", names)
    for claim in made.claims:
        for part in claim.parts:
            _check_part(f"{source}: claim {claim.id}", part, claim.variants, made)
    for drawing in made.drawings:
        where = f"{source}: drawing {drawing.name}"
        for side in drawing.sides:
            _check_side(where, side, drawing.setup, drawing.variants, made, drawing.measure)
            if is_dense(side) or _dense_throughout(side, drawing.variants, made):
                why = "cannot be drawn; allowed: arms that are pruned, of its setup or as setup:arm, and control"
                raise InputError(f"{where}: sides", side, why)
        _check_claims(where, drawing.claims, made)
    for attribution in made.attributions:
        where = f"{source}: attribution {attribution.name}"
        for setup, variant in attribution.experiments:
            for side in ("winning", attribution.minus):
                _check_side(where, side, setup, (variant,), made, "accuracy")
        if setup_of(attribution.minus):
            why = "is of another setup; allowed: dense, control, arms of the variants' own"
            raise InputError(f"{where}: minus", attribution.minus, why)
        _check_claims(where, attribution.claims, made)
    return made


def _check_once(where: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InputError(where, name, "is there twice; allowed: each once")


def _check_claims(where: str, claims: tuple[str, ...], made: Reproduction) -> None:
    known = [claim.id for claim in made.claims]
    for claim in claims:
        if claim not in known:
            raise unknown(f"{where}: claims", claim, known)


def _check_part(where: str, part: Part, variants: tuple[str, ...], made: Reproduction) -> None:
    for side in (part.of, part.minus, part.over):
        if side is not None:
            _check_side(where, side, part.setup, variants, made, part.measure)
    if part.above is None and part.below is None:
        raise InputError(f"{where}: above, below", None, "are missing; allowed: a number for one of them or both")
    if part.to_pct is not None and part.to_pct > part.from_pct:
        raise InputError(f"{where}: to_pct", part.to_pct, f"is above from_pct; allowed: at most {part.from_pct:g}")
    if part.above is not None and part.below is not None and part.above >= part.below:
        raise InputError(f"{where}: above", part.above, f"is not below below; allowed: less than {part.below:g}")
    for key in _UNUSED.get(part.measure, ()):
        if key in part.model_fields_set:
            raise InputError(
                f"{where}: {key}", getattr(part, key), f"has no meaning with measure {part.measure}; allowed: none"
            )
    for key in ("from_pct", "take") if part.at_pct is not None else ():
        if key in part.model_fields_set:
            why = "has no meaning at one percentage of weights left; allowed: with to_pct, not at_pct"
            raise InputError(f"{where}: {key}", getattr(part, key), why)
    if part.at_pct is not None:
        setup = setup_of(part.of) or part.setup
        sparsest = min(_sparsest(made, setup, variant) for variant in variants)
        if part.at_pct * NEAREST < sparsest:
            why = f"is sparser than setup {setup} becomes; allowed: at least {sparsest:.3g}, or more rounds"
            raise InputError(f"{where}: at_pct", part.at_pct, why)
    other = part.minus or part.over
    if part.other_at_pct is not None and (other is None or is_dense(other)):
        why = "has no meaning without another side that is pruned; allowed: minus or over, of an arm"
        raise InputError(f"{where}: other_at_pct", part.other_at_pct, why)
    for key, side in (("of", part.of), ("minus" if part.minus else "over", other)):
        if _dense_throughout(side, variants, made):
            if key == "of" or part.measure == "fluctuation":
                why = "has all weights in every round, and no percentage tells which; allowed"
                raise InputError(f"{where}: {key}", side, f"{why}: as minus or over of accuracy or early_stop")
            if part.other_at_pct is not None:
                why = f"tells none of the rounds of {side}, all of which have all weights; allowed: none"
                raise InputError(f"{where}: other_at_pct", part.other_at_pct, f"{why}, it is the first side's round")
    if part.minus is not None and part.over is not None:
        raise InputError(f"{where}: over", part.over, "cannot stand beside minus; allowed: one of the two")
    if part.measure in ("accuracy", "early_stop") and (part.at_pct is None) == (part.to_pct is None):
        raise InputError(f"{where}: at_pct, to_pct", part.at_pct, "are both there or missing; allowed: one of the two")


def _sparsest(made: Reproduction, setup: str, variant: str) -> float:
    """Percent of weights left in the last round, at whichever scale that is the sparsest; or less."""
    chosen = [settings for scale in made.scales for settings in made.settings(setup, variant, scale)]
    if any(settings.tensor_densities for settings in chosen):
        return 0
    rates = [(each.prune_rate, each.prune_rate_conv or 0, each.prune_rate_output or 0) for each in chosen]
    return min(100 * (1 - max(own)) ** (each.rounds - 1) for own, each in zip(rates, chosen, strict=True))


def _check_side(where: str, side: str, setup: str, variants: tuple[str, ...], made: Reproduction, measure: str) -> None:
    if side.startswith(":"):
        raise unknown(f"{where}: setup", "", made.setups)
    setup = setup_of(side) or setup
    if setup not in made.setups:
        raise unknown(f"{where}: setup", setup, made.setups)
    for variant in variants:
        if variant not in made.variants:
            raise unknown(f"{where}: variants", variant, made.variants)
        settings = made.settings(setup, variant, "report")[0]
        if measure == "early_stop" and not settings.validation_size:
            why = f"needs validation images, of which setup {setup} has none; allowed: setups with a validation_size"
            raise InputError(f"{where}: measure", measure, why)
        named = made.arm_of(side, variant)
        if named not in (*settings.arms, "dense"):
            raise unknown(f"{where}: side in variant {variant}", named, [*settings.arms, "dense", "control"])


def _dense_throughout(side: str | None, variants: Sequence[str], made: Reproduction) -> bool:
    """Whether a side is an arm that has all weights in every round, in one of the variants."""
    return side is not None and any(made.arm_of(side, variant) in DENSE_THROUGHOUT for variant in variants)


def _fields(loc: tuple[int | str, ...]) -> list[str]:
    """The keys that are known where an unknown one stands."""
    tables: dict[str, type[_Table]] = {
        "setups": Setup,
        "variants": Variant,
        "claims": Claim,
        "parts": Part,
        "replications": Replication,
        "drawings": Drawing,
        "attributions": Attribution,
    }
    named = [tables[part] for part in loc[:-1] if isinstance(part, str) and part in tables]
    return list((named[-1] if named else Reproduction).model_fields)

"""What a report or paper claims: which experiments, measured how, against what."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from lottery_ticket.config import Layer, Settings, merge, preset_layer
from lottery_ticket.errors import unknown

Scale = Literal["quick", "long", "report"]
SCALES: tuple[Scale, ...] = get_args(Scale)
"""From minutes on two cores, over what these do in a few days, to the source's own; some have no `long`."""

REPORT_FILES = ("report.md", "report.html", "claims.csv", "rounds.csv")

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=60)]
Percent = Annotated[float, Field(gt=0, le=100)]


class _Table(BaseModel):
    """A part of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Setup(_Table):
    """A network on a data set as the source trains it.

    Attributes:
        preset, settings: of every run.
        quick, long, report: settings over those, at that scale; None: nothing is trained at that one.
        each: setting → values, each of which is a run of its own (one-shot pruning to several densities); their last
            rounds make one curve.
    """

    preset: str
    settings: dict[str, Any] = {}
    quick: dict[str, Any]
    long: dict[str, Any] | None = None
    report: dict[str, Any]
    each: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field({}, max_length=1)


class Variant(_Table):
    """One way to read the method.

    Attributes:
        says: it in words.
        settings: over those of the setup.
        control: the arm that winning tickets are compared with.
        accuracy: of a round: at its last epoch, at its best one on the test set, or at the early-stopping point.
    """

    says: str
    settings: dict[str, Any] = {}
    control: str = "reinit"
    accuracy: Literal["last", "best", "early-stop"] = "last"


class Replication(_Table):
    """What somebody else measured of a part of a claim, in the unit of its measure.

    Attributes:
        who: and where it stands.
        value, low, high: the mean, and its interval where one is told.
        n: seeds or trials behind it.
    """

    who: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = Field(None, ge=1)


class Part(_Table):
    """One thing that a claim says, as a measure and where it has to lie.

    A side is an arm, `control` (that of the variant) or `dense` (round 0 of the arm winning); `setup:arm` is one of
    another setup.

    Attributes:
        says: it in words.
        setup: whose experiments.
        measure: `accuracy` in percent, `early_stop` in iterations, `fluctuation` (standard deviation of the change
            of accuracy from round to round, in points), `hours` (training at report scale, from this one's seconds
            an iteration) or `winning_streak` (most rounds on end whose tickets win, by the verdict).
        of: the side that is measured.
        minus, over: another side, to which it is the difference or the ratio.
        at_pct: percent of weights left where it is measured; the nearest round.
        other_at_pct: the same of the other side; without it, where the first one has been measured: at as many percent,
            or, of an arm that has all weights in every round, in the same round.
        from_pct, to_pct: from here (more weights) to there (fewer); all rounds between.
        take: the mean, least or largest over those rounds.
        above, below: where the value has to lie.
        reported: what the source says, in the unit of the measure.
        replications: what others measured.
    """

    says: str
    setup: str
    measure: Literal["accuracy", "early_stop", "fluctuation", "hours", "winning_streak"] = "accuracy"
    of: str = "winning"
    minus: str | None = None
    over: str | None = None
    at_pct: Percent | None = None
    other_at_pct: Percent | None = None
    from_pct: Percent = 100
    to_pct: Percent | None = None
    take: Literal["mean", "least", "largest"] = "mean"
    above: float | None = None
    below: float | None = None
    reported: float | None = None
    replications: tuple[Replication, ...] = ()


class Claim(_Table):
    """A claim of the source: it holds where all its parts do.

    Attributes:
        id, figure: how the source or this file calls it, and where it stands there.
        says: the claim in our words.
        variants: in which it is judged.
        note: what else is to be known of the claim.
    """

    id: str = Field(pattern=r"^[A-Za-z0-9.-]+$", max_length=60)
    figure: str
    says: str
    variants: tuple[str, ...] = Field(min_length=1)
    parts: tuple[Part, ...] = Field(min_length=1)
    note: str = ""


class Drawing(_Table):
    """A figure: a measure of each round against percent of weights left, a panel for each variant.

    Attributes:
        name, title: of its file, and above it.
        setup: whose experiments.
        measure: accuracy in percent, or the early-stopping iteration.
        sides: what is drawn: arms, `control`, or `setup:arm` for an arm of another setup.
        variants: the panels.
        claims: those it belongs to.
    """

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    title: str
    setup: str
    measure: Literal["accuracy", "early_stop"] = "accuracy"
    sides: tuple[str, ...] = ("winning", "control")
    variants: tuple[str, ...] = Field(min_length=1)
    claims: tuple[str, ...] = ()


class Attribution(_Table):
    """A gap taken apart: winning − another side in each variant, and how far that is from the first variant's.

    Attributes:
        name, title: of its figure's file, and above it.
        setup: whose experiments.
        minus: the other side: `control`, an arm, or `dense`.
        at_pct: percent of weights left where it is read.
        variants: the first is the one the others are compared with; `setup:variant` is one of another setup.
        claims: those it belongs to.
    """

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    title: str
    setup: str
    minus: str = "control"
    at_pct: Percent
    variants: tuple[str, ...] = Field(min_length=2)
    claims: tuple[str, ...] = ()

    @property
    def experiments(self) -> list[tuple[str, str]]:
        """The (setup, variant) of each variant."""
        return [(setup_of(each) or self.setup, each.rpartition(":")[2]) for each in self.variants]


class Reproduction(_Table):
    """A report or paper and its claims; one key of the file is one field.

    Attributes:
        title, source, about: what is reproduced, where it is published, and in a few words how.
        level: confidence level of all intervals.
        setups, variants: by name; each pair that a claim, drawing or attribution names is an experiment.
        remarks: what else there is to say of the source, a paragraph each.
    """

    title: str
    source: str
    about: str
    level: float = Field(0.95, gt=0.5, lt=1)
    setups: dict[Name, Setup] = Field(min_length=1)
    variants: dict[Name, Variant] = Field(min_length=1)
    claims: tuple[Claim, ...] = Field(min_length=1)
    drawings: tuple[Drawing, ...] = ()
    attributions: tuple[Attribution, ...] = ()
    remarks: tuple[str, ...] = ()

    def only(self, ids: Sequence[str]) -> "Reproduction":
        """What belongs to some of the claims; InputError for an id that is not there."""
        known = [claim.id for claim in self.claims]
        for each in ids:
            if each not in known:
                raise unknown("--only", each, known)
        return self.model_copy(
            update={
                "claims": tuple(claim for claim in self.claims if claim.id in ids),
                "drawings": tuple(each for each in self.drawings if set(each.claims) & set(ids)),
                "attributions": tuple(each for each in self.attributions if set(each.claims) & set(ids)),
            }
        )

    @property
    def experiments(self) -> list[tuple[str, str]]:
        """Every (setup, variant) that something here asks for, each once, in order."""
        pairs = [pair for claim in self.claims for variant in claim.variants for pair in self.of_claim(claim, variant)]
        drawn = [(setup_of(side) or each.setup, each.variants) for each in self.drawings for side in each.sides]
        pairs += [(setup, variant) for setup, variants in drawn for variant in variants]
        pairs += [pair for each in self.attributions for pair in each.experiments]
        return list(dict.fromkeys(pairs))

    def of_claim(self, claim: Claim, variant: str) -> list[tuple[str, str]]:
        """The (setup, variant) that a claim is judged by in a variant, each once."""
        setups = [part.setup for part in claim.parts]
        setups += [other for part in claim.parts for other in map(setup_of, (part.of, part.minus, part.over)) if other]
        return [(setup, variant) for setup in dict.fromkeys(setups)]

    @property
    def scales(self) -> list[Scale]:
        """Those at which every setup is trained."""
        return [scale for scale in SCALES if all(getattr(setup, scale) is not None for setup in self.setups.values())]

    def arm_of(self, side: str, variant: str) -> str:
        """The arm (or `dense`) that a side is in a variant."""
        arm = side.rpartition(":")[2]
        return self.variants[variant].control if arm == "control" else arm

    def settings(self, setup: str, variant: str, scale: Scale) -> list[Settings]:
        """The settings of the runs of an experiment; InputError if they are not allowed."""
        chosen, read = self.setups[setup], self.variants[variant]
        layers: tuple[Layer, ...] = (
            preset_layer(chosen.preset, f"setups.{setup}: preset"),
            (chosen.settings, f"setups.{setup}: settings"),
            (read.settings, f"variants.{variant}: settings"),
            (getattr(chosen, scale), f"setups.{setup}: {scale}"),
        )
        varied: list[Layer] = [
            ({name: value}, f"setups.{setup}: each") for name, values in chosen.each.items() for value in values
        ]
        return [merge(*layers, more) for more in varied or [({}, None)]]


def is_dense(side: str) -> bool:
    """Whether a side is the dense network, which has one round alone."""
    return side.rpartition(":")[2] == "dense"


NEAREST = 1.15
"""A round stands for a percentage of weights left where the ratio of the two is at most this."""

DENSE_THROUGHOUT = ("dense-as-long",)
"""Arms that have all weights in every round: no percentage tells which, so the same round as another arm's is meant."""


def setup_of(side: str | None) -> str | None:
    """The setup that a side names, None where it is the part's own."""
    return side.rpartition(":")[0] or None if side else None
